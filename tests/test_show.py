"""`vocl show`: one picture of a held-out video of a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running import untrained

from vocl import assemble
from vocl.commands import show as showing
from vocl.commands.pictures.sheet import enlarged
from vocl.commands.verbs import show as main
from vocl.config.compose import composed
from vocl.data.reader import open_video

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def run(tmp_path) -> Path:
    return untrained(tmp_path / "runs" / "0123456789")


def complaint(capsys) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_picture_lies_in_the_run(run, capsys):
    assert main([str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "overlay.png")
    with Image.open(run / "overlay.png") as image:
        width, height = image.size
    assert width > 8 * 48 * 3 and height > 3 * 48 * 3  # 8 frames; rows frame, slots, truth; enlarged


def test_small_frames_are_enlarged_pixel_by_pixel(run):
    """No pixel of the frames is blurred: colours of the sheet's first row are those of the video."""
    assert main([str(run)]) == 0
    sheet = np.array(Image.open(run / "overlay.png").convert("RGB"))
    config = composed([])
    frame = assemble.make_source(config, "validation")[0].frames([0])[0]
    big = frame.repeat(3, axis=0).repeat(3, axis=1)
    rows, columns = np.nonzero((sheet[: -len(big), : -len(big)] == big[0, 0]).all(-1))
    places = zip(rows[:2000], columns[:2000], strict=True)
    assert any(np.array_equal(sheet[y : y + len(big), x : x + len(big)], big) for y, x in places)


def test_a_model_of_whole_videos_gets_them_whole(tmp_path):
    """20 frames, where other models are shown eight at a time."""
    whole = untrained(tmp_path / "whole", "experiment=interpreter/synthetic", "dataset.source.num_frames=20")
    assert main([str(whole)]) == 0
    assert (whole / "overlay.png").is_file()


def test_by_id_another_video_and_place(run, tmp_path):
    for name in ("00001", "00002"):
        out = tmp_path / f"{name}.png"
        assert main(["0123", f"runtime.root={tmp_path}", f"video=validation/{name}", f"out={out}"]) == 0
    assert (tmp_path / "00001.png").read_bytes() != (tmp_path / "00002.png").read_bytes()
    assert not (run / "overlay.png").exists()


def test_data_of_ones_own_in_its_place(tmp_path):
    """A dataset of folders, given its place; the second video has no masks, and so no row of truth."""
    data = tmp_path / "data" / "mine" / "validation"
    for video, masked in (("a", True), ("b", False)):
        for kind in ("frames", "masks") if masked else ("frames",):
            (data / video / kind).mkdir(parents=True)
        for number in range(3):
            frame = np.full((40, 60, 3), 50, np.uint8)
            frame[10:30, 10 + number : 30 + number] = 200
            Image.fromarray(frame).save(data / video / "frames" / f"{number}.png")
            if masked:
                mask = (frame[..., 0] > 100).astype(np.uint8)
                Image.fromarray(mask).save(data / video / "masks" / f"{number}.png")
    run = untrained(
        tmp_path / "run", "dataset=files", "dataset.name=mine", "dataset.size_px=[48,48]", "dataset.fit=crop"
    )
    heights = []
    for video in ("a", "b"):
        out = tmp_path / f"{video}.png"
        root = f"runtime.data_root={tmp_path / 'data'}"
        assert main([str(run), root, f"video={video}", f"out={out}"]) == 0
        heights.append(Image.open(out).size[1])
    assert heights[0] > heights[1] * 1.3


def keep_rows(run: Path, **scores: float) -> None:
    """An evaluation of the run, with a score of three videos."""
    rows = [{"video": f"validation/0000{i}", **{n: v * i for n, v in scores.items()}} for i in (1, 2, 3)]
    entry = {"eval_id": "e" * 10, "protocol": "vocl", "num_videos": 3, "metrics": scores, "rows": "x"}
    entry["measures"] = {"error": {"higher_is_better": False, "scale": 1, "digits": 2}}
    result = {"run_id": run.name, "metrics": scores, "evals": {"discovery": entry}}
    (run / "eval" / entry["eval_id"]).mkdir(parents=True)
    (run / "result.json").write_text(json.dumps(result))
    report = {**entry, "eval": composed([]).content["eval"]["discovery"], "checkpoint": "c"}
    (run / "eval" / entry["eval_id"] / "report.json").write_text(json.dumps(report))
    (run / "eval" / entry["eval_id"] / "rows.json").write_text(json.dumps(rows))


def test_best_and_worst_videos_with_facts_of_their_slots(run, tmp_path):
    """Of a score of which less is better; a video that is among the best and the worst is drawn once."""
    keep_rows(run, video_mbo=0.1, error=0.1)
    words = [str(run), "--best", "1", "--worst", "3", "--by", "discovery/error", f"out={tmp_path / 'found'}/"]
    assert main(words) == 0
    facts = json.loads((tmp_path / "found" / "videos.json").read_text())
    assert [each["video"][-1] for each in facts] == ["1", "3", "2"]
    assert [each["score"] for each in facts] == pytest.approx([0.1, 0.3, 0.2])
    assert all((tmp_path / "found" / each["picture"]).is_file() for each in facts)
    (slots,) = facts[0]["facts"].values()
    length = len(slots["used_per_frame"])
    assert 1 <= slots["used"] <= slots["num_slots"] and max(slots["used_per_frame"]) <= slots["used"]
    between = np.array(slots["between_frames"])
    assert between.shape == (length, length) and np.allclose(np.diag(between), 1, atol=1e-3)
    assert np.array(slots["next_frame"]).shape == (slots["used"], slots["used"])


def test_several_runs_stand_in_one_figure_of_each_kind(run, tmp_path):
    other = untrained(tmp_path / "runs" / "1123456789", "seed=1")
    sizes = {}
    for suffix in ("png", "pdf", "svg", "mp4"):
        out = tmp_path / f"both.{suffix}"
        assert main([str(run), str(other), f"out={out}"]) == 0
        sizes[suffix] = out.read_bytes()[:8]
    assert main([str(run), f"out={tmp_path / 'one.png'}"]) == 0
    assert (
        sizes["pdf"].startswith(b"%PDF") and sizes["svg"].startswith(b"<svg") and sizes["mp4"][4:] == b"ftyp"
    )
    one, both = (Image.open(tmp_path / f"{name}.png").size[1] for name in ("one", "both"))
    assert both - one >= 48 * 3
    film = open_video(tmp_path / "both.mp4", None, None)
    assert film.length == assemble.make_source(composed([]), "validation")[0].length
    assert film.size[1] >= 4 * 48 * 3  # frame, two runs, truth


def test_a_slot_has_the_colour_of_its_object(run, tmp_path, monkeypatch):
    """The model is made to see the truth, with its objects' numbers turned around."""
    source = assemble.make_source(composed([]), "validation")
    true = source.truth(source[0].name).labels("paint")[0]
    turned = (true.max() - true).astype(np.uint8)
    monkeypatch.setattr(showing, "_labels", lambda *_: (turned, {}))
    assert main([str(run), f"out={tmp_path / 'a.png'}"]) == 0
    sheet = np.array(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    tile = 48 * 3
    slots, truth = (
        sheet[-(n * (tile + 4)) : -((n - 1) * (tile + 4)) or None][:tile, -tile - 4 : -4] for n in (2, 1)
    )
    inside = enlarged(true[-1:])[0] > 0
    assert inside.any() and np.array_equal(slots[inside], truth[inside])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--worst", "2"], "--by: missing"),
        (["--by", "video_mbo"], "give --best N or --worst N"),
        (["--worst", "2", "--by", "video_mbo", "video=x"], "video=x: --best and --worst choose"),
        (["--worst", "2", "--by", "mbo"], "choose from error, video_mbo"),
        (["--worst", "2", "--by", "video_mbo", "out=a.mp4"], "a film shows one video"),
        (["{run}x", "out=a.png"], "neither a run folder"),
        (["{run}/../twin"], "out: missing"),
    ],
)
def test_mistakes_with_several_videos_and_runs_are_one_line(run, capsys, arguments, message):
    keep_rows(run, video_mbo=0.1, error=0.1)
    assert main([str(run), *(a.format(run=run) for a in arguments)]) == 2
    assert message in complaint(capsys)


def test_a_run_without_scores_has_no_worst_video(run, capsys):
    assert main([str(run), "--worst", "1", "--by", "video_mbo"]) == 2
    assert "has no scores yet" in complaint(capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "usage: vocl show RUN"),
        (["nowhere"], "neither a run folder nor a run id"),
        (["{run}", "video=x"], "video=x: no such video, choose from validation/00000"),
        (["{run}", "out=a.txt"], "ends with .png"),
        (["{run}", "out={run}/config.yaml/a.png"], "cannot write there"),
        (["{run}", "colour=red"], "colour: unknown key, choose from out, video"),
    ],
)
def test_mistakes_are_one_line(run, capsys, arguments, message):
    assert main([a.format(run=run) for a in arguments]) == 2
    assert message in complaint(capsys)


def test_values_may_be_quoted_as_in_other_words() -> None:
    from vocl.commands.key_values import SHOW, key_values

    found = key_values(['runtime.root="../a (1)"', "out='b c.png'", "video=plain"], SHOW)
    assert (found["runtime.root"], found["out"], found["video"]) == ("../a (1)", "b c.png", "plain")
