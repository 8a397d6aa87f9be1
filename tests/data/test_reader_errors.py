"""What cannot be read is one line that names the file, and nothing else reaches the terminal."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vocl.data.reader import open_video
from vocl.errors import UserError


def picture(number: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 255, (*size, 3), np.uint8)


def write_video(path: Path, length: int = 24) -> Path:
    """Noise, so that the file is large, with its index in front of the frames."""
    import av

    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(length):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        container.mux(stream.encode())
    return path


def write_frames(folder: Path, numbers: list[int]) -> Path:
    folder.mkdir()
    for number in numbers:
        Image.fromarray(picture(number)).save(folder / f"frame{number}.png")
    return folder


def cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def missing(tmp: Path) -> Path:
    return tmp / "nowhere.mp4"


def empty(tmp: Path) -> Path:
    (tmp / "empty.mp4").touch()
    return tmp / "empty.mp4"


def garbage(tmp: Path) -> Path:
    (tmp / "garbage.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    return tmp / "garbage.mp4"


def cut_video(tmp: Path) -> Path:
    return cut(write_video(tmp / "clip.mp4"), 0.7)


def spoilt_video(tmp: Path) -> Path:
    path = write_video(tmp / "clip.mp4")
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = b"\xff" * (len(content) - len(content) // 2)
    path.write_bytes(content)
    return path


def sound(tmp: Path) -> Path:
    import av

    with av.open(str(tmp / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return tmp / "sound.mp4"


def cut_gif(tmp: Path, share: float = 0.8) -> Path:
    frames = [Image.fromarray(picture(number)) for number in range(3)]
    frames[0].save(tmp / "clip.gif", save_all=True, append_images=frames[1:], duration=100)
    return cut(tmp / "clip.gif", share)


def cut_gif_inside_a_frame(tmp: Path) -> Path:
    return cut_gif(tmp, 0.5)


def cut_jpeg(tmp: Path) -> Path:
    folder = write_frames(tmp / "frames", [1, 2])
    Image.fromarray(picture(3)).save(folder / "frame3.jpg")
    cut(folder / "frame3.jpg", 0.5)
    return folder


def two_sizes(tmp: Path) -> Path:
    folder = write_frames(tmp / "frames", [1])
    Image.fromarray(picture(2, (48, 60))).save(folder / "frame2.png")
    return folder


def no_frames(tmp: Path) -> Path:
    (tmp / "frames").mkdir()
    return tmp / "frames"


def twice(tmp: Path) -> Path:
    folder = write_frames(tmp / "frames", [1])
    Image.fromarray(picture(1)).save(folder / "frame1.jpg")
    return folder


def unknown(tmp: Path) -> Path:
    (tmp / "clip.flv").write_bytes(b"x")
    return tmp / "clip.flv"


def sixteen_bits(tmp: Path) -> Path:
    (tmp / "frames").mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp / "frames" / "0.png")
    return tmp / "frames"


@pytest.mark.parametrize("without_decord", [False, True], ids=["", "without decord"])
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (missing, "nowhere.mp4: no such file or folder"),
        (empty, "empty.mp4: empty file"),
        (garbage, "garbage.mp4: does not decode as video"),
        (cut_video, "clip.mp4: cut short; it announces 24 frames and holds"),
        (spoilt_video, r"clip\.mp4: .*does not decode"),
        (sound, "sound.mp4: holds no video stream"),
        (cut_gif, r"clip\.gif: (cut short|does not decode)"),
        (cut_gif_inside_a_frame, r"clip\.gif: (cut short|does not decode)"),
        (cut_jpeg, "frame3.jpg: does not decode"),
        (two_sizes, "frame2.png: 60x48 pixels; the other frames have 64x48"),
        (no_frames, r"frames: no frames; a folder needs \*.jpg, \*.jpeg, \*.png"),
        (twice, "holds both frame1.jpg and frame1.png"),
        (unknown, "clip.flv: unknown kind of video '.flv'; choose from .mp4, .mov, .avi, .mkv, .webm, .gif"),
        (sixteen_bits, "image mode I;16"),
    ],
)
def test_one_line_naming_the_file(tmp_path, monkeypatch, capfd, make, says, without_decord):
    if without_decord:
        monkeypatch.setitem(sys.modules, "decord", None)  # import decord -> ImportError
    path = make(tmp_path)
    capfd.readouterr()
    with pytest.raises(UserError, match=says) as caught:
        list(open_video(path, None, None))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", ""), "nothing but the message may reach the terminal"


def test_gif_cut_between_two_frames_is_not_taken_for_a_short_one(tmp_path):
    path = cut_gif(tmp_path, 1.0)
    assert open_video(path, None, None).length == 3
    content = path.read_bytes()
    path.write_bytes(content[: content.rfind(b"\x21\xf9\x04")])  # in front of the last frame's control block
    with pytest.raises(UserError, match="cut short; a GIF ends with"):
        open_video(path, None, None)


def test_damaged_frame_that_the_codec_patches_over_is_noticed_without_decord(tmp_path, monkeypatch):
    import av

    path = write_video(tmp_path / "clip.mp4")
    with av.open(str(path)) as container:
        data = [bytes(packet) for packet in container.demux(video=0) if packet.size][8]
    half = len(data) // 2
    path.write_bytes(path.read_bytes().replace(data, data[:half] + bytes(len(data) - half)))
    monkeypatch.setitem(sys.modules, "decord", None)
    with pytest.raises(UserError, match=r"clip\.mp4: .*does not decode"):
        list(open_video(path, None, None))


@pytest.mark.parametrize(
    ("fps", "max_frames", "says"),
    [
        (48, None, "fps is 48, the video has 24; choose at most that"),
        (0, None, "fps is 0; choose a number above 0"),
        (float("nan"), None, "fps is nan"),
        (None, 0, "max_frames is 0; choose at least 1"),
    ],
)
def test_values_that_cannot_be_met(tmp_path, fps, max_frames, says):
    path = write_video(tmp_path / "clip.mp4", 3)
    with pytest.raises(UserError, match=says):
        open_video(path, fps, max_frames)


@pytest.mark.parametrize("text", [b"\xff\xfe\x80", b"\xc3\x28\xa0", b"caf\xe9"])
def test_metadata_that_is_not_text_is_no_reason_to_refuse_a_video(tmp_path: Path, text: bytes) -> None:
    import av

    path = write_video(tmp_path / "tagged.mp4")
    tagged = tmp_path / "odd.mp4"
    with av.open(str(path)) as source, av.open(str(tagged), "w") as target:
        target.metadata["title"] = "Z" * len(text)
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    content = tagged.read_bytes()
    assert content.count(b"Z" * len(text)) == 1
    tagged.write_bytes(content.replace(b"Z" * len(text), text))
    assert open_video(tagged, None, None).length == 24


@pytest.mark.parametrize("width", [16, 24, 48, 62])
def test_a_narrow_video_has_three_colours(tmp_path: Path, width: int) -> None:
    import av

    path = tmp_path / "narrow.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = width, 32, "yuv420p"
        for number in range(3):
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(picture(number, (32, width)), format="rgb24"))
            )
        container.mux(stream.encode())
    assert {frame.shape for frame in open_video(path, None, None)} == {(32, width, 3)}
