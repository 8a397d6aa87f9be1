"""Video files as a training set: random clips of them, without decoding from their start."""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from vocl import dist
from vocl.data.gifs import Gif, read_gif
from vocl.data.packets import Packets, read_packets
from vocl.data.random_access import OpenFilms
from vocl.data.reader import VIDEO_SUFFIXES, check_frame
from vocl.data.sources.files import folder_names
from vocl.errors import UserError, printable
from vocl.interface import Source

SUFFIXES = (*VIDEO_SUFFIXES, ".gif")
OPEN_FILES = 4  # of each process; an open H.264 file of 1080 rows takes some 100 MB
READERS = 8  # files that are read at once, since disks of a cluster are far away
NAMED = 5  # unreadable files that a message names


class VideoFile:
    """A video file (an `interface.Video`). Its packets are read when something is asked of it."""

    def __init__(self, name: str, path: Path, films: OpenFilms) -> None:
        self.name, self.path, self._films = name, path, films
        self._index: Packets | Gif | None = None

    @property
    def index(self) -> Packets | Gif:
        """What the file says of its frames. UserError where it cannot be read."""
        if self._index is None:
            if not self.path.is_file():
                raise UserError(f"{self.path}: no such file")
            if self.path.stat().st_size == 0:
                raise UserError(f"{self.path}: empty file")
            read = read_gif if self.path.suffix.lower() == ".gif" else read_packets
            self._index = read(self.path)
        return self._index

    @property
    def length(self) -> int:
        """Number of frames."""
        return self.index.length

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels, as it is shown."""
        return self.index.size

    @property
    def fps(self) -> float | None:
        """Frames per second, where the file says so."""
        return self.index.fps

    def frames(self, indices: Sequence[int]) -> np.ndarray:
        """Frames `indices` as uint8 t h w 3. UserError where one does not decode."""
        wanted, places = np.unique(np.asarray(indices, np.int64), return_inverse=True)
        out = np.empty((len(indices), *self.size, 3), np.uint8)
        for number, frame in enumerate(self._decoded([int(i) for i in wanted])):
            check_frame(self.path, frame, self.size)
            out[places == number] = frame
        return out

    def annotations(self, names: Sequence[str], indices: Sequence[int]) -> dict[str, np.ndarray]:
        """None: nothing is known beside the frames."""
        assert not names, names
        return {}

    def _decoded(self, wanted: Sequence[int]) -> Iterator[np.ndarray]:
        index = self.index
        return index.frames(wanted) if isinstance(index, Gif) else self._films.frames(index, wanted)


class VideoFiles(Source):
    """Video files, in folders or not: `<data_root>/<name>/<split>/**/*.mp4` and other kinds.

    A video's name is its path below the split's folder, without the suffix. No truth. Only names are
    read at construction, unless `skip_unreadable`: then files that cannot be read are left out, and said;
    otherwise `check` refuses them. UserError for a folder that is missing or empty.
    """

    def __init__(self, split: str, data_root: Path, *, name: str, skip_unreadable: bool) -> None:
        root, kinds = Path(data_root) / name, ", ".join(f"*{suffix}" for suffix in SUFFIXES)
        if not root.is_dir():
            raise UserError(f"{root}: no such folder; dataset '{name}' needs {root}/<split>/ with {kinds}")
        splits = folder_names(root)
        if split not in splits:
            choices = f"choose from {', '.join(splits)}" if splits else f"it must hold <split>/ with {kinds}"
            raise UserError(f"{root}: has no split '{split}'; {choices}")
        films = OpenFilms(OPEN_FILES)
        self._videos = [VideoFile(name, path, films) for name, path in _files(root / split).items()]
        if not self._videos:
            raise UserError(f"{root / split}: holds no video; it must hold {kinds}")
        if skip_unreadable:
            self._leave_out(root / split)
        self._by_name = {video.name: video for video in self._videos}

    def __len__(self) -> int:
        return len(self._videos)

    def __getitem__(self, index: int) -> VideoFile:
        return self._videos[index]

    def truth(self, name: str) -> None:
        """Nothing is known beside the frames."""
        return None

    def fingerprint(self, name: str) -> str:
        """Size and time of change of the video's file."""
        stat = self._by_name[name].path.stat()
        return hashlib.blake2s(f"{stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()

    def check(self) -> None:
        """Read the packets of all files; call it before anything long starts. UserError."""
        errors = self._unreadable()
        if not errors:
            return
        first, *others = errors.items()
        more = ""
        if others:
            named = ", ".join(str(video.path) for video, _ in others[: NAMED - 1])
            dots = ", ..." if len(others) >= NAMED else ""
            more = f"; {len(errors)} of {len(self)} videos cannot be read, also {named}{dots}"
        hint = "skip_unreadable=true of the source leaves such files out"
        raise UserError(f"{first[1]}{more}; {hint}")

    def _leave_out(self, folder: Path) -> None:
        errors, every = self._unreadable(), len(self)
        if len(errors) == every:
            raise UserError(f"{folder}: none of {every} videos can be read; {next(iter(errors.values()))}")
        self._videos = [video for video in self._videos if video not in errors]
        if errors and dist.rank() == 0:
            for error in errors.values():
                _say(f"left out: {error}")
            _say(f"{folder}: {len(errors)} of {every} videos are left out as unreadable")

    def _unreadable(self) -> dict[VideoFile, UserError]:
        """What is wrong with which videos. Those that have been read are not read again."""
        with ThreadPoolExecutor(READERS) as pool:
            found = pool.map(_error_of, self._videos)
            return {video: error for video, error in zip(self._videos, found, strict=True) if error}


@functools.cache  # a run makes several sources of the same files
def _say(line: str) -> None:
    print(printable(line), file=sys.stderr)


def _error_of(video: VideoFile) -> UserError | None:
    try:
        video.index  # noqa: B018  it is read here
    except UserError as error:
        return error
    return None


def _files(folder: Path) -> dict[str, Path]:
    """Name to path of the video files in `folder`, by name; hidden ones do not count."""
    found: dict[str, Path] = {}
    seen = set()  # a link may lead to a folder above it
    for place, folders, files in os.walk(
        folder, onerror=functools.partial(_refuse, folder), followlinks=True
    ):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        for file in files:
            path = Path(place, file)
            if path.suffix.lower() not in SUFFIXES or file.startswith("."):
                continue
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name in found:
                raise UserError(f"{folder}: holds both {found[name].name} and {file}; keep one file per name")
            found[name] = path
    return dict(sorted(found.items()))


def _refuse(folder: Path, error: OSError) -> None:
    raise UserError(f"{error.filename or folder}: {error.strerror or error}")
