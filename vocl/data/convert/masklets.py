"""Objects followed through videos: SA-V (Ravi et al., 2024) and YouTube-VOS (Xu et al., 2018)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import partial as bound
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Le
from PIL import Image

from vocl.data.convert.converter import refuse_other_counts
from vocl.data.convert.rle import checked
from vocl.data.convert.trees import (
    VideoByVideo,
    by_stem,
    distinct,
    encoded,
    files_in,
    names_in,
    need,
    read_json,
    read_list,
    refuse_absent,
)
from vocl.data.images import FRAME_SUFFIXES, image_size
from vocl.data.reader import open_video
from vocl.data.sources.files import read_mask
from vocl.data.store.record import Record
from vocl.data.truth import RLE, Truth
from vocl.errors import UserError, brief

_SAV = "download SA-V from https://ai.meta.com/datasets/segment-anything-video-downloads"
_VOS = "download YouTube-VOS from https://youtube-vos.org/dataset/vos"
_EVERY, _RATE = 4, 24.0  # SA-V: every fourth of 24 frames a second is annotated


class SaV(VideoByVideo):
    """SA-V's training videos: `<video>.mp4` and `<video>_{manual,auto}.json` in SOURCE or one folder deeper.

    The annotated frames are kept, six a second, as JPEG of `quality` (4:4:4); where a folder <video>
    of pictures lies in the place of the video, they stay as they are. Objects may overlap.
    """

    videos: dict[str, Path]

    def __init__(
        self,
        source: Path,
        *,
        masklets: Literal["manual", "auto"],
        quality: Annotated[int, Ge(1), Le(100)],
        published: Mapping[str, int] | None,
        partial: bool,
    ) -> None:
        super().__init__(source, partial=partial)
        self.quality, self.published = quality, dict(published or {})
        told = f"{_SAV}, so that <video>.mp4 and <video>_{masklets}.json are in it, or one folder deeper"
        ending = f"_{masklets}.json"
        folders = [need(source, told), *(source / name for name in names_in(source))]
        found = [path for folder in folders for path in files_in(folder, [ending])]
        if not found:
            raise UserError(f"{source}: holds no <video>{ending}; {told}")
        self.videos = {path.name.removesuffix(ending): path for path in found}
        if len(self.videos) != len(found):
            raise UserError(f"{source}: holds two {ending} of one video")
        refuse_other_counts(self, {"train": len(found)}, skipped=0)

    def frames_of(self, name: str) -> Sequence[Path]:
        """The video file, or pictures."""
        folder = self.videos[name].parent / name
        return files_in(folder, FRAME_SUFFIXES) or [folder.with_suffix(".mp4")]

    def record(self, name: str) -> Record:
        """One video."""
        path = self.videos[name]
        content = read_json(path, _SAV)
        masklets = content.get("masklet")
        if not isinstance(masklets, list) or not masklets or not all(isinstance(m, list) for m in masklets):
            raise UserError(f"{path}: its masklet is {brief(masklets)}, not a list of codes for each frame")
        frames, size = self._frames(name, len(masklets))
        truth = _truth(path, masklets, size)
        ids = content.get("masklet_id")
        more = {"masklet_id": ids} if isinstance(ids, list) and len(ids) == len(truth.objects) else {}
        return Record(name, "train", frames, fps=_RATE / _EVERY, objects=truth, more=more)

    def _frames(self, name: str, length: int) -> tuple[list[bytes], tuple[int, int]]:
        """The annotated ones of a video, and their size."""
        files = self.frames_of(name)
        if files[0].suffix == ".mp4":
            video = open_video(files[0], None, None)
            pictures = (p for t, p in enumerate(video) if t % _EVERY == 0)
            self._refuse_other_length(files[0], length, video.length)
            return [_jpeg(picture, self.quality) for picture in pictures], video.size
        self._refuse_other_length(files[0].parent, length, len(files))
        chosen = files if len(files) == length else files[::_EVERY]
        return encoded(chosen), image_size(chosen[0])

    def _refuse_other_length(self, path: Path, length: int, found: int) -> None:
        pictures = not path.suffix
        if found not in range((length - 1) * _EVERY + 1, length * _EVERY + 1) and not (
            pictures and found == length
        ):
            raise UserError(f"{path}: {found} frames; {length} are annotated, one of {_EVERY}")


class SaVBenchmark(VideoByVideo):
    """SA-V's split val or test: sav_<split>.txt, JPEGImages_24fps, Annotations_6fps/<video>/<object>.

    Every fourth frame is kept, those are annotated. An object is what is above 0 in the masks of its
    folder, and absent where there is none.
    """

    videos: dict[str, Path]

    def __init__(
        self,
        source: Path,
        *,
        split: Literal["val", "test"],
        published: Mapping[str, int] | None,
        partial: bool,
    ) -> None:
        super().__init__(source, partial=partial)
        self.split, self.published = str(split), dict(published or {})
        told = f"{_SAV}: sav_{split}.tar"
        self.frames, self.masks = (need(source / n, told) for n in ("JPEGImages_24fps", "Annotations_6fps"))
        origin, present = source / f"sav_{split}.txt", names_in(self.frames)
        if not origin.is_file():
            raise UserError(f"{origin}: no such file; {told}")
        listed = read_list(origin)
        if not partial:
            refuse_absent(listed, present, origin, self.frames)
        self.videos = {name: self.frames / name for name in listed if name in set(present)}
        refuse_other_counts(self, {self.split: len(self.videos)}, skipped=0)

    def frames_of(self, name: str) -> Sequence[Path]:
        """By name alone, one of four."""
        return files_in(self.videos[name], FRAME_SUFFIXES)[::_EVERY]

    def record(self, name: str) -> Record:
        """One video."""
        masks = [files_in(self.masks / name / number, [".png"]) for number in names_in(self.masks / name)]
        every = files_in(self.videos[name], FRAME_SUFFIXES)
        frames = every[::_EVERY]
        if [path.stem for path in every] != [f"{t:05d}" for t in range(len(every))]:
            raise UserError(
                f"{self.videos[name]}: its {len(every)} frames are not numbered from 0 without a gap"
            )
        if not frames or not any(masks):
            raise UserError(
                f"{self.masks / name}: holds no <object>/*.png for a frame of {self.videos[name]}"
            )
        read = bound(read_mask, binary=True)
        labels = [by_stem(frames, paths, read) for paths in masks]
        codes = tuple(tuple(None if m is None else _coded(m) for m in one) for one in labels)
        truth = Truth(image_size(frames[0]), len(frames), codes, (None,) * len(frames))
        return Record(name, self.split, encoded(frames), fps=_RATE / _EVERY, objects=truth)


class YouTubeVos(VideoByVideo):
    """`SOURCE/<split>/{JPEGImages,Annotations}/<video>` and `SOURCE/<split>/meta.json`.

    `splits`: the first must be there, the others are taken if they are. `sparse`: those whose masks show
    first appearances alone: frames without a mask are allowed there, and where one is, it need not
    show the objects that came before. Objects may start late.
    """

    def __init__(
        self,
        source: Path,
        *,
        splits: Sequence[str],
        sparse: Sequence[str],
        published: Mapping[str, int] | None,
        partial: bool,
    ) -> None:
        super().__init__(source, partial=partial)
        self.sparse = list(sparse)
        need(source / splits[0] / "JPEGImages", f"{_VOS}, so that {', '.join(splits)} are in {source}")
        there = [split for split in splits if (source / split / "JPEGImages").is_dir()]
        self.published = {split: n for split, n in (published or {}).items() if split in there}
        found = {split: names_in(source / split / "JPEGImages") for split in there}
        refuse_other_counts(self, {split: len(videos) for split, videos in found.items()}, skipped=0)
        self.videos = distinct((split, video) for split, videos in found.items() for video in videos)
        self.meta = {split: _objects(source / split / "meta.json") for split in there}

    def frames_of(self, name: str) -> Sequence[Path]:
        """By name alone."""
        split, video = self.videos[name]
        return files_in(self.source / split / "JPEGImages" / video, FRAME_SUFFIXES)

    def record(self, name: str) -> Record:
        """One video."""
        split, video = self.videos[name]
        frames, folder = self.frames_of(name), self.source / split / "Annotations" / video
        if not frames:
            raise UserError(f"{self.source / split / 'JPEGImages' / video}: no frames")
        masks = by_stem(frames, files_in(folder, [".png"]), bound(read_mask, binary=False))
        lacking = [path.name for path, mask in zip(frames, masks, strict=True) if mask is None]
        if lacking and split not in self.sparse:
            raise UserError(
                f"{folder}: {len(lacking)} of {len(frames)} frames have no mask, such as {lacking[0]}"
            )
        classes = self._classes(split, video, max((int(m.max()) for m in masks if m is not None), default=0))
        truth = masks if len(lacking) < len(frames) else None
        return Record(name, split, encoded(frames), masks=truth, classes=classes)

    def _classes(self, split: str, video: str, most: int) -> list[str] | None:
        """By meta.json; an object that it does not name is an error, one of no class has the class ''."""
        path, meta = self.source / split / "meta.json", self.meta[split]
        if not meta:
            return None
        if video not in meta:
            raise UserError(f"{path}: has no video {video}")
        known = meta[video]
        if most > max(known, default=0):
            raise UserError(f"{path}: names no object {most} of video {video}, which its masks show")
        return [known.get(number, "") for number in range(1, max(known, default=0) + 1)]


def _objects(path: Path) -> dict[str, dict[int, str]]:
    """Classes of the objects of each video; none where there is no file. UserError."""
    if not path.is_file():
        return {}
    videos = read_json(path, _VOS).get("videos")
    if not isinstance(videos, dict):
        raise UserError(f"{path}: its videos must be a mapping, are {brief(videos)}")
    return {name: _numbered(path, name, video) for name, video in videos.items()}


def _numbered(path: Path, name: str, video: Any) -> dict[int, str]:
    objects = video.get("objects") if isinstance(video, dict) else None
    if not isinstance(objects, dict) or not all(key.isdecimal() and len(key) < 4 for key in objects):
        raise UserError(
            f"{path}: the objects of video {brief(name)} are no mapping of numbers: {brief(objects)}"
        )
    return {
        int(key): str(one.get("category") or "") if isinstance(one, dict) else ""
        for key, one in objects.items()
    }


def _truth(path: Path, masklets: Sequence[Sequence[Any]], size: tuple[int, int]) -> Truth:
    number = len(masklets[0])
    for t, codes in enumerate(masklets):
        if len(codes) != number:
            raise UserError(f"{path}: frame {t} has {len(codes)} objects, the first has {number}")
    objects = tuple(
        tuple(checked(codes[o], size, f"{path}: frame {t}, object {o}") for t, codes in enumerate(masklets))
        for o in range(number)
    )
    return Truth(size, len(masklets), objects, (None,) * len(masklets))


def _coded(mask: np.ndarray) -> RLE | None:
    from pycocotools import mask as coco

    return coco.encode(np.asfortranarray(mask.astype(np.uint8))) if mask.any() else None


def _jpeg(pixels: np.ndarray, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()
