"""`vocl predict` of many videos, and each kind of output: what they say is the same, and where they lie."""

from __future__ import annotations

import json
import os
import signal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running import untrained

from vocl.commands import predict
from vocl.commands.key_values import items_of
from vocl.commands.verbs import predict as main
from vocl.interface import VOID

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE, LENGTH = (36, 64), 11
ALL = "write=[labels,overlay,sheet,soft,slots,rle,npz]"
FILES = [
    "labels",
    "labels.npz",
    "overlay.mp4",
    "rle.json",
    "sheet.png",
    "slots.npz",
    "soft.npz",
    "video.json",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The folder of a run whose model has its initial weights."""
    return untrained(tmp_path_factory.mktemp("runs") / "0123456789", "model.num_slots=5")


def pictures(shift: int = 0) -> list[np.ndarray]:
    """Frames in which a bright square moves."""
    found = []
    for number in range(LENGTH):
        frame = np.full((*SIZE, 3), 60, np.uint8)
        frame[10:22, 5 + shift + 2 * number : 17 + shift + 2 * number] = (240, 90, 20)
        found.append(frame)
    return found


def film(path: Path, shift: int = 0, times: list[int] | None = None, aspect: Fraction | None = None) -> Path:
    """A video file; `times`: of its frames, in milliseconds."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if times is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number, frame in enumerate(pictures(shift)):
            shown = av.VideoFrame.from_ndarray(frame, format="rgb24")
            if times is not None:
                shown.pts, shown.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(shown))
        container.mux(stream.encode())
    return path


def stored_labels(folder: Path) -> np.ndarray:
    return np.stack([np.array(Image.open(path)) for path in sorted((folder / "labels").iterdir())])


# ------------------------------------------------------------------------------------- outputs


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_every_output_says_the_same(run, tmp_path, capsys, fit):
    from pycocotools import mask as coco

    out = tmp_path / "out"
    path = film(tmp_path / "a.mp4")
    assert main([f"video={path}", f"checkpoint={run}", f"out={out}", ALL, f"fit={fit}"]) == 0
    assert sorted(p.name for p in out.iterdir()) == FILES
    assert sorted(capsys.readouterr().out.split()) == [str(out / name) for name in FILES[:-1]]
    labels = stored_labels(out)
    with np.load(out / "labels.npz") as packed:
        assert packed["labels"].dtype == np.uint8 and np.array_equal(packed["labels"], labels)
    with np.load(out / "soft.npz") as packed:
        masks, grid = packed["masks"], packed["grid"]
    assert masks.dtype == np.uint8 and masks.shape == (LENGTH, 5, grid.prod())
    assert np.abs(masks.astype(int).sum(1) - 255).max() <= 5  # each is rounded
    with np.load(out / "slots.npz") as packed:
        assert packed["slots"].dtype == np.float32 and packed["slots"].shape[:2] == (LENGTH, 5)
    results = json.loads((out / "rle.json").read_text())
    painted = np.full_like(labels, VOID)
    for result in results:
        assert result["video_id"] == 1 and 0 < result["score"] <= 1 and len(result["segmentations"]) == LENGTH
        masks_of = [None if code is None else coco.decode(code) for code in result["segmentations"]]
        slots = {int(labels[t][mask > 0][0]) for t, mask in enumerate(masks_of) if mask is not None}
        assert len(slots) == 1
        for t, mask in enumerate(masks_of):
            if mask is not None:
                assert np.array_equal(mask > 0, labels[t] == next(iter(slots)))
                painted[t][mask > 0] = next(iter(slots))
    assert np.array_equal(painted, labels)
    facts = json.loads((out / "video.json").read_text())
    assert facts["frames"] == list(range(LENGTH)) and facts["fit"] == fit
    assert (facts["height"], facts["width"], facts["run"]) == (*SIZE, "0123456789")


def test_only_what_is_chosen_is_written(run, tmp_path, capsys):
    out = tmp_path / "out"
    path = film(tmp_path / "a.mp4")
    assert main([f"video={path}", f"checkpoint={run}", f"out={out}", "write=rle"]) == 0
    assert sorted(p.name for p in out.iterdir()) == ["rle.json", "video.json"]
    assert capsys.readouterr().out.split() == [str(out / "rle.json")]
    assert main([f"video={path}", f"checkpoint={run}", f"out={tmp_path / 'b'}", "write=[rle,masks]"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "write=[rle,masks]: choose from labels, overlay, sheet, soft, slots, rle, npz" in line


def test_the_times_and_shape_of_pixels_of_the_source_are_kept(run, tmp_path):
    import av

    times = [0, 40, 200, 240, 500, 533, 600, 900, 940, 1000, 1200]
    path = film(tmp_path / "uneven.mp4", times=times, aspect=Fraction(4, 3))
    out = tmp_path / "out"
    assert main([f"video={path}", f"checkpoint={run}", f"out={out}"]) == 0
    with av.open(str(out / "overlay.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.sample_aspect_ratio == Fraction(4, 3)
        shown = sorted(float(p.pts * p.time_base) for p in container.demux(stream) if p.size)
    assert np.allclose(shown, np.array(times) / 1000, atol=1e-3)
    facts = json.loads((out / "video.json").read_text())
    assert np.allclose(facts["times"], np.array(times) / 1000) and facts["pixel_aspect"] == "4/3"


def test_with_a_rate_it_is_said_which_frames_were_taken(run, tmp_path):
    import av

    path = film(tmp_path / "a.mp4")  # 25 frames a second
    out = tmp_path / "out"
    assert main([f"video={path}", f"checkpoint={run}", f"out={out}", "fps=5", "write=[overlay,npz]"]) == 0
    facts = json.loads((out / "video.json").read_text())
    assert facts["frames"] == [0, 5, 10] and facts["fps"] == 5
    assert np.allclose(facts["times"], [0, 0.2, 0.4])
    with av.open(str(out / "overlay.mp4")) as container:
        assert (container.streams.video[0].frames, container.streams.video[0].average_rate) == (3, 5)
    with np.load(out / "labels.npz") as packed:
        assert len(packed["labels"]) == 3


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_frames_with_an_orientation_are_segmented_as_they_are_shown(run, tmp_path, orientation):
    turns = {1: 0, 3: 2, 6: 1, 8: 3}[orientation]  # quarter turns anticlockwise that a camera made
    exif, found = Image.Exif(), []
    exif[274] = orientation
    for name in ("straight", "turned"):
        folder, out = tmp_path / name / "video", tmp_path / "out" / name
        folder.mkdir(parents=True)
        for number, frame in enumerate(pictures()[:3]):
            if name == "straight":
                Image.fromarray(frame).save(folder / f"{number}.png")
            else:
                Image.fromarray(np.rot90(frame, turns)).save(folder / f"{number}.png", exif=exif)
        assert main([f"video={folder}", f"checkpoint={run}", f"out={out}", "write=npz"]) == 0
        with np.load(out / "labels.npz") as packed:
            found.append(packed["labels"])
    assert found[0].shape == (3, *SIZE) and np.array_equal(*found)


# ------------------------------------------------------------------------------------- many videos


@pytest.fixture
def clips(tmp_path) -> Path:
    """A folder with two videos, and one that is none between them."""
    for number, name in enumerate(("a.mp4", "c.mkv")):
        film(tmp_path / "clips" / name, 3 * number)
    (tmp_path / "clips" / "b.mp4").write_bytes(b"nothing of the kind")
    (tmp_path / "clips" / "notes.txt").touch()
    return tmp_path / "clips"


def forms(clips: Path) -> dict[str, str]:
    listed = ",".join(str(clips / name) for name in ("a.mp4", "b.mp4", "c.mkv"))
    return {"folder": str(clips), "pattern": f"{clips}/?.m*", "list": f"[{listed}]"}


@pytest.mark.parametrize("form", ["folder", "pattern", "list"])
def test_one_that_fails_is_named_and_the_others_go_on(run, clips, tmp_path, capsys, monkeypatch, form):
    loads, plain = [], predict.load
    monkeypatch.setattr(predict, "load", lambda *a: (loads.append(a), plain(*a))[1])
    arguments = [f"video={forms(clips)[form]}", f"checkpoint={run}", f"out={tmp_path / 'out'}", "write=npz"]
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert said.out.split() == [str(tmp_path / "out" / name / "labels.npz") for name in ("a", "c")]
    assert len(said.err.splitlines()) == 2 and "b.mp4: does not decode as video" in said.err.splitlines()[0]
    assert said.err.splitlines()[1] == "1 of 3 videos failed"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a", "c"]
    assert len(loads) == 1, "the checkpoint is read once"


def test_many_videos_give_what_each_gives_alone(run, clips, tmp_path):
    (clips / "b.mp4").unlink()
    assert main([f"video={clips}", f"checkpoint={run}", f"out={tmp_path / 'out'}"]) == 0
    for name in ("a.mp4", "c.mkv"):
        alone = tmp_path / "alone" / name
        assert main([f"video={clips / name}", f"checkpoint={run}", f"out={alone}"]) == 0
        assert np.array_equal(stored_labels(alone), stored_labels(tmp_path / "out" / name[0]))
    ids = []
    assert main([f"video={clips}", f"checkpoint={run}", f"out={tmp_path / 'r'}", "write=rle"]) == 0
    for name in ("a", "c"):
        ids += {result["video_id"] for result in json.loads((tmp_path / "r" / name / "rle.json").read_text())}
    assert ids == [1, 2]


def test_without_out_each_has_a_folder_beside_the_others(run, clips, tmp_path, monkeypatch):
    (clips / "b.mp4").unlink()
    monkeypatch.chdir(tmp_path)
    assert main([f"video={clips}", f"checkpoint={run}", "write=npz"]) == 0
    assert sorted(p.name for p in Path("predictions").iterdir()) == ["a-0123456789", "c-0123456789"]


def test_a_stop_keeps_what_is_complete(run, clips, tmp_path, capsys, monkeypatch):
    (clips / "b.mp4").unlink()
    plain = predict.write_facts

    def stopped(*arguments):
        plain(*arguments)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(predict, "write_facts", stopped)
    arguments = [f"video={clips}", f"checkpoint={run}", f"out={tmp_path / 'out'}", "write=npz"]
    assert main(arguments) == 75
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a"]
    assert "1 of 2 videos were written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("video", "said"),
    [
        ("{clips}/*.webm", "no file or folder has such a name"),
        ("[]", "names no video"),
        ("{clips}/none.mp4", "none.mp4: no such file or folder"),
        ("[{clips}/a.mp4,{clips}/other/a.gif]", "have one name; give each a command of its own"),
    ],
)
def test_mistakes_are_one_line(run, clips, tmp_path, capsys, video, said):
    arguments = [f"video={video.format(clips=clips)}", f"checkpoint={run}", f"out={tmp_path / 'out'}"]
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line and not (tmp_path / "out").exists()


def test_a_folder_of_frames_and_films_is_not_guessed_at(run, clips, tmp_path, capsys):
    Image.fromarray(pictures()[0]).save(clips / "poster.png")
    assert main([f"video={clips}", f"checkpoint={run}", f"out={tmp_path / 'out'}"]) == 2
    assert "holds frames and video files; for these give" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("a.mp4", ["a.mp4"]),
        ("[a.mp4,b.mp4]", ["a.mp4", "b.mp4"]),
        ("""["a, b.mp4", 'c"d', e f]""", ["a, b.mp4", 'c"d', "e f"]),
        ("[]", []),
        ("[a]b", ["[a]b"]),
    ],
)
def test_items_of_a_list(text, items):
    assert items_of(text) == items
