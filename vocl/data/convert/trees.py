"""What converters of folders share: videos one by one, frames byte for byte, lists of names."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from vocl.data.convert.converter import Converter, Unit
from vocl.data.images import by, check_sizes, image_size, natural, read_frame
from vocl.data.store.record import Record
from vocl.errors import UserError, brief
from vocl.files import open_regular, parse_json, read_bytes

UNPACKED = (".bmp", ".ppm", ".pgm")  # kept as PNG, with the same pixels


class VideoByVideo(Converter):
    """A dataset of which each video is read by itself: a base of converters.

    `videos` says of each by its name where it lies; set it at construction.
    """

    videos: Mapping[str, Any]

    def record(self, name: str) -> Record:
        """One video. UserError for what is wrong with it."""
        raise NotImplementedError

    def frames_of(self, name: str) -> Sequence[Path]:
        """Files, by the first of which and their number the video is weighed."""
        raise NotImplementedError

    def units(self) -> Sequence[Unit]:
        """One for each video, in order."""
        return [Unit(name, self._weight(name)) for name in self.videos]

    def _weight(self, name: str) -> int:
        try:
            return weight(self.frames_of(name))
        except (OSError, UserError):  # told where the video is read
            return 1

    def records(self, unit: Unit) -> Iterator[Record | UserError]:
        """The unit's one video, or what is wrong with it."""
        found: Record | UserError
        try:
            found = self.record(unit.name)
        except UserError as error:
            found = error
        except OSError as error:
            found = UserError(
                f"{error.filename or self.source / unit.name}: cannot be read: {error.strerror}"
            )
        yield found


def weight(files: Sequence[Path]) -> int:
    """About how many bytes files have, by the first of them."""
    try:
        return max(1, files[0].stat().st_size * len(files)) if files else 1
    except OSError:  # told where it is read
        return 1


def need(folder: Path, told: str) -> Path:
    """`folder`, if there is one. UserError that ends with `told`: what to download, and where it must lie."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; {told}")
    return folder


def names_in(folder: Path) -> list[str]:
    """Sorted names of the folders in `folder`, hidden ones left out. UserError where it cannot be listed."""
    return [name for name in _listing(folder) if (folder / name).is_dir()]


def files_in(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """The files in `folder` whose names end so, in the order of their numbers; none where it is missing.

    UserError where two differ in their ending alone.
    """
    if not folder.is_dir():
        return []
    found = [folder / name for name in _listing(folder) if name.lower().endswith(tuple(suffixes))]
    found.sort(key=lambda path: natural(path.name))
    stems: dict[str, Path] = {}
    for path in found:
        other = stems.setdefault(path.stem, path)
        if other != path:
            raise UserError(f"{folder}: holds both {other.name} and {path.name}; keep one file per frame")
    return found


def encoded(files: Sequence[Path]) -> list[bytes]:
    """Frames of one size, byte for byte as they are but for kinds that no store has, which become PNG.

    Each is decoded once. UserError for one that is missing, damaged, or has another size than the first.
    """
    for path in files:
        refuse_special(path)
    if files:
        check_sizes(files, image_size(files[0]))
    return [_encoded(path) for path in files]


def _encoded(path: Path) -> bytes:
    pixels = read_frame(path)
    return png(pixels) if path.suffix.lower() in UNPACKED else content_of(path)


def by_stem(
    frames: Sequence[Path], masks: Sequence[Path], read: Callable[[Path], np.ndarray]
) -> list[np.ndarray | None]:
    """The label map of each frame by its file's name, None where there is none; frames have one size.

    UserError for a mask that has no frame, or another size.
    """
    own = {path.stem: path for path in masks}
    strange = sorted(own.keys() - {path.stem for path in frames})
    if strange:
        raise UserError(f"{own[strange[0]]}: there is no frame of that name in {frames[0].parent}")
    size = image_size(frames[0])
    return [read_label(own[p.stem], size, read) if p.stem in own else None for p in frames]


def read_label(path: Path, size: tuple[int, int], read: Callable[[Path], np.ndarray]) -> np.ndarray:
    """What `read` makes of a mask, which must have the size of its frame. UserError."""
    refuse_special(path)
    labels = read(path)
    if labels.shape != size:
        raise UserError(f"{path}: {by(labels.shape)} pixels; its frame has {by(size)}")
    return labels


def png(pixels: np.ndarray) -> bytes:
    """Pixels h w 3 uint8 as the bytes of a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def refuse_special(path: Path) -> None:
    """Refuse what is no regular file, such as a pipe, which would be waited for. UserError."""
    with told(path):
        open_regular(path).close()


def content_of(path: Path) -> bytes:
    """The content of a regular file. UserError, naming it, where it cannot be read."""
    with told(path):
        return read_bytes(path)


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Within the block a file that cannot be read is a `UserError` that names it."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def read_json(path: Path, told: str) -> dict[str, Any]:
    """The mapping in a JSON file. UserError; where there is no such file it ends with `told`."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; {told}")
    try:
        content = parse_json(content_of(path))
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{path}: is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: must be a mapping, is a {type(content).__name__}")
    return content


def read_list(path: Path) -> list[str]:
    """The lines of a list of names, without empty ones."""
    text = content_of(path).decode("utf-8", "replace")
    return [line.strip() for line in text.splitlines() if line.strip()]


def inside(folder: Path, name: object, where: object) -> Path:
    """The file of a name in a list or annotation, which must lie in `folder`. UserError."""
    parts = PurePosixPath(name).parts if isinstance(name, str) else ()
    fine = isinstance(name, str) and name.isprintable() and "\\" not in name and len(name) < 500
    if not (fine and parts) or ".." in parts or parts[0] == "/":
        raise UserError(f"{where}: {brief(repr(name))} is no file of {folder}")
    return folder.joinpath(*parts)


def refuse_absent(listed: Iterable[str], present: Iterable[str], origin: Path, folder: Path) -> None:
    """UserError for names of a list that are not in `folder`."""
    wanted, there = list(listed), set(present)
    if len(set(wanted)) != len(wanted):
        raise UserError(f"{origin}: names {next(n for n in wanted if wanted.count(n) > 1)} twice")
    missing = [name for name in wanted if name not in there]
    if missing:
        raise UserError(
            f"{origin}: {len(missing)} of {len(wanted)} videos are not in {folder}, such as "
            f"{brief(missing[0])}; take what there is with convert.partial=true"
        )


def distinct(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """(split, video) by the video's own name, which has the split's before it where two splits have it."""
    every = list(pairs)
    seen: dict[str, int] = {}
    for _, video in every:
        seen[video] = seen.get(video, 0) + 1
    return {video if seen[video] == 1 else f"{split}-{video}": (split, video) for split, video in every}


def _listing(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed: {error.strerror}") from None
