"""Of a container the film is read that players show, upright and whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from films import with_matrix

from vocl.data.reader import open_video
from vocl.errors import UserError


def picture(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Grey, with a bright top left corner and a dimmer band below it."""
    out = np.full((height, width, 3), 20 + number, np.uint8)
    out[: height // 3, : width // 4] = 230
    out[height // 3 : height // 2, : width // 4] = 130
    return out


def write(path: Path, pictures: list[np.ndarray], codec: str = "libx264", **options: str) -> Path:
    import av

    with av.open(str(path), "w", options=options) as container:
        add(container, codec, pictures)
    return path


def add(container, codec: str, *films: list[np.ndarray], default: int | None = None) -> None:
    """Write films into an open container as a stream each; `default`: the one that is marked so."""
    import av
    from av.stream import Disposition

    streams = []
    for index, pictures in enumerate(films):
        stream = container.add_stream(codec, rate=24)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if default is not None:
            stream.disposition = Disposition.default if index == default else Disposition(0)
        streams.append(stream)
    for stream, pictures in zip(streams, films, strict=True):
        for frame in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


MATRICES = {
    "upright": ((1, 0, 0, 1), lambda x: x),
    "mirrored": ((-1, 0, 0, 1), lambda x: x[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda x: x[::-1]),
    "half turn": ((-1, 0, 0, -1), lambda x: x[::-1, ::-1]),
    "clockwise": ((0, 1, -1, 0), lambda x: np.rot90(x, -1)),
    "anticlockwise": ((0, -1, 1, 0), lambda x: np.rot90(x)),
    "transposed": ((0, 1, 1, 0), lambda x: x.swapaxes(0, 1)),
    "transversed": ((0, -1, -1, 0), lambda x: x[::-1, ::-1].swapaxes(0, 1)),
    "empty": ((0, 0, 0, 0), lambda x: x),
}


@pytest.mark.parametrize(("matrix", "shown"), MATRICES.values(), ids=list(MATRICES))
def test_display_matrix_is_obeyed(tmp_path, matrix, shown):
    path = write(tmp_path / "plain.mp4", [picture(n) for n in range(3)])
    plain = list(open_video(path, None, None))
    found = open_video(with_matrix(path, matrix), None, None)
    frames = list(found)
    assert found.size == frames[0].shape[:2] == shown(plain[0]).shape[:2]
    for frame, before in zip(frames, plain, strict=True):
        assert np.abs(frame.astype(int) - shown(before)).mean() < 3


@pytest.mark.parametrize("marked", [True, False])
def test_cover_in_front_of_the_film_is_not_the_film(tmp_path, marked):
    import av

    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as container:
        cover, film = [picture(0, 32, 32)], [picture(n) for n in range(12)]
        add(container, "mjpeg", cover, film, default=1 if marked else None)
    reader = open_video(path, None, None)
    assert (reader.size, reader.length) == ((48, 64), 12)
    assert len(list(reader)) == 12


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("default", [0, 1])
def test_of_two_films_the_default_one_is_read(tmp_path, suffix, default):
    import av

    path = tmp_path / f"two{suffix}"
    films = [[picture(n, 32, 48) for n in range(5)], [picture(n, 48, 32) for n in range(9)]]
    with av.open(str(path), "w") as container:
        add(container, "mpeg4", *films, default=default)
    reader = open_video(path, None, None)
    assert (reader.size, reader.length) == (films[default][0].shape[:2], len(films[default]))
    assert np.abs(next(iter(reader)).astype(int) - films[default][0]).mean() < 12


@pytest.mark.parametrize("share", [0.5, 0.75, 0.98])
@pytest.mark.parametrize(
    ("suffix", "codec"),
    [(".mkv", "libx264"), (".avi", "mpeg4"), (".mp4", "libx264"), (".mov", "mpeg4"), (".mkv", "mpeg4")],
)
def test_file_that_ends_too_early_is_not_a_shorter_film(tmp_path, suffix, codec, share):
    noise = [np.random.default_rng(n).integers(0, 255, (48, 64, 3), np.uint8) for n in range(40)]
    options = {"movflags": "faststart"} if suffix in (".mp4", ".mov") else {}
    path = write(tmp_path / f"clip{suffix}", noise, codec, **options)
    assert len(list(open_video(path, None, None))) == 40
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match=rf"clip\{suffix}: .*(cut short|does not decode)") as caught:
        list(open_video(path, None, None))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("suffix", "codec"), [(".mkv", "libx264"), (".avi", "mpeg4")])
def test_bytes_behind_the_film_are_harmless(tmp_path, suffix, codec):
    path = write(tmp_path / f"clip{suffix}", [picture(n) for n in range(6)], codec)
    with path.open("ab") as file:
        file.write(bytes(5000))
    assert len(list(open_video(path, None, None))) == 6


def test_live_recording_says_no_length_and_is_read(tmp_path):
    path = write(tmp_path / "live.mkv", [picture(n) for n in range(6)], live="1")
    assert len(list(open_video(path, None, None))) == 6


def test_avi_that_was_written_into_a_pipe_says_no_length_and_is_read(tmp_path):
    path = write(tmp_path / "pipe.avi", [picture(n) for n in range(6)], "mpeg4")
    content = path.read_bytes()
    path.write_bytes(content[:4] + b"\xff" * 4 + content[8:])
    assert len(list(open_video(path, None, None))) == 6


def test_title_in_another_encoding_does_not_hide_the_film(tmp_path):
    import av

    path = tmp_path / "title.mp4"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "a title QQQQ of some length"
        add(container, "mpeg4", [picture(n) for n in range(4)])
    path.write_bytes(path.read_bytes().replace(b"QQQQ", b"\xe9\xff\xfe\xe8"))
    assert len(list(open_video(path, None, None))) == 4
