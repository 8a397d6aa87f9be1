"""YouTube-VIS 2019 and 2021, HQ-YTVIS and OVIS: frames as JPEG, masks in a JSON of run-length codes."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Le
from PIL import Image

from vocl.data.convert.coco import Annotations, read_annotations
from vocl.data.convert.converter import Split, dev_splits, refuse_other_counts
from vocl.data.convert.trees import VideoByVideo, encoded, refuse_special
from vocl.data.images import by, image_size, read_frame
from vocl.data.store.record import Record
from vocl.data.truth import RLE, Truth
from vocl.errors import UserError

FPS = 6.0  # every fifth frame of 30 a second is listed
_FILTERS = {"nearest": Image.Resampling.NEAREST, "bicubic": Image.Resampling.BICUBIC}


class YouTubeVis(VideoByVideo):
    """Videos of annotation files: `parts` says of each split its `annotations` and folder of `frames`.

    The first part must be there, the others are taken if their annotations are. Objects keep their
    order in the file and may overlap; crowds are left out, as the published loaders do. A video is
    called as its folder is. `short_px`: frames are resized to so short a side by `resize`, the other one
    is rounded down, and stored as JPEG of `quality` (4:4:4), or as PNG where that is None; masks are
    always resized from the native ones, to the nearest pixel. None: frames stay as they are.
    """

    def __init__(
        self,
        source: Path,
        *,
        parts: Mapping[str, Mapping[str, str]],
        download: str,
        fps: float | None,
        short_px: Annotated[int, Ge(1)] | None,
        resize: Literal["nearest", "bicubic"],
        quality: Annotated[int, Ge(1), Le(100)] | None,
        published: Mapping[str, int] | None,
        partial: bool,
    ) -> None:
        super().__init__(source, partial=partial)
        self.download, self.fps = download, fps
        self.short_px, self.resize, self.quality = short_px, str(resize), quality
        self.parts = {name: dict(part) for name, part in parts.items()}
        first, *others = self.parts
        there = [first, *(name for name in others if (source / self.parts[name]["annotations"]).is_file())]
        self.published = {name: n for name, n in (published or {}).items() if name in there}
        self.listed = {name: self._names(name) for name in there}
        refuse_other_counts(self, {name: len(videos) for name, videos in self.listed.items()}, skipped=0)
        self.videos = {
            video: (part, place) for part, videos in self.listed.items() for place, video in enumerate(videos)
        }
        if len(self.videos) != sum(map(len, self.listed.values())):
            raise UserError(f"{source}: two of {', '.join(there)} list the same video")

    def annotation(self) -> Path:
        """The file of the first part."""
        return self._path(next(iter(self.listed)))

    def frames_of(self, name: str) -> Sequence[Path]:
        """As the annotation says."""
        part, place = self.videos[name]
        return self._annotations(part).files(place, self.source / self.parts[part]["frames"])

    def record(self, name: str) -> Record:
        """One video."""
        part, place = self.videos[name]
        annotations = self._annotations(part)
        files = self.frames_of(name)
        for path in files:
            refuse_special(path)
        truth, classes = annotations.truth(place, len(files))
        if (found := image_size(files[0])) != (size := annotations.size(place)):
            raise UserError(f"{files[0]}: {by(found)} pixels; {annotations.path} says {by(size)}")
        frames = encoded(files)
        if self.short_px is not None:
            to = _scaled(size, self.short_px)
            frames = [self._resized(path, to) for path in files]
            truth = None if truth is None else _nearest(truth, to)
        more = {"native_size": list(size)}
        return Record(name, part, frames, fps=self.fps, objects=truth, classes=classes, more=more)

    def splits(self, found: Mapping[str, Sequence[str]]) -> dict[str, Split]:
        """The release's, in the order of its annotations, and `dev`."""
        every = {
            part: self.split(found, part, names, "of the dataset") for part, names in self.listed.items()
        }
        return every | (dev_splits(every["train"]) if "train" in every else {})

    def split(self, found: Mapping[str, Sequence[str]], part: str, names: Iterable[str], rule: str) -> Split:
        """Those of `names` that are stored of a part."""
        stored = set(found.get(part, ()))
        return Split([name for name in names if name in stored], rule)

    def _names(self, part: str) -> list[str]:
        annotations = self._annotations(part)
        if annotations.strangers and not self.partial:
            raise UserError(
                f"{annotations.path}: {annotations.strangers} annotations are of no video of it; download it "
                "again, or do without them with convert.partial=true"
            )
        return annotations.names()

    def _path(self, part: str) -> Path:
        return self.source / self.parts[part]["annotations"]

    def _annotations(self, part: str) -> Annotations:
        frames = self.source / self.parts[part]["frames"]
        told = f"download {self.download}, so that annotations are there and frames in {frames}"
        return read_annotations(self._path(part), told)

    def _resized(self, path: Path, size: tuple[int, int]) -> bytes:
        buffer = io.BytesIO()
        image = Image.fromarray(read_frame(path)).resize(size[::-1], _FILTERS[self.resize])
        if self.quality is None:
            image.save(buffer, "PNG")
        else:
            image.save(buffer, "JPEG", quality=self.quality, subsampling=0)
        return buffer.getvalue()


class YouTubeVis2019(YouTubeVis):
    """Splits of papers: `validation` is the 300 training videos from position 600 on, `train` the others.

    `solv_train` has all videos, also those (SOLV trains on frames of its evaluation), `interpreter_train`
    all but those; `tfds_*` are TFDS's ranges of the training list. Only of the whole training list.
    """

    def splits(self, found: Mapping[str, Sequence[str]]) -> dict[str, Split]:
        """Those of the class's description; `dev` is cut from `train`."""
        every, names = super().splits(found), self.listed["train"]
        if len(names) != self.published.get("train"):
            return every
        rest = [*names[:600], *names[900:]]
        whole = [name for part in self.listed for name in every[part].videos]
        held = set(names[600:900])
        every |= {
            "validation": self.split(
                found, "train", names[600:900], "positions 600 to 899 of the training list"
            ),
            "train": self.split(found, "train", rest, "the training list without validation"),
            "solv_train": Split(whole, "every video, also those of validation: SOLV trains on their frames"),
            "interpreter_train": Split([n for n in whole if n not in held], "every video but validation"),
        }
        for name, start, stop in (("train", 0, 1838), ("validation", 1838, 2038), ("test", 2038, 2238)):
            rule = f"positions {start} to {stop - 1} of the training list, as TFDS has it"
            every[f"tfds_{name}"] = self.split(found, "train", names[start:stop], rule)
        return every | dev_splits(every["train"])


class YouTubeVis2021(YouTubeVis):
    """Splits of papers: `validation` is the last 300 training videos, `train` the others.

    `validation_first210` are those of the 300 that SlotContrast's and SlotCurri's published numbers
    count. Only of the whole training list.
    """

    def splits(self, found: Mapping[str, Sequence[str]]) -> dict[str, Split]:
        """Those of the class's description; `dev` is cut from `train`."""
        every, names = super().splits(found), self.listed["train"]
        if len(names) != self.published.get("train"):
            return every
        held = names[-300:]
        every |= {
            "validation": self.split(found, "train", held, "the last 300 of the training list"),
            "validation_first210": self.split(found, "train", held[:210], "the first 210 of validation"),
            "train": self.split(found, "train", names[:-300], "the training list without its last 300"),
        }
        return every | dev_splits(every["train"])


def _scaled(size: tuple[int, int], short: int) -> tuple[int, int]:
    long = max(size) * short // min(size)
    return (short, long) if size[0] <= size[1] else (long, short)


def _nearest(truth: Truth, size: tuple[int, int]) -> Truth:
    objects = tuple(tuple(_nearest_mask(code, size) for code in codes) for codes in truth.objects)
    return Truth(size, truth.length, objects, truth.void)


def _nearest_mask(code: RLE | None, size: tuple[int, int]) -> RLE | None:
    from pycocotools import mask as coco

    if code is None:
        return None
    image = Image.fromarray(coco.decode(code)).resize(size[::-1], Image.Resampling.NEAREST)
    mask: Any = np.asfortranarray(np.asarray(image))
    return coco.encode(mask) if mask.any() else None
