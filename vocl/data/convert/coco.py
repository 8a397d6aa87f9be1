"""Annotations of videos in COCO's JSON, as YouTube-VIS has them: one code per object and frame."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from vocl.data.convert.rle import checked
from vocl.data.convert.trees import inside, read_json
from vocl.data.truth import Truth
from vocl.errors import UserError, brief


@dataclass(frozen=True)
class Annotations:
    """A file of annotations; what it says of a video is checked when that is asked for.

    `labelled`: whether it has any annotation: the lists of test videos have none. `strangers`: how many
    annotations are of no video of the file.
    """

    path: Path
    videos: Sequence[Any]
    categories: Mapping[Any, str]
    objects: Mapping[Any, Sequence[Mapping[str, Any]]]
    labelled: bool
    strangers: int

    def names(self) -> list[str]:
        """Of all videos in order: the folder of the first frame, else the place in the file.

        UserError for two of one name.
        """
        found = [_folder(video) or f"video-{place}" for place, video in enumerate(self.videos)]
        if len(set(found)) != len(found):
            twin = next(name for name in found if found.count(name) > 1)
            raise UserError(f"{self.path}: two videos have the folder {brief(twin)}")
        return found

    def files(self, place: int, folder: Path) -> list[Path]:
        """The frames of video number `place` in `folder`. UserError."""
        where, video = self._video(place)
        names = video.get("file_names")
        if not isinstance(names, list) or not names:
            raise UserError(f"{where}: its file_names are {brief(names)}, not a list of frames")
        files = [inside(folder, name, where) for name in names]
        if len(set(files)) != len(files):
            raise UserError(f"{where}: names a frame twice")
        return files

    def truth(self, place: int, length: int) -> tuple[Truth | None, list[str] | None]:
        """Masks and classes of the objects of video number `place`, crowds left out.

        None where no video of the file has any.
        """
        if not self.labelled:
            return None, None
        where, video = self._video(place)
        size = self.size(place)
        mine = [one for one in self.objects.get(_key(video.get("id")), ()) if not one.get("iscrowd")]
        codes = [self._codes(one, size, length, where) for one in mine]
        classes = [self._class(one, where) for one in mine]
        return Truth(size, length, tuple(codes), (None,) * length), classes

    def size(self, place: int) -> tuple[int, int]:
        """(height, width) of video number `place`. UserError."""
        where, video = self._video(place)
        height, width = video.get("height"), video.get("width")
        if (
            type(height) is not int
            or type(width) is not int
            or not 0 < min(height, width) <= max(height, width) < 2**15
        ):
            raise UserError(f"{where}: its height and width are {brief(height)}, {brief(width)}")
        return height, width

    def _video(self, place: int) -> tuple[str, Mapping[str, Any]]:
        where, video = f"{self.path}: video number {place}", self.videos[place]
        if not isinstance(video, dict):
            raise UserError(f"{where}: is no mapping: {brief(video)}")
        return f"{where} (id {brief(video.get('id'))})", video

    def _codes(self, one: Mapping[str, Any], size: tuple[int, int], length: int, where: str) -> Any:
        place, codes = f"{where}: annotation {brief(one.get('id'))}", one.get("segmentations")
        if not isinstance(codes, list) or len(codes) != length:
            number = len(codes) if isinstance(codes, list) else brief(codes)
            raise UserError(f"{place}: has {number} segmentations for {length} frames")
        return tuple(checked(code, size, f"{place}, frame {t}") for t, code in enumerate(codes))

    def _class(self, one: Mapping[str, Any], where: str) -> str:
        category = _key(one.get("category_id"))
        if category not in self.categories:
            raise UserError(
                f"{where}: annotation {brief(one.get('id'))} is of unknown category {brief(category)}"
            )
        return self.categories[category]


def read_annotations(path: Path, told: str) -> Annotations:
    """The annotations in a file; kept, because one file tells of thousands of videos. UserError."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; {told}")
    return _read(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _read(path: Path, mtime_ns: int) -> Annotations:
    content = read_json(path, "")
    videos, found = _list(path, content, "videos"), _list(path, content, "annotations", optional=True)
    categories = {
        _key(one.get("id")): str(one.get("name"))
        for one in _list(path, content, "categories", optional=True)
        if isinstance(one, dict)
    }
    known = {_key(video.get("id")) for video in videos if isinstance(video, dict)}
    objects: dict[Any, list[Mapping[str, Any]]] = {}
    strangers = 0
    for one in found:
        owner = _key(one.get("video_id")) if isinstance(one, dict) else None
        if owner is None or owner not in known:
            strangers += 1
        else:
            objects.setdefault(owner, []).append(one)
    ids = [_key(video.get("id")) for video in videos if isinstance(video, dict)]
    if len(set(ids)) != len(ids):
        raise UserError(f"{path}: two videos have the same id")
    return Annotations(path, videos, categories, objects, bool(found), strangers)


def _list(path: Path, content: Mapping[str, Any], key: str, optional: bool = False) -> list[Any]:
    found = content.get(key)
    if found is None and optional:
        return []
    if not isinstance(found, list):
        raise UserError(f"{path}: its {key} must be a list, are {brief(found)}")
    return found


def _key(number: Any) -> Any:
    """An id that a mapping can have as its key."""
    return number if isinstance(number, int | str) else None


def _folder(video: Any) -> str | None:
    names = video.get("file_names") if isinstance(video, dict) else None
    first = names[0] if isinstance(names, list) and names else None
    parts = PurePosixPath(first).parts if isinstance(first, str) else ()
    fine = len(parts) > 1 and parts[0] not in ("/", "..") and parts[0].isprintable() and len(parts[0]) < 100
    return parts[0] if fine else None
