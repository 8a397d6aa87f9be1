"""Videos, GIFs and folders of frames come out in order, at the rate asked for, or as one clear line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vocl.data.reader import open_video
from vocl.errors import UserError

SHARED = Path(os.environ.get("VOCL_SHARED", Path(__file__).parents[2] / "../shared")) / "data"
real = pytest.mark.skipif(not (SHARED / "videos").is_dir(), reason="no reference videos in VOCL_SHARED")


def picture(number: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A frame whose grey level says its number (8 levels apart), with a red corner at the top left."""
    frame = np.full((*size, 3), 8 * number, np.uint8)
    frame[: size[0] // 2, : size[1] // 2] = (200, 0, 0)
    return frame


def number_of(frame: np.ndarray) -> int:
    return round(float(frame[-6:-2, -6:-2].mean()) / 8)


def write_video(path: Path, length: int = 24, rate: int = 24, codec: str = "libx264") -> Path:
    import av

    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream(codec, rate=rate, options={"g": "250"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(length):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        container.mux(stream.encode())
    return path


def write_frames(folder: Path, numbers: list[int], pattern: str = "frame{}.png") -> Path:
    folder.mkdir()
    for number in numbers:
        Image.fromarray(picture(number)).save(folder / pattern.format(number))
    return folder


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".mp4", "libx264"), (".mov", "mpeg4"), (".avi", "mpeg4"), (".mkv", "libx264")]
)
def test_container_yields_every_frame_in_order(tmp_path, decoder, suffix, codec):
    reader = open_video(write_video(tmp_path / f"clip{suffix}", codec=codec), None, None)
    assert (reader.name, reader.size, reader.length) == ("clip", (48, 64), 24)
    assert reader.fps == pytest.approx(24, rel=1e-3)
    frames = list(reader)
    assert [number_of(f) for f in frames] == list(range(24))
    assert all(f.dtype == np.uint8 and f.shape == (48, 64, 3) for f in frames)
    assert frames[0][5, 5, 0] > 150 > frames[0][5, 5, 2] + 100  # red, not blue
    assert [number_of(f) for f in reader] == list(range(24)), "a reader can be read again"


def test_webm_with_a_codec_that_decord_does_not_know(tmp_path):
    import av

    try:
        av.Codec("libsvtav1", "w")
    except av.codec.codec.UnknownCodecError:
        pytest.skip("no AV1 encoder here")
    path = write_video(tmp_path / "clip.webm", 6, codec="libsvtav1")
    assert [number_of(f) for f in open_video(path, None, None)] == list(range(6))


def test_rotated_video_is_turned_upright(tmp_path, decoder):
    path = write_video(tmp_path / "phone.mp4", 3)
    content = bytearray(path.read_bytes())
    matrix = content.find(b"tkhd") + 44
    quarter_turn = (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    content[matrix : matrix + 36] = b"".join(v.to_bytes(4, "big", signed=True) for v in quarter_turn)
    path.write_bytes(content)
    reader = open_video(path, None, None)
    frame = next(iter(reader))
    assert reader.size == (64, 48) == frame.shape[:2]
    assert frame[5, -5, 0] > 150, "the red corner moved from top left to top right"
    assert frame[5, 5, 0] < 50


def test_rate_takes_nearest_frames_and_max_frames_counts_after_it(tmp_path, decoder):
    path = write_video(tmp_path / "clip.mp4")
    reader = open_video(path, 10, None)
    assert (reader.length, reader.fps) == (10, 10)
    assert [number_of(f) for f in reader] == [0, 2, 5, 7, 10, 12, 14, 17, 19, 22]
    assert [number_of(f) for f in open_video(path, 10, 3)] == [0, 2, 5]
    assert open_video(path, 24.1, None).length == 24, "within one per cent it is the video's own rate"
    assert open_video(path, None, 1000).length == 24


def test_windows_cover_the_video_once(tmp_path):
    reader = open_video(write_video(tmp_path / "clip.mp4", 10), None, None)
    windows = list(reader.windows(4))
    assert [(start, frames.shape) for start, frames in windows] == [
        (0, (4, 48, 64, 3)),
        (4, (4, 48, 64, 3)),
        (8, (2, 48, 64, 3)),
    ]
    assert [number_of(f) for _, frames in windows for f in frames] == list(range(10))


def test_folder_is_sorted_naturally_and_has_no_rate(tmp_path):
    folder = write_frames(tmp_path / "my clip", [10, 9, 2, 1])
    (folder / "._frame1.png").write_bytes(b"resource fork")
    (folder / "notes.txt").write_text("no frame")
    reader = open_video(folder, None, None)
    assert (reader.name, reader.length, reader.fps) == ("my clip", 4, None)
    assert [number_of(f) for f in reader] == [1, 2, 9, 10]
    with pytest.raises(UserError, match="has no frame rate"):
        open_video(folder, 5, None)


def test_gif_with_uneven_times(tmp_path):
    frames = [Image.fromarray(picture(n)) for n in range(4)]
    path = tmp_path / "clip.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[100, 100, 100, 300])
    reader = open_video(path, None, None)
    assert reader.length == 4 and reader.fps == pytest.approx(4 / 0.6)
    assert [number_of(f) for f in reader] == [0, 1, 2, 3]
    assert [number_of(f) for f in open_video(path, 5, None)] == [0, 2, 3]


@real
@pytest.mark.parametrize("name", ["coffee_720p", "dog_720p"])
def test_frames_of_a_real_video_are_those_that_decord_and_av_read(name, monkeypatch):
    decord = pytest.importorskip("decord")
    path = SHARED / "videos" / f"{name}.mp4"
    monkeypatch.setattr("vocl.data.reader._READ_AHEAD_BYTES", 2**40)
    for fps in (None, 7.5):
        reader = open_video(path, fps, 20)
        by_decord = list(reader)
        with monkeypatch.context() as without:
            without.setitem(sys.modules, "decord", None)
            by_av = list(reader)
        straight = decord.VideoReader(str(path)).get_batch(reader.indices.tolist()).asnumpy()
        assert len(by_decord) == len(by_av) == len(straight) == reader.length == 20
        for one, other, third in zip(by_decord, by_av, straight, strict=True):
            assert np.abs(one.astype(int) - other).max() <= 3
            assert np.abs(one.astype(int) - third).max() <= 3


@real
def test_real_gif():
    reader = open_video(SHARED / "videos" / "movi_c_2.gif", None, None)
    assert (reader.size, reader.length) == ((256, 256), 24)
    assert np.stack(list(reader)).std() > 10


PEAK = """
import resource, sys, time
from pathlib import Path
from vocl.data.reader import open_video
for _, frames in open_video(Path(sys.argv[1]), None, int(sys.argv[2]) or None).windows(16):
    time.sleep(0.05)  # as a model would: a decoder that runs ahead meanwhile must not fill the memory
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@real
@pytest.mark.slow
def test_memory_does_not_grow_with_the_length_of_a_video():
    path = SHARED / "videos" / "dog_720p.mp4"

    def peak_mib(most: int) -> int:
        command = [sys.executable, "-c", PEAK, str(path), str(most)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert peak_mib(0) - peak_mib(32) < 40, "257 more frames of 2.6 MiB would add 677 MiB"


def test_no_file_descriptor_2(tmp_path):
    """A detached process may have been started without stderr."""
    pytest.importorskip("decord")
    path = write_video(tmp_path / "clip.mp4", 3)
    script = (
        "import os, sys; os.close(2); sys.stderr = None\n"
        "from pathlib import Path; from vocl.data.reader import open_video\n"
        f"print(len(list(open_video(Path({str(path)!r}), None, None))))"
    )
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "3")


def test_name_with_a_colon_is_a_file_not_a_protocol(tmp_path, monkeypatch, decoder):
    shutil.move(write_video(tmp_path / "clip.mp4", 3), tmp_path / "cam:1.mp4")
    monkeypatch.chdir(tmp_path)
    assert open_video(Path("cam:1.mp4"), None, None).length == 3
