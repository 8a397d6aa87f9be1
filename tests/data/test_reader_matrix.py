"""Each kind of video file, whole and in each state a file may be in: all of its frames, or one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from alarm import ends_soon
from clean_process import in_clean_process
from PIL import Image

from vocl.data.reader import open_video
from vocl.data.sources.videos import VideoFiles
from vocl.errors import UserError

LENGTH, SIZE = 30, (48, 80)
FILM = np.random.default_rng(0).integers(0, 255, (LENGTH, *SIZE, 3), np.uint8)


def write(path: Path, codec: str, **muxer: str) -> None:
    import av

    try:
        av.Codec(codec, "w")
    except av.codec.codec.UnknownCodecError:
        return
    with av.open(str(path), "w", options=muxer) as container:
        options = {"deadline": "realtime"} if codec == "libvpx-vp9" else {}
        stream = container.add_stream(codec, rate=25, options={"g": "12"} | options)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        for frame in FILM:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def gif(path: Path) -> None:
    first, *others = [Image.fromarray(frame) for frame in FILM]
    first.save(path, save_all=True, append_images=others, duration=40)


KINDS: dict[str, Callable[[Path], None]] = {
    "index_behind.mp4": lambda path: write(path, "libx264"),
    "index_in_front.mp4": lambda path: write(path, "libx264", movflags="faststart"),
    "fragments.mp4": lambda path: write(path, "libx264", movflags="frag_keyframe+empty_moov"),
    "clip.mov": lambda path: write(path, "mpeg4", movflags="faststart"),
    "clip.avi": lambda path: write(path, "mpeg4"),
    "clip.mkv": lambda path: write(path, "libx264"),
    "live.mkv": lambda path: write(path, "libx264", live="1"),
    "clip.webm": lambda path: write(path, "libvpx-vp9"),
    "clip.gif": gif,
}


def make_all(folder: Path) -> None:
    for name, make in KINDS.items():
        make(folder / name)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """The content of a video of a kind."""
    folder = tmp_path_factory.mktemp("made")
    in_clean_process(make_all, folder)

    def content(name: str) -> bytes:
        if not (folder / name).is_file():
            pytest.skip(f"no encoder here for {name}")
        return (folder / name).read_bytes()

    return content


def outcome(path: Path) -> int | str:
    """How many frames are read of as many as are announced, or what is said instead."""
    with ends_soon(path.name, 60):
        try:
            reader = open_video(path, None, None)
            frames = list(reader)
        except UserError as error:
            assert str(error).startswith(str(path)) and "\n" not in str(error)
            return str(error)
    assert len(frames) == reader.length and {f.shape for f in frames} == {(*SIZE, 3)}
    return len(frames)


def through_the_source(root: Path) -> int | str:
    source = VideoFiles("train", root, name="own", skip_unreadable=False)
    with ends_soon("source", 60):
        try:
            source.check()
            return len(source[0].frames(range(source[0].length)))
        except UserError as error:
            assert "\n" not in str(error)
            return str(error)


@pytest.fixture
def put(tmp_path) -> Callable[[str, bytes], Path]:
    """Write a file as the one video of a dataset."""

    def written(name: str, content: bytes) -> Path:
        path = tmp_path / "own" / "train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return written


@pytest.mark.parametrize("name", KINDS)
def test_whole(made, put, tmp_path, decoder, name):
    assert outcome(put(name, made(name))) == LENGTH == through_the_source(tmp_path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("name", KINDS)
def test_cut_is_told_and_never_a_shorter_video(made, put, tmp_path, capfd, decoder, name, share):
    content = made(name)
    path = put(name, content[: int(len(content) * share)])
    for said in (outcome(path), through_the_source(tmp_path)):
        assert isinstance(said, str) and ("cut short" in said or "does not decode" in said)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("tail", ["zeros", "noise", "text"])
@pytest.mark.parametrize("name", KINDS)
def test_bytes_behind_it_are_harmless(made, put, tmp_path, capfd, decoder, name, tail):
    behind = {
        "zeros": bytes(3000),
        "noise": np.random.default_rng(1).bytes(3000),
        "text": b"and more\n" * 300,
    }
    path = put(name, made(name) + behind[tail])
    assert outcome(path) == LENGTH == through_the_source(tmp_path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("content", [b"", b"\0" * 5000, b"These are notes, not a film.\n" * 200], ids=len)
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".avi", ".mkv", ".webm", ".gif"])
def test_what_is_no_video(put, tmp_path, capfd, decoder, suffix, content):
    path = put(f"notes{suffix}", content)
    for said in (outcome(path), through_the_source(tmp_path)):
        assert isinstance(said, str) and f"notes{suffix}: " in said
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", KINDS)
def test_a_name_of_another_kind_changes_nothing(made, put, decoder, name):
    """A film is known by its content; only a GIF is read by another library."""
    other = "clip.gif" if name == "clip.gif" else f"renamed{'.mov' if name.endswith('.mkv') else '.mkv'}"
    assert outcome(put(other, made(name))) == LENGTH
