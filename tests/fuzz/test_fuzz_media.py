"""Damaged pictures and videos: all of their frames, or one line that names the file."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clean_process import in_clean_process
from mutations import HANG_S, in_bytes, numbers
from PIL import Image

from vocl.data.random_access import OpenFilms
from vocl.data.reader import open_video
from vocl.data.sources.videos import VideoFile
from vocl.errors import UserError

COUNTS = {kind: 100 for kind in ("png", "jpg", "gif", "mp4", "mov", "mkv", "avi", "webm")}
CODECS = {"mov": "mpeg4", "avi": "mpeg4", "webm": "libvpx-vp9"}
# Headers of a film say how many frames there are and which are shown: damage there may say another
# number, which nothing else in the file contradicts. These files are nearly all header.
BELIEVED = ("mp4", "mov", "avi", "mkv", "webm")
BELIEVED_SHARE = 0.03
LENGTH = 6


def _picture(number: int) -> np.ndarray:
    """Smooth, with an edge that moves: something to compress."""
    rows, columns = np.mgrid[0:32, 0:96]
    red = np.where(columns < 16 * number, 200, 40)
    return np.stack([red, rows * 4 % 256, (rows + columns) * 2 % 256], axis=-1).astype(np.uint8)


def _make(kind: str, folder: Path) -> None:
    """Write a video of `kind`."""
    pictures = [_picture(number) for number in range(LENGTH)]
    if kind in ("png", "jpg"):
        folder = folder / "frames"
        folder.mkdir()
        for number, picture in enumerate(pictures):
            Image.fromarray(picture).save(folder / f"{number}.{kind}")
        return
    path = folder / f"video.{kind}"
    if kind == "gif":
        first, *others = [Image.fromarray(picture) for picture in pictures]
        first.save(path, save_all=True, append_images=others, duration=100)
        return
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(CODECS.get(kind, "libx264"), rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 32, "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def _places(kind: str, folder: Path) -> tuple[Path, Path]:
    """What is opened of the video of `kind`, and the file in it that is to be damaged."""
    if kind in ("png", "jpg"):
        return folder / "frames", folder / "frames" / f"2.{kind}"
    return folder / f"video.{kind}", folder / f"video.{kind}"


def _outcome(path: Path) -> dict[str, Any]:
    """What reading all of a video comes to, in order and from its end."""
    try:
        video = open_video(path, None, None)
        frames = list(video)
        if not path.is_dir():
            backwards = VideoFile("video", path, OpenFilms(1)).frames(range(video.length)[::-1])
            assert backwards.shape[0] == video.length
    except UserError as error:
        return {"error": str(error)}
    except BaseException as error:
        return {"raised": f"{type(error).__name__}: {error}"}
    return {
        "length": [video.length, len(frames)],
        "shapes": sorted({frame.shape for frame in frames}),
        "size": video.size,
    }


def _in_child(work: Any, place: Path) -> int:
    """Run `work` in a child process, which a decoder may take down, with its stderr in a file."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 99
    try:
        with open(place / "stderr", "wb") as sink:
            os.dup2(sink.fileno(), 2)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        work()
        code = 0
    finally:
        os._exit(code)


@pytest.mark.parametrize("kind", COUNTS)
def test_damaged_media_are_whole_or_one_line(kind: str, tmp_path: Path) -> None:
    in_clean_process(_make, kind, tmp_path)
    path, target = _places(kind, tmp_path)
    whole, log = target.read_bytes(), tmp_path / "log"
    expected = _outcome(path)
    assert expected.get("length") == [LENGTH, LENGTH], expected

    def work() -> None:
        with log.open("w", buffering=1) as lines:
            for seed in numbers(COUNTS[kind]):
                target.write_bytes(in_bytes(whole, seed))
                print(json.dumps({"seed": seed}), file=lines)
                signal.alarm(HANG_S)  # ends the process, also in the midst of a decoder
                print(json.dumps({"seed": seed} | _outcome(path)), file=lines)
                signal.alarm(0)

    code = _in_child(work, tmp_path)
    said = [json.loads(line) for line in log.read_text().splitlines()]
    assert code == 0, f"{kind}: seed {said[-1]['seed']}: ended with {code}"
    for found in said:
        told = f"{kind}: {found}"
        assert "raised" not in found, told
        if "error" in found:
            assert found["error"].startswith(str(path)) and "\n" not in found["error"], told
        elif "length" in found:
            assert found["length"][0] == found["length"][1] > 0, told
            assert found["length"][0] == LENGTH or kind in BELIEVED, told
            assert found["shapes"] == [[*found["size"], 3]], told
    outcomes = [found for found in said if len(found) > 1]
    assert len(outcomes) == len(numbers(COUNTS[kind])) and any("error" in found for found in outcomes)
    others = [found for found in outcomes if "length" in found and found["length"][0] != LENGTH]
    assert len(others) <= BELIEVED_SHARE * len(outcomes), others
    assert (tmp_path / "stderr").read_bytes() == b""
    shutil.rmtree(tmp_path)
