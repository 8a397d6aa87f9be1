"""The colours of labels, the same in every picture."""

from __future__ import annotations

import colorsys
from functools import cache

import numpy as np

# The first seven are those of Okabe and Ito (2008); the others were picked to be far from all before
# them in CIELAB as seen with full colour vision, without red and without green cones.
_COLOURS = (
    "e69f00 56b4e9 009e73 f0e442 0072b2 d55e00 cc79a7 7828f0 c8f0a0 f00050 50f0f0 5078f0 "
    "a02878 c8a050 f0a0a0 00f0c8 c80000 a0f078 c800a0 78c878 a000c8 c8c850 f000f0 507850"
)
_VOID_COLOUR = (224, 224, 224)


def palette(count: int = 256) -> np.ndarray:
    """`count` colours as uint8 count 3: the same label has the same colour in every picture, 255 is grey."""
    assert 0 < count <= 256, count
    return _palette()[:count].copy()


@cache
def _palette() -> np.ndarray:
    colours = [tuple(bytes.fromhex(code)) for code in _COLOURS.split()]
    for index in range(len(colours), 255):
        hue = index * 0.618034 % 1  # golden ratio: neighbours in number are far in hue
        channels = colorsys.hsv_to_rgb(hue, (0.85, 0.5)[index % 2], (0.95, 0.7, 0.45)[index % 3])
        colours.append(tuple(round(255 * c) for c in channels))
    return np.array([*colours, _VOID_COLOUR], np.uint8)
