"""What a decoder is to reconstruct, where it is neither the backbone's features nor the frames."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from annotated_types import Gt
from torch import Tensor

from vocl.interface import Context
from vocl.ops.narrow import given


class Target:
    """An image b t c h w out of the annotations of a clip, which `needs` names; `channels` is c."""

    needs: ClassVar[frozenset[str]]
    only_in_training: ClassVar[bool] = True
    channels: ClassVar[int]

    def __call__(self, *, context: Context) -> Tensor:
        raise NotImplementedError


class Flow(Target):
    """Optical flow, x and y, in units of `scale_px` pixels per frame (SAVi rebuilds it as a colour)."""

    needs: ClassVar[frozenset[str]] = frozenset({"clip.flow"})
    channels: ClassVar[int] = 2

    def __init__(self, *, scale_px: Annotated[float, Gt(0)]) -> None:
        self.scale_px = scale_px

    def __call__(self, *, context: Context) -> Tensor:
        return given(context.clip.flow) / self.scale_px


class Depth(Target):
    """log(1 + depth / `scale`), as in SAVi++ (Elsayed et al., NeurIPS 2022)."""

    needs: ClassVar[frozenset[str]] = frozenset({"clip.depth"})
    channels: ClassVar[int] = 1

    def __init__(self, *, scale: Annotated[float, Gt(0)]) -> None:
        self.scale = scale

    def __call__(self, *, context: Context) -> Tensor:
        return torch.log1p(given(context.clip.depth) / self.scale)
