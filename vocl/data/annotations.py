"""Annotations that follow the frames through windows, sizes, mirror images and reversal; by kind.

Coordinates are continuous: pixel i of a row covers [i, i + 1), so a box from column 2 to column 4 has
left 2 and right 5, and x becomes width - x in a mirror image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vocl.data.transforms import Box
from vocl.interface import VOID

PADDED = ("points", "boxes")  # kinds whose number differs between videos: absent ones are not visible


@dataclass(frozen=True)
class Placement:
    """How frames came to the model: of `size`, cut to `box`, resized to `size_px`, then mirrored.

    `backwards`: shown from last to first (the values come in the order shown).
    """

    box: Box
    size_px: tuple[int, int]
    flipped: bool
    backwards: bool

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the model's input per pixel of the stored frame, along x and y."""
        return self.size_px[1] / self.box[3], self.size_px[0] / self.box[2]


def placed(value: np.ndarray, kind: str, at: Placement) -> Tensor:
    """An annotation t ... of kind `kind` (see `interface.Source`) in the frames that the model sees.

    Labels by the nearest pixel, values bilinear. Vectors are pixels per stored frame: they grow with
    the frame, and change sign where they point left or right in a mirror image, or back in time.
    Boxes are cut at the edge; points and boxes outside of what is seen are not visible.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(value))
    match kind:
        case "labels":
            return _labels(tensor, at)
        case "dense":
            return _values(tensor.float(), at)
        case "vectors":
            signs = torch.tensor([-1.0 if at.flipped else 1.0, 1.0]) * (-1 if at.backwards else 1)
            return _values(tensor.float(), at) * (torch.tensor(at.scale) * signs).view(2, 1, 1)
        case "points":
            return _points(tensor.float(), at)
        case "boxes":
            return _boxes(tensor.float(), at)
    raise AssertionError(kind)


def stacked(parts: Sequence[Tensor], kind: str) -> Tensor:
    """The annotations of several clips as those of one batch; fewer points or boxes are filled up."""
    if kind in PADDED:
        most = max(part.shape[1] for part in parts)
        parts = [F.pad(part, (0, 0, 0, most - part.shape[1])) for part in parts]
    return torch.stack(list(parts))


def in_fields(values: Mapping[str, Tensor]) -> dict[str, Any]:
    """Annotations by name as arguments of `Clip`: those that are no field of it are in `more`."""
    own = {name: value for name, value in values.items() if name in FIELDS}
    return own | {"more": {name: value for name, value in values.items() if name not in FIELDS}}


FIELDS = ("masks", "points", "boxes", "flow", "depth")


def boxes_of(labels: np.ndarray, number: int) -> np.ndarray:
    """Boxes t p 5 around the labels 1 to `number` = p of label maps t h w; absent ones are all 0."""
    boxes = np.zeros((len(labels), number, 5), np.float32)
    for t, frame in enumerate(labels):
        for label in np.unique(frame):
            if 0 < label <= number and label != VOID:
                rows, columns = np.nonzero(frame == label)
                boxes[t, label - 1] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1, 1
    return boxes


def _cut(maps: Tensor, at: Placement) -> Tensor:
    top, left, height, width = at.box
    return maps[..., top : top + height, left : left + width]


def _labels(labels: Tensor, at: Placement) -> Tensor:
    labels = _cut(labels, at)
    rows, columns = (
        ((torch.arange(new) + 0.5) * (old / new)).long().clamp(max=old - 1)
        for new, old in zip(at.size_px, labels.shape[-2:], strict=True)
    )
    labels = labels[:, rows[:, None], columns]
    return labels.flip(-1) if at.flipped else labels


def _values(values: Tensor, at: Placement) -> Tensor:
    values = _cut(values, at)
    if tuple(values.shape[-2:]) != at.size_px:
        values = F.interpolate(values, size=at.size_px, mode="bilinear", align_corners=False)
    return values.flip(-1) if at.flipped else values


def _points(points: Tensor, at: Placement) -> Tensor:
    x, y = ((points[..., i] - at.box[1 - i]) * at.scale[i] for i in range(2))
    inside = (x >= 0) & (x < at.size_px[1]) & (y >= 0) & (y < at.size_px[0])
    x = at.size_px[1] - x if at.flipped else x
    return torch.stack([x, y, points[..., 2] * inside], dim=-1)


def _boxes(boxes: Tensor, at: Placement) -> Tensor:
    shift = torch.tensor([at.box[1], at.box[0]] * 2)
    corners = (boxes[..., :4] - shift) * torch.tensor(at.scale * 2)
    left, top, right, bottom = corners.unbind(-1)
    left, right = left.clamp(0, at.size_px[1]), right.clamp(0, at.size_px[1])
    top, bottom = top.clamp(0, at.size_px[0]), bottom.clamp(0, at.size_px[0])
    visible = boxes[..., 4] * ((right > left) & (bottom > top))
    if at.flipped:
        left, right = at.size_px[1] - right, at.size_px[1] - left
    seen = torch.stack([left, top, right, bottom], dim=-1) * visible.unsqueeze(-1)
    return torch.cat([seen, visible.unsqueeze(-1)], dim=-1)
