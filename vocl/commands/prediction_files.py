"""The files of a prediction: each kind of output writes what it is given window by window."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import torch
from torch import Tensor

from vocl.commands.pictures.overlay import OverlayWriter, blend, spaced, write_label_map, write_picture
from vocl.commands.pictures.sheet import SHEET, picture
from vocl.commands.segmented import Segmented
from vocl.data.reader import VideoReader
from vocl.files import atomic_path, write_json
from vocl.interface import VOID

FOLDER_FPS = 10.0  # of the overlay of a folder of frames, which has no clock
OPACITY = 0.55  # of the overlay video


class Output:
    """A file, or a folder of files, of a prediction. Within its block it is written window by window."""

    name: str

    def __init__(self, folder: Path, video: VideoReader, number: int) -> None:
        self.path, self.video, self.number = folder / self.name, video, number

    def __enter__(self) -> Self:
        return self

    def write(self, window: Segmented) -> None:
        """Take the next window."""
        raise NotImplementedError

    def finish(self) -> None:
        """Write what is known at the end alone."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finish()


class Labels(Output):
    """A label map per frame."""

    name = "labels"

    def write(self, window: Segmented) -> None:
        for number, label in enumerate(window.labels, window.start):
            write_label_map(self.path / f"{number:05d}.png", label)


class Overlay(Output):
    """The video with the slots' colours over it, at the times and with the shape of pixels of the source."""

    name = "overlay.mp4"

    def __enter__(self) -> Self:
        video, self._stack = self.video, ExitStack()
        writer = OverlayWriter(self.path, video.fps or FOLDER_FPS, video.pixel_aspect)
        self._writer, self._outline = self._stack.enter_context(writer), max(1, round(min(video.size) / 360))
        return self

    def write(self, window: Segmented) -> None:
        times = self.video.uneven_times
        shown = None if times is None else times[window.start : window.start + len(window.frames)]
        self._writer.write(blend(window.frames, window.labels, OPACITY, self._outline), shown)

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)


class Sheet(Output):
    """A picture of a few frames."""

    name = "sheet.png"

    def __enter__(self) -> Self:
        self._shown = spaced(self.video.length, SHEET["columns"])
        self._kept: list[tuple[np.ndarray, np.ndarray]] = []
        return self

    def write(self, window: Segmented) -> None:
        here = [n - window.start for n in self._shown if 0 <= n - window.start < len(window.frames)]
        self._kept += [(window.frames[n].copy(), window.labels[n].copy()) for n in here]

    def finish(self) -> None:
        frames, labels = (np.stack(images) for images in zip(*self._kept, strict=True))
        write_picture(self.path, picture(frames, {"slots": labels}, None, self._shown, self.video.name))


class Arrays(Output):
    """An .npz with an array of t frames, which is written as it comes, and small ones."""

    array: str

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        temporary = self._stack.enter_context(atomic_path(self.path))
        packed = zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED)
        self._zip = self._stack.enter_context(packed)
        self._entry: IO[bytes] | None = None
        self._small: dict[str, np.ndarray] = {}
        return self

    def write(self, window: Segmented) -> None:
        part = np.ascontiguousarray(self.part(window))
        if self._entry is None:
            self._small = dict(self.small(window))
            self._entry = self._zip.open(f"{self.array}.npy", "w", force_zip64=True)
            shape = (self.video.length, *part.shape[1:])
            header = {"descr": part.dtype.str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(self._entry, header)
        self._entry.write(part.data)

    def part(self, window: Segmented) -> np.ndarray:
        """The array's values for a window."""
        raise NotImplementedError

    def small(self, window: Segmented) -> Mapping[str, np.ndarray]:
        """Further arrays by name, of the first window."""
        return {}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._entry is not None:
            self._entry.close()
        if error is None:
            for name, array in self._small.items():
                with self._zip.open(f"{name}.npy", "w") as entry:
                    np.lib.format.write_array(entry, array)
        self._stack.__exit__(kind, error, trace)


class PackedLabels(Arrays):
    """`labels` uint8 t h w."""

    name, array = "labels.npz", "labels"

    def part(self, window: Segmented) -> np.ndarray:
        return window.labels


class Soft(Arrays):
    """Soft masks `masks` uint8 t k n, 255 is 1, and their `grid`: rows and columns of the n patches."""

    name, array = "soft.npz", "masks"

    def part(self, window: Segmented) -> np.ndarray:
        return (window.masks.float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()

    def small(self, window: Segmented) -> Mapping[str, np.ndarray]:
        return {"grid": np.array(window.grid, np.int64)}


class Slots(Arrays):
    """`slots` float32 t k d."""

    name, array = "slots.npz", "slots"

    def part(self, window: Segmented) -> np.ndarray:
        assert window.slots is not None  # only asked of models that give them
        return window.slots.float().cpu().numpy()


class Rle(Output):
    """The slots' masks as results of YouTube-VIS: run lengths per slot and frame, null where it has no pixel.

    The score of a slot is the mean of its soft mask where it wins; slots that win no pixel are left out.
    """

    name = "rle.json"

    def __enter__(self) -> Self:
        self._codes: list[list[dict[str, Any] | None]] = []
        self._sums: Tensor | None = None
        return self

    def write(self, window: Segmented) -> None:
        k = window.masks.shape[1]
        for label in window.labels:
            present = set(np.unique(label).tolist()) - {VOID}
            self._codes.append([_code(label == slot) if slot in present else None for slot in range(k)])
        best = window.masks.float().max(dim=1, keepdim=True).values
        won = window.masks.float() * (window.masks >= best)
        sums = torch.stack([won.sum((0, 2)), (won > 0).sum((0, 2))]).cpu()
        self._sums = sums if self._sums is None else self._sums + sums

    def finish(self) -> None:
        assert self._sums is not None, "a video has a frame"
        scores = (self._sums[0] / self._sums[1].clamp_min(1)).tolist()
        results = []
        for score, codes in zip(scores, zip(*self._codes, strict=True), strict=True):
            if any(codes):
                found = {"video_id": self.number, "category_id": 1, "score": round(score, 6)}
                results.append(found | {"segmentations": list(codes)})
        with atomic_path(self.path) as temporary:
            temporary.write_text(json.dumps(results))


def _code(mask: np.ndarray) -> dict[str, Any]:
    from pycocotools import mask as coco

    counts = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    return {"size": list(mask.shape), "counts": counts if isinstance(counts, str) else counts.decode()}


OUTPUTS: dict[str, type[Output]] = {
    "labels": Labels,
    "overlay": Overlay,
    "sheet": Sheet,
    "soft": Soft,
    "slots": Slots,
    "rle": Rle,
    "npz": PackedLabels,
}


def write_facts(folder: Path, video: VideoReader, facts: Mapping[str, Any]) -> None:
    """Write `video.json`: which frames of the source the numbers in the other files mean, and when they
    are shown."""
    times = None if video.times is None else [round(float(t), 6) for t in video.times]
    said = {
        "video": str(video.path),
        "height": video.size[0],
        "width": video.size[1],
        "pixel_aspect": str(video.pixel_aspect),
        "fps": video.fps,
        "frames": video.indices.tolist(),
        "times": times,
    }
    write_json(folder / "video.json", {**said, **facts})
