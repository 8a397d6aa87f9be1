"""What the slots of a video do, in numbers: how many are used, and how alike they stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vocl.commands.pictures.overlay import spaced
from vocl.interface import VOID

FRAMES = 48  # at most so many of a video are compared with each other


def slot_facts(labels: np.ndarray, num_slots: int, slots: Tensor | None) -> dict[str, Any]:
    """Facts of a video as plain data; `labels` t h w, `slots` t k d where the model gives them.

    `used`: slots that win a pixel of the video, `used_per_frame` of each frame. Of the used slots:
    `frames` are some frames, evenly spaced, and `between_frames` how alike they are: the cosine of a slot
    in the one and in the other, mean over slots. `next_frame`: the cosine of slot i in a frame and slot j
    in the next, mean over frames; its diagonal is how much a slot stays itself. None without slots.
    """
    per_frame = [set(np.unique(frame).tolist()) - {VOID} for frame in labels]
    used = sorted(set().union(*per_frame))
    facts: dict[str, Any] = {
        "num_slots": num_slots,
        "used": len(used),
        "used_per_frame": [len(found) for found in per_frame],
        "frames": spaced(len(labels), FRAMES),
        "between_frames": None,
        "next_frame": None,
    }
    if slots is None or not used:
        return facts
    unit = F.normalize(slots[:, used].float(), dim=-1)
    some = unit[facts["frames"]]
    facts["between_frames"] = _plain(torch.einsum("tkd,skd->ts", some, some) / len(used))
    if len(unit) > 1:
        facts["next_frame"] = _plain(torch.einsum("tid,tjd->ij", unit[:-1], unit[1:]) / (len(unit) - 1))
    return facts


def _plain(matrix: Tensor) -> list[list[float]]:
    return [[round(value, 4) for value in row] for row in matrix.tolist()]
