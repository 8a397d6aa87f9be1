"""`vocl predict`: labels at the size of the source, pictures, and nothing half-written."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange
from PIL import Image
from running import untrained

from vocl import assemble
from vocl.commands import prediction_files, segmented
from vocl.commands.key_values import PREDICT, key_values
from vocl.commands.segmented import segment
from vocl.commands.verbs import predict as main
from vocl.config.compose import composed
from vocl.errors import UserError
from vocl.interface import VOID, Grid, SegmentOptions, Segments, VideoModel

pytestmark = pytest.mark.usefixtures("one_thread")

SHARED = Path(os.environ.get("VOCL_SHARED", Path(__file__).parents[1] / "../shared")) / "data"
SIZE = (36, 64)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The folder of a run whose model has its initial weights."""
    return untrained(tmp_path_factory.mktemp("runs") / "0123456789", "model.num_slots=5")


@pytest.fixture
def frames(tmp_path) -> Path:
    """A folder of 19 frames in which a bright square moves."""
    folder = tmp_path / "square"
    folder.mkdir()
    for number in range(19):
        frame = np.full((*SIZE, 3), 60, np.uint8)
        frame[10:22, 5 + 2 * number : 17 + 2 * number] = (240, 90, 20)
        Image.fromarray(frame).save(folder / f"{number:03d}.png")
    return folder


def complaint(capsys) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    return line


# ------------------------------------------------------------------------------------- the command


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_what_is_written(run, frames, tmp_path, capsys, fit):
    import av

    out = tmp_path / "out"
    assert main([f"video={frames}", f"checkpoint={run}", f"out={out}", f"fit={fit}"]) == 0
    assert capsys.readouterr().out.split() == [str(out / n) for n in ("labels", "overlay.mp4", "sheet.png")]
    assert sorted(p.name for p in out.iterdir()) == ["labels", "overlay.mp4", "sheet.png", "video.json"]
    labels = sorted((out / "labels").iterdir())
    assert [p.name for p in labels] == [f"{n:05d}.png" for n in range(19)]
    for path in labels:
        with Image.open(path) as image:
            assert image.mode == "P" and image.size == SIZE[::-1]
            values = set(np.unique(np.array(image)).tolist())
        assert values <= {0, 1, 2, 3, 4} | ({VOID} if fit == "crop" else set())
        assert (VOID in values) == (fit == "crop")
    with av.open(str(out / "overlay.mp4")) as video:
        stream = video.streams.video[0]
        assert (stream.frames, stream.height, stream.width) == (19, *SIZE)
    assert min(Image.open(out / "sheet.png").size) > 100


def test_the_folder_is_named_after_video_and_run(run, frames, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [f"video={frames}", "checkpoint=01234", f"runtime.root={run.parent.parent}", "max_frames=2"]
    (run.parent.parent / "runs").mkdir(exist_ok=True)
    link = run.parent.parent / "runs" / run.name
    if not link.exists():
        link.symlink_to(run)
    assert main(arguments) == 0
    assert len(list((tmp_path / "predictions" / "square-0123456789" / "labels").iterdir())) == 2


def test_the_same_video_gives_the_same_labels(run, frames, tmp_path, monkeypatch):
    """Also when it is cut into other windows: the state is carried on."""
    found = []
    for number, window in enumerate((8, 3, 100)):
        monkeypatch.setattr(segmented, "WINDOW", window)
        out = tmp_path / f"out{number}"
        assert main([f"video={frames}", f"checkpoint={run}", f"out={out}"]) == 0
        found.append(np.stack([np.array(Image.open(p)) for p in sorted((out / "labels").iterdir())]))
    for other in found[1:]:
        assert (found[0] == other).mean() > 0.999  # sums of floats may tie otherwise


def test_gif_with_a_lower_rate(run, frames, tmp_path):
    import av

    images = [Image.open(p) for p in sorted(frames.iterdir())]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=50)
    out = tmp_path / "out"
    assert main([f"video={tmp_path / 'a.gif'}", f"checkpoint={run}", f"out={out}", "fps=10"]) == 0
    with av.open(str(out / "overlay.mp4")) as video:
        assert video.streams.video[0].frames == 10 == len(list((out / "labels").iterdir()))
        assert float(video.streams.video[0].average_rate) == 10


@pytest.mark.parametrize("name", ["movi_c_2.gif", "dog_720p.mp4"])
def test_real_videos(run, tmp_path, name):
    path = SHARED / "videos" / name
    if not path.is_file():
        pytest.skip(f"no real videos: {path} is absent (set VOCL_SHARED)")
    assert main([f"video={path}", f"checkpoint={run}", f"out={tmp_path / 'out'}", "max_frames=3"]) == 0
    assert len(list((tmp_path / "out" / "labels").iterdir())) == 3


def broken(frames: Path) -> None:
    last = sorted(frames.iterdir())[17]
    last.write_bytes(last.read_bytes()[:60])


def other_size(frames: Path) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(frames / "017.png")


def emptied(frames: Path) -> None:
    for path in frames.iterdir():
        path.unlink()


def removed(frames: Path) -> None:
    emptied(frames)
    frames.rmdir()


@pytest.mark.parametrize("damage", [broken, other_size, emptied, removed])
def test_videos_that_will_not_do_leave_nothing(run, frames, tmp_path, capsys, damage):
    damage(frames)
    place = tmp_path / "predictions"
    assert main([f"video={frames}", f"checkpoint={run}", f"out={place / 'a'}"]) == 2
    assert str(frames) in complaint(capsys)
    assert not place.exists() or not list(place.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fit": "zoom"}, "fit=zoom: choose from crop, stretch, pad"),
        ({"fps": "fast"}, "fps=fast: expected a number above 0"),
        ({"fps": "10"}, "has no frame rate"),
        ({"max_frames": "-1"}, "max_frames=-1: expected a whole number above 0"),
        ({"checkpoint": "nowhere"}, "neither a run folder nor a run id"),
        ({"checkpoint": ""}, "checkpoint: missing"),
        ({"runtime.device": "tpu"}, "choose from auto, cpu, cuda"),
        ({"frames": "3"}, "frames: unknown key, choose from video, checkpoint, out"),
    ],
)
def test_mistakes_are_one_line(run, frames, tmp_path, capsys, changes, message):
    values = {"video": frames, "checkpoint": run, "out": tmp_path / "out", "runtime.root": tmp_path} | changes
    assert main([f"{key}={value}" for key, value in values.items()]) == 2
    assert message in complaint(capsys)
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use_is_left_alone(run, frames, capsys):
    assert main([f"video={frames}", f"checkpoint={run}", f"out={frames}"]) == 2
    assert "not empty" in complaint(capsys)
    assert len(list(frames.iterdir())) == 19


def test_stopped_by_a_signal(run, frames, tmp_path, monkeypatch):
    import signal

    plain = prediction_files.write_label_map
    monkeypatch.setattr(
        prediction_files, "write_label_map", lambda *a: (os.kill(os.getpid(), signal.SIGTERM), plain(*a))
    )
    assert main([f"video={frames}", f"checkpoint={run}", f"out={tmp_path / 'place' / 'out'}"]) == 75
    assert not list((tmp_path / "place").iterdir())


# ------------------------------------------------------------------------------------- geometry


class Seer(VideoModel):
    """Knows the colours: slot 0 what is red, slot 1 what is blue, slot 2 what is neither."""

    def __init__(self) -> None:
        super().__init__()
        self.windows: list[int] = []

    def segment(self, clip, options: SegmentOptions, carry=None) -> Segments:
        self.windows.append(clip.video.shape[1])
        rows, columns = (side // 4 for side in clip.video.shape[-2:])
        patches = rearrange(clip.video, "b t c (r y) (s x) -> b t c (r s) (y x)", r=rows, s=columns).mean(-1)
        red, blue = patches[:, :, 0], patches[:, :, 2]
        grey = 0.5 - (red - blue).abs()
        return Segments(torch.softmax(9 * torch.stack([red, blue, grey], 2), 2), Grid(rows, columns), carry=0)


def halves(size: tuple[int, int]) -> np.ndarray:
    """A frame red at the left of column 3/8 and blue at the right of it."""
    frame = np.zeros((1, *size, 3), np.uint8)
    frame[:, :, : size[1] * 3 // 8, 0] = 255
    frame[:, :, size[1] * 3 // 8 :, 2] = 255
    return frame


def labels(size: tuple[int, int], fit: str, px: int = 64) -> np.ndarray:
    config = composed([f"dataset.size_px=[{px},{px}]"])
    (window,) = segment(
        Seer(), [(0, halves(size))], assemble.make_dataset(config), fit, torch.device("cpu"), "a"
    )
    assert window.labels.shape == (1, *size) and window.labels.dtype == np.uint8
    return window.labels[0]


@pytest.mark.parametrize("size", [(90, 160), (160, 90), (128, 128), (31, 77), (720, 1280)])
@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_labels_lie_where_the_objects_are(size, fit):
    found = labels(size, fit)
    true = np.where(halves(size)[0, ..., 0] > 0, 0, 1)
    seen = found != VOID
    if fit == "crop":
        side = min(size)
        top, left = round((size[0] - side) / 2), round((size[1] - side) / 2)
        window = np.zeros(size, bool)
        window[top : top + side, left : left + side] = True
        assert np.array_equal(seen, window)
    else:
        assert seen.all()
    edge = size[1] * 3 // 8
    near = np.abs(np.arange(size[1]) - edge) <= 1 + max(size) / 64 * 2  # half a patch of 4 input pixels
    assert (found == true)[seen & ~near[None]].all()


def test_a_model_of_whole_videos_gets_them_whole():
    class Whole(VideoModel):
        whole_video = True

    assert segmented.window(Whole(), 1000) == 1000
    assert segmented.window(VideoModel(), 1000) == segmented.WINDOW


def test_windows_are_read_one_at_a_time():
    """Memory is that of one window, however long the video is."""
    config = composed([])
    taken = 0

    def windows():
        nonlocal taken
        for number in range(10**9):
            taken += 1
            yield number * 2, np.repeat(halves((48, 48)), 2, axis=0)

    dataset = assemble.make_dataset(config)
    stream = segment(Seer(), windows(), dataset, "stretch", torch.device("cpu"), "a")
    for number in range(3):
        assert next(stream).start == number * 2
        assert taken == number + 1


def test_unknown_key_is_refused_before_anything_is_opened():
    with pytest.raises(UserError, match="unknown key"):
        key_values(["nonsense"], PREDICT)
