"""A scoring protocol: the choices that make two numbers of one name comparable, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How masks meet truth.

    `resolution`: scores count points of the truth's own pixels ("truth"), or of the model's input
    ("input", truth resized by nearest-exact). `overlap`: points that several objects claim are void
    ("drop"), the last object's ("paint") or refused ("error"). `empty`: a frame or video without
    foreground is left out of the foreground ARI ("skip") or counts as 1.0 ("one").
    """

    name: str
    resolution: Literal["truth", "input"]
    overlap: Literal["drop", "paint", "error"]
    empty: Literal["skip", "one"]
