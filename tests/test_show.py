"""`vocl show`: one picture of a held-out video of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from vocl import assemble
from vocl.commands.verbs import show as main
from vocl.config.compose import composed
from vocl.rundir.checkpoint import Checkpoints


def make_run(folder: Path, *overrides: str) -> Path:
    config = composed(overrides)
    torch.manual_seed(0)
    weights = assemble.make_model(config, pretrained=False).state_dict()
    Checkpoints(folder / "checkpoints").save(1, {"model": weights, "frozen": None})
    (folder / "config.yaml").write_text(yaml.safe_dump(config.content))
    return folder


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Threads that wait for each other make small frames slow on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run(tmp_path) -> Path:
    return make_run(tmp_path / "runs" / "0123456789")


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
    whole = make_run(tmp_path / "whole", "experiment=interpreter/synthetic", "dataset.source.num_frames=20")
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
    run = make_run(
        tmp_path / "run", "dataset=files", "dataset.name=mine", "dataset.size_px=[48,48]", "dataset.fit=crop"
    )
    heights = []
    for video in ("a", "b"):
        out = tmp_path / f"{video}.png"
        root = f"runtime.data_root={tmp_path / 'data'}"
        assert main([str(run), root, f"video={video}", f"out={out}"]) == 0
        heights.append(Image.open(out).size[1])
    assert heights[0] > heights[1] * 1.3


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
