"""Masks of videos in other people's JSON, as truth or as what a method found: one code per object and frame.

Four forms are known by their keys: YouTube-VIS annotations ("videos", and "annotations" with a list of codes
each), the same with an annotation per frame ("images"), results of YouTube-VIS (a list of mappings with
"video_id" and "segmentations") or of MMTracking ("track_masks"), and masklets of SA-V ("masklet").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vocl.data.convert.coco import read_annotations
from vocl.data.convert.rle import checked
from vocl.data.convert.trees import content_of
from vocl.data.truth import RLE, Truth
from vocl.errors import UserError, brief
from vocl.files import parse_json

Codes = list[RLE | None]
FORMS = (
    "annotations or results of YouTube-VIS, masklets of SA-V ('videos' and 'annotations', a list with "
    "'segmentations', 'track_masks', 'masklet')"
)


def read_videos(path: Path) -> dict[str, Truth]:
    """Masks of each video by its name; of two objects at a point the later has it: of YouTube-VIS's
    results, the one of higher score. UserError."""
    raw = content_of(path)
    try:
        content = parse_json(raw)
    except ValueError as error:
        raise UserError(f"{path}: is not JSON ({error})") from None
    if isinstance(content, list):
        return dict(_results(path, content))
    if isinstance(content, dict):
        if "masklet" in content:
            return dict([_masklets(path, content)])
        if "track_masks" in content:
            return dict([_tracks(path, content)])
        if "videos" in content and "images" in content:
            return dict(_by_frame(path, content))
        if "videos" in content:
            return dict(_annotated(path))
    raise UserError(f"{path}: is of no known form; known are {FORMS}")


def _annotated(path: Path) -> Iterator[tuple[str, Truth]]:
    """YouTube-VIS annotations; videos by their ids, as results name them."""
    found = read_annotations(path, "")
    for place, one in enumerate(found.videos):
        video = _mapping(one, f"{path}: videos")
        own = found.objects.get(_known(video.get("id")), ())
        length = next((len(o["segmentations"]) for o in own if isinstance(o.get("segmentations"), list)), 0)
        truth, _ = found.truth(place, length or _number(video.get("length")))
        if truth is None or truth.length < 1:
            raise UserError(f"{path}: video {brief(video.get('id'))} has no masks")
        yield str(video["id"]), truth


def _results(path: Path, content: Sequence[Any]) -> Iterator[tuple[str, Truth]]:
    """Results of YouTube-VIS: a mapping for each object found."""
    by_video: dict[str, list[Mapping[str, Any]]] = {}
    for number, one in enumerate(content):
        if not isinstance(one, dict) or not isinstance(one.get("segmentations"), list):
            raise UserError(f"{path}: entry {number} is no result: {brief(one)}; expected 'segmentations'")
        by_video.setdefault(str(one.get("video_id")), []).append(one)
    for name, found in by_video.items():
        found.sort(key=lambda one: _score(path, one))
        yield name, _truth(f"{path}: video {name}", [one["segmentations"] for one in found])


def _score(path: Path, one: Mapping[str, Any]) -> float:
    score = one.get("score", 0.0)
    if not isinstance(score, int | float) or score != score:
        raise UserError(f"{path}: a result of video {one.get('video_id')} has the score {brief(score)}")
    return score


def _masklets(path: Path, content: Mapping[str, Any]) -> tuple[str, Truth]:
    """Masklets of SA-V: codes of all objects, frame by frame."""
    frames = _list(content["masklet"], f"{path}: masklet")
    by_frame = [_list(frame, f"{path}: masklet, frame {t}") for t, frame in enumerate(frames)]
    number = max((len(frame) for frame in by_frame), default=0)
    if any(len(frame) != number for frame in by_frame):
        raise UserError(f"{path}: masklet: frames differ in their number of objects")
    codes = [[frame[o] for frame in by_frame] for o in range(number)]
    return str(content.get("video_id")), _truth(str(path), codes)


def _by_frame(path: Path, content: Mapping[str, Any]) -> Iterator[tuple[str, Truth]]:
    """Annotations of single frames, which name their video and object."""
    images = [_mapping(one, f"{path}: images") for one in _list(content["images"], f"{path}: images")]
    places: dict[Any, tuple[Any, int]] = {}
    counts: dict[Any, int] = {}
    for image in sorted(images, key=lambda one: _number(one.get("frame_id"))):
        video = _known(image.get("video_id"))
        places[_known(image.get("id"))] = (video, counts.get(video, 0))
        counts[video] = counts.get(video, 0) + 1
    tracks: dict[Any, dict[Any, dict[int, Any]]] = {}
    for one in _list(content.get("annotations"), f"{path}: annotations"):
        one = _mapping(one, f"{path}: annotations")
        image_id = _known(one.get("image_id"))
        if image_id not in places:
            raise UserError(f"{path}: annotation {brief(one.get('id'))} is of no image of the file")
        video, t = places[image_id]
        own = tracks.setdefault(video, {}).setdefault(_known(one.get("instance_id", one.get("id"))), {})
        own[t] = one.get("segmentation")
    videos = [_mapping(one, f"{path}: videos") for one in _list(content["videos"], f"{path}: videos")]
    names = {_known(one.get("id")): one.get("name") for one in videos}
    for video, count in counts.items():
        codes = [[own.get(t) for t in range(count)] for own in tracks.get(video, {}).values()]
        own_images = (one for one in images if _known(one.get("video_id")) == video)
        size = next((one.get("height"), one.get("width")) for one in own_images)
        yield str(names.get(video) or video), _truth(f"{path}: video {video}", codes, size, count)


def _tracks(path: Path, content: Mapping[str, Any]) -> tuple[str, Truth]:
    """Results of MMTracking for one video: codes by frame and class, numbers of tracks and scores beside."""
    frames = _list(content["track_masks"], f"{path}: track_masks")
    boxes = _list(content.get("track_bboxes"), f"{path}: track_bboxes")
    tracks: dict[Any, list[Any]] = {}
    for t, (classes, own) in enumerate(_zipped(frames, boxes, f"{path}: track_masks")):
        for number, (codes, rows) in enumerate(_zipped(classes, own, f"{path}: frame {t}")):
            for code, row in _zipped(codes, rows, f"{path}: frame {t}"):
                track = (number, _known(row[0] if isinstance(row, list) and row else None))
                tracks.setdefault(track, [None] * len(frames))[t] = code
    return path.stem, _truth(str(path), list(tracks.values()), None, len(frames))


def _zipped(masks: Any, boxes: Any, where: str) -> Iterator[tuple[Any, Any]]:
    """Masks and boxes, of which there must be as many."""
    if len(_list(masks, where)) != len(_list(boxes, where)):
        raise UserError(f"{where}: {len(masks)} masks and {len(boxes)} boxes")
    return zip(masks, boxes, strict=True)


def _truth(
    where: str, objects: Sequence[Sequence[Any]], size: Any = None, length: int | None = None
) -> Truth:
    """Masks from codes by object and frame, all of one size and length."""
    length = length if length is not None else max((len(codes) for codes in objects), default=0)
    first = (c.get("size") for codes in objects for c in codes if isinstance(c, dict))
    found = size if size is not None else next(first, None)
    if (
        not isinstance(found, list | tuple)
        or len(found) != 2
        or not all(type(s) is int and s > 0 for s in found)
    ):
        raise UserError(f"{where}: has no mask, or none that says its size: {brief(found)}")
    for number, codes in enumerate(objects):
        if len(codes) != length:
            raise UserError(f"{where}: object {number} has {len(codes)} codes for {length} frames")
    one_size = (found[0], found[1])
    checked_codes = tuple(
        tuple(
            checked(_polygons(code), one_size, f"{where}, object {o}, frame {t}")
            for t, code in enumerate(codes)
        )
        for o, codes in enumerate(objects)
    )
    return Truth(one_size, length, checked_codes, (None,) * length)


def _polygons(code: Any) -> Any:
    """An absent mask is null, and in some files an empty list."""
    return None if code == [] else code


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise UserError(f"{where}: expected a list, not {brief(value)}")
    return value


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected mappings, found {brief(value)}")
    return value


def _number(value: Any) -> int:
    """A frame's number; 0 where there is none, so that frames stay in the order of the file."""
    return value if isinstance(value, int) else 0


def _known(value: Any) -> Any:
    """An id that a mapping can have as its key."""
    return value if isinstance(value, int | float | str) else None
