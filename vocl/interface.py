"""The contracts every part of vocl is written against: read this first.

One legend of letters for the whole project:

    b clips   t frames   k slots   n patches   d slot width   e feature width
    c h w image          p points

A method is a composition: a `Backbone` makes `Features`, a `VideoModel` turns a `Clip` into an
`Output`, losses read `Output` and `Clip` and nothing else, an evaluation calls `segment` and
nothing else. No part knows the name of a method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

VOID = 255  # label of pixels that no score may count


class Grid(NamedTuple):
    """Layout of the n = rows * columns patches of a frame, row by row."""

    rows: int
    columns: int


@dataclass
class Features:
    """What a backbone says about frames: `tokens` b t n e; `keys` b t n e of its last attention."""

    tokens: Tensor
    grid: Grid
    keys: Tensor | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Features:
        """The same features on `device`."""
        moved = {
            k: v.to(device, non_blocking=non_blocking) for k, v in vars(self).items() if isinstance(v, Tensor)
        }
        return replace(self, **moved)


@dataclass
class Clip:
    """A batch of video clips. An annotation that is missing is None, never a dummy tensor."""

    video: Tensor  # b t c h w   float32, normalised
    valid: Tensor  # b t         bool, False on padding
    key: Tensor  # b           int64: all randomness of a clip is drawn from (key, tag), see ops/random.py
    names: tuple[str, ...]
    masks: Tensor | None = None  # b t h w     uint8, 0 background, 255 ignore; never read by a score
    points: Tensor | None = None  # b t p 3     x, y in pixels; visible 0/1
    flow: Tensor | None = None  # b t 2 h w   pixels per frame
    features: Features | None = None  # cached output of a frozen backbone

    def to(self, device: torch.device | str) -> Clip:
        """The same clip with its tensors on `device`."""
        fields = {k: v for k, v in vars(self).items() if isinstance(v, Tensor | Features)}
        return replace(self, **{k: v.to(device, non_blocking=True) for k, v in fields.items()})


@dataclass
class Output:
    """What a model computes on a clip in training. Methods subclass it for fields of their own.

    Recursive: a hierarchy has `children`, a student has a `teacher`. A field that a model does
    not compute is None; a model's class attribute `provides` names those it does.
    """

    slots: Tensor  # b t k d   after the corrector
    attn: Tensor  # b t k n   competition of the slots for the patches, sums to 1 over k
    grid: Grid
    features: Tensor | None = None  # b t n e   of the backbone, as the losses may see them
    target: Tensor | None = None  # what the decoder is to reconstruct, detached: b t n e or b t c h w
    recon: Tensor | None = None  # same shape as target
    masks: Tensor | None = None  # b t k n   decoder weights, sum to 1 over k
    keys: Tensor | None = None  # b t n e   keys of the backbone's last block
    predicted: Tensor | None = None  # b t k d   the predictor's slots for the next frame
    active: Tensor | None = None  # b k       bool, slots in use
    parent: Tensor | None = None  # b k       index of a slot's parent
    children: Output | None = None
    teacher: Output | None = None


@dataclass
class Segments:
    """What a model says about a video: soft masks on the patch grid, and how to go on."""

    masks: Tensor  # b t k n   soft
    grid: Grid
    exclusive: bool = True  # True: the label of a pixel is the argmax over k
    scores: Tensor | None = None  # b t k
    parent: Tensor | None = None  # k
    carry: Any = None  # state after the last frame: give it back to `segment` with the next window


@dataclass(frozen=True, kw_only=True)
class SegmentOptions:
    """How a video is unrolled in an evaluation; not part of a run's identity."""

    cyclic: bool
    iterations: int | None  # slot-attention iterations per frame; None: as trained
    seed: int


class Backbone(nn.Module):
    """Frames to patch features. Subclasses set `dim` (e), `patch_px`, and `keys` if they give them."""

    dim: int
    patch_px: int
    keys: bool = False
    drops_tokens: ClassVar[bool] = False  # whether `keep` is built in

    def forward(self, video: Tensor, keep: Tensor | None = None) -> Features:
        """`video` b t c h w; `keep` b t m: indices of the patches kept, for token drop."""
        raise NotImplementedError

    def grid(self, size_px: tuple[int, int]) -> Grid:
        """The patch grid of a frame of `size_px` = (height, width) pixels."""
        return Grid(size_px[0] // self.patch_px, size_px[1] // self.patch_px)


class VideoModel(nn.Module):
    """A method's network. `provides` names the fields of its `Output` that are not None."""

    provides: ClassVar[frozenset[str]]
    output_frames: ClassVar[int | None] = None  # t of its `Output`; None: that of the clip

    def begin(self, stage: Any, step: int) -> None:
        """Set what depends on the stage. Pure and idempotent: called before every forward."""

    def forward(self, clip: Clip) -> Output:
        """The training forward pass."""
        raise NotImplementedError

    def segment(self, clip: Clip, options: SegmentOptions, carry: Any = None) -> Segments:
        """The only door for evaluation. With `carry`, `clip` continues an earlier window."""
        raise NotImplementedError

    def embed(self, clip: Clip) -> Tensor:
        """Dense features b t n e, for label propagation."""
        raise NotImplementedError

    def after_step(self, step: int) -> None:
        """Called after each applied update: EMA teachers live here."""


@runtime_checkable
class Loss(Protocol):
    """A term of the objective: reads `Output` and `Clip`, returns a scalar. May be an nn.Module.

    `needs` names fields of `Output`; "{of}" stands for the field that the term's setting `of` names.
    """

    needs: ClassVar[frozenset[str]]

    def __call__(self, output: Output, clip: Clip) -> Tensor: ...


class Schedule(Protocol):
    """A pure function of the step."""

    def __call__(self, step: int) -> float: ...


class Event(Protocol):
    """Something that happens on entering a stage. All its state is in `state_dict`."""

    def observe(self, step: int, output: Output) -> None: ...
    def apply(self, model: VideoModel, step: int) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Video(Protocol):
    """One video of a source; frames are decoded when asked for."""

    name: str
    length: int  # frames
    size: tuple[int, int]  # height, width in pixels

    def frames(self, indices: Sequence[int]) -> np.ndarray:
        """Frames `indices` as uint8 t h w 3 (RGB)."""
        ...


class Source(Protocol):
    """A named split of a dataset: videos by index, and what is true about them. Subclass it."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Video: ...
    def truth(self, name: str) -> Any | None:
        """`vocl.data.truth.Truth` of the video `name`; None when it has no annotation."""
        ...

    def check(self) -> None:
        """Look at every file once before a long run starts; raises `UserError` for a bad one."""
