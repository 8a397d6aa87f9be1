"""How alike the slots of two frames are: cosines, as pictures. The diagonal is temporal consistency."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from vocl.commands.pictures.overlay import spaced

CELL_PX, GAP_PX, LINE_PX = 14, 12, 18
PAIRS = 4  # of frames that follow each other, evenly spaced
NEGATIVE, POSITIVE = np.array([33, 102, 172]), np.array([178, 24, 43])  # the colours of -1 and 1; 0 is white


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Of slots ... k d with slots ... k d, as ... k k; 0 for a slot that is all zero."""
    return F.normalize(a.float(), dim=-1) @ F.normalize(b.float(), dim=-1).mT


def consistency(slots: Tensor) -> float:
    """Mean cosine of a slot with itself in the next frame; `slots` t k d of t > 1 frames."""
    return float(cosines(slots[:-1], slots[1:]).diagonal(dim1=-2, dim2=-1).mean())


def between_frames(slots: Tensor) -> np.ndarray:
    """A row of k x k matrices, uint8 h w 3: frames with their next, their mean over all, first with last.

    Rows of a matrix are slots of the earlier frame, columns those of the later; blue -1, white 0, red 1.
    """
    following, last = cosines(slots[:-1], slots[1:]), len(slots) - 1
    tiles = {f"{t}, {t + 1}": following[t] for t in spaced(last, PAIRS)}
    tiles |= {"mean t, t+1": following.mean(0), f"0, {last}": cosines(slots[0], slots[last])}
    font = ImageFont.load_default(size=11)
    side = slots.shape[1] * CELL_PX
    step = max(side, *(round(font.getlength(name)) for name in tiles)) + GAP_PX
    sheet = Image.new("RGB", (len(tiles) * step + GAP_PX, side + LINE_PX + GAP_PX), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (name, matrix) in enumerate(tiles.items()):
        x = GAP_PX + number * step
        draw.text((x, LINE_PX / 2), name, "black", font, anchor="lm")
        pixels = _coloured(matrix.numpy()).repeat(CELL_PX, 0).repeat(CELL_PX, 1)
        sheet.paste(Image.fromarray(pixels), (x, LINE_PX))
        draw.rectangle((x - 1, LINE_PX - 1, x + side, LINE_PX + side), outline=(150, 150, 150))
    return np.array(sheet)


def _coloured(matrix: np.ndarray) -> np.ndarray:
    """Cosines as colours, uint8 h w 3."""
    strength = np.abs(matrix).clip(0, 1)[..., None]
    colour = np.where(matrix[..., None] < 0, NEGATIVE, POSITIVE)
    return (255 + (colour - 255) * strength).round().astype(np.uint8)
