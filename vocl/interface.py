"""The contracts every part of vocl is written against: read this first.

One legend of letters for the whole project:

    b clips   t frames   k slots   n patches   d slot width   e feature width
    c h w image          p points

A method is a composition: a `Backbone` makes `Features`, a `VideoModel` turns a `Clip` into an
`Output`, losses read `Output` and `Clip` and nothing else, an evaluation calls `segment` or `embed`
and nothing else. No part knows the name of a method.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from vocl.measure import Measure

if TYPE_CHECKING:
    from vocl.config.sections import Dataset

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
        return self.mapped(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Features:
        """The same features with `change` of each tensor."""
        changed: dict[str, Any] = {k: change(v) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **changed)


@dataclass
class Clip:
    """A batch of video clips. An annotation that is missing is None, never a dummy tensor.

    `video` too is None where features are cached and nothing reads pixels (no frame is decoded
    then): a loss or a part that reads it names "clip.video" in its `needs`, a model says
    `reads_video`. `valid` has the shape b t and the device in any case.
    """

    video: Tensor | None  # b t c h w   float32, normalised
    valid: Tensor  # b t         bool, False on padding
    key: Tensor  # b           int64: all randomness of a clip is drawn from (key, tag), see ops/random.py
    names: tuple[str, ...]
    frames: Tensor | None = None  # b t         int64: index of each frame in its video
    flipped: Tensor | None = None  # b           bool: mirrored left to right
    views: tuple[Tensor, ...] = ()  # each b t c h w: the same frames under other augmentations
    masks: Tensor | None = None  # b t h w     uint8, 0 background, 255 ignore; never read by a score
    points: Tensor | None = None  # b t p 3     x, y in pixels; visible 0/1
    boxes: Tensor | None = None  # b t p 5     left, top, right, bottom in pixels; visible 0/1
    flow: Tensor | None = None  # b t 2 h w   pixels per frame, x first
    depth: Tensor | None = None  # b t 1 h w   in the unit of the source
    more: Mapping[str, Tensor] = field(default_factory=dict)  # annotations that only a project's source has
    features: Features | None = None  # of the frozen backbone, as it would give them, from the cache

    def to(self, device: torch.device | str) -> Clip:
        """The same clip with its tensors on `device`; from pinned memory they come while others are used."""
        return self.mapped(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Clip:
        """The same clip in memory that a GPU can read by itself; torch's `DataLoader` calls this."""
        return self.mapped(Tensor.pin_memory)

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Clip:
        """The same clip with `change` of each tensor."""

        def changed(value: Any) -> Any:
            if isinstance(value, Tensor):
                return change(value)
            if isinstance(value, Features):
                return value.mapped(change)
            if isinstance(value, tuple):
                return tuple(changed(item) for item in value)
            return {k: changed(item) for k, item in value.items()} if isinstance(value, Mapping) else value

        return replace(self, **{name: changed(value) for name, value in vars(self).items()})


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
    extra: Mapping[str, Tensor] | None = None  # by name, what the model's parts give beside these


@dataclass
class Context:
    """What a part of a model may read beside its own arguments; it declares which fields in `needs`.

    A part whose class attribute `needs` (a frozenset of field names, such as "features" or
    "clip.boxes") is not empty is called with a further argument `context=`. Frame by frame, `frame`
    and `slots` say where the model is; a field that does not exist yet is None. `extra` has what
    parts gave so far, and may be added to: what stands there in the end is `Output.extra`. A part
    names what it adds in its class attribute `provides`.
    """

    clip: Clip
    features: Tensor | None = None  # b t n e   of the backbone
    inputs: Tensor | None = None  # b t n d   features as the adapter gives them to the corrector
    grid: Grid | None = None
    target: Tensor | None = None  # what the decoder is to reconstruct: b t n e or b t c h w
    slots: tuple[Tensor, ...] = ()  # each b k d: corrected slots of this clip's frames before this one
    frame: int | None = None  # index in the clip of the frame at hand
    extra: dict[str, Tensor] = field(default_factory=dict)

    def call(self, part: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call a part of a model; one that declares that it `needs` something gets this context too."""
        if getattr(part, "needs", frozenset()):
            options["context"] = self
        return part(*arguments, **options)


@dataclass
class Corrected:
    """What a corrector says of a frame: `slots` b k d, `attn` b k n, and by name whatever else it gives.

    Each tensor of `extra` (b ...) is stacked over the frames and stands in `Output.extra` as b t ...
    """

    slots: Tensor
    attn: Tensor
    extra: Mapping[str, Tensor] = field(default_factory=dict)


class Corrector(Protocol):
    """What refines the slots of a frame: a module with rounds of its own for a video's first frame."""

    first_iterations: int
    iterations: int

    def prepare(self, inputs: Tensor) -> Tensor:
        """What slots compete for, b t n d, from adapted features b t n d."""
        ...

    def __call__(
        self, slots: Tensor, features: Tensor, iterations: int
    ) -> tuple[Tensor, Tensor] | Corrected: ...


@dataclass
class Segments:
    """What a model says about a video: soft masks on the patch grid, and how to go on."""

    masks: Tensor  # b t k n   soft
    grid: Grid
    exclusive: bool = True  # True: the label of a pixel is the argmax over k
    scores: Tensor | None = None  # b t k
    parent: Tensor | None = None  # k
    slots: Tensor | None = None  # b t k d
    carry: Any = None  # state after the last frame: give it back to `segment` with the next window


@dataclass(frozen=True, kw_only=True)
class SegmentOptions:
    """How a video is unrolled in an evaluation; not part of a run's identity."""

    cyclic: bool
    iterations: int | None  # slot-attention iterations per frame; None: as trained
    seed: int
    # Which masks are scored, where a model has both; None: the model's own choice. It came after the
    # others, so calls without it stay valid.
    masks: Literal["decoder", "attention"] | None = None


class Backbone(nn.Module):
    """Frames to patch features. Subclasses set `dim` (e), `patch_px`, and `keys` if they give them.

    `frames_per_token`: consecutive frames that one token spans; `forward` then gives t / that many
    frames of tokens, and is only called with multiples of it. `drop_path`: rate of stochastic depth;
    above 0, `forward` takes `key` (b) in training, from which it is drawn.
    """

    dim: int
    patch_px: int
    keys: bool = False
    drops_tokens: bool = False  # whether `keep` is built in
    any_size: ClassVar[bool] = False  # whether it takes frames of other sizes than it was built for
    frames_per_token: ClassVar[int] = 1
    # Whether, while nothing of it trains, a frame gets the same bits whatever else is in the batch (see
    # vocl/nn/backbones/framewise.py): only then may its features be cached.
    framewise: ClassVar[bool] = False
    drop_path: float = 0.0

    def forward(self, video: Tensor, keep: Tensor | None = None) -> Features:
        """`video` b t c h w; `keep` b t m: indices of the patches kept, for token drop."""
        raise NotImplementedError

    def grid(self, size_px: tuple[int, int]) -> Grid:
        """The patch grid of a frame of `size_px` = (height, width) pixels."""
        return Grid(size_px[0] // self.patch_px, size_px[1] // self.patch_px)


class VideoModel(nn.Module):
    """A method's network. `provides` names the fields of its `Output` that are not None.

    A field of a level is named with a dot: "children.recon". `needs` names what it reads of the
    clip, such as "clip.boxes". `answers` names what an evaluation may ask for: fields of its `Segments`
    that are not None, "embed" and "rollout" (`roll_out`); `any_size` those of them that it also gives
    for frames of another size than it was built for, if its backbone takes them. All are read from the
    source before anything is imported.

    `reads_features`: `encode` is all that it asks its backbone, so features may come with the clip.
    `reads_video` False: then it does not look at `clip.video`, which may be None.
    `one_frame_per_token`: a backbone whose tokens span several frames is refused.
    """

    provides: ClassVar[frozenset[str]]
    needs: ClassVar[frozenset[str]] = frozenset()
    answers: ClassVar[frozenset[str]] = frozenset({"masks"})
    any_size: ClassVar[frozenset[str]] = frozenset()
    output_frames: ClassVar[int | None] = None  # t of its `Output`; None: that of the clip
    whole_video: ClassVar[bool] = False  # `segment` needs all frames of a video at once, whatever the window
    reads_features: ClassVar[bool] = False
    one_frame_per_token: ClassVar[bool] = False
    reads_video: bool = True
    backbone: Backbone

    def encode(self, clip: Clip) -> Features:
        """The backbone's features of all frames of `clip`: the clip's own, where it brings them.

        A token that spans several frames stands for each of them; a clip whose length is no multiple
        is filled up with its last frame.
        """
        if clip.features is not None:
            return clip.features
        video = clip.video
        assert video is not None  # where features are not given, `reads_video` is true
        span, length = self.backbone.frames_per_token, video.shape[1]
        if span == 1:
            return self.backbone(video)
        fill = video[:, -1:].expand(-1, -length % span, -1, -1, -1)
        features = self.backbone(torch.cat([video, fill], dim=1))

        def spread(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.repeat_interleave(span, dim=1)[:, :length]

        return replace(features, tokens=spread(features.tokens), keys=spread(features.keys))

    def begin(self, stage: Any, step: int) -> None:
        """Set what depends on the stage. Pure and idempotent: called before every forward."""

    def forward(self, clip: Clip) -> Output:
        """The training forward pass."""
        raise NotImplementedError

    def segment(self, clip: Clip, options: SegmentOptions, carry: Any = None) -> Segments:
        """What evaluations of masks call. With `carry`, `clip` continues an earlier window; a model
        that declares `whole_video` refuses one with a `UserError`."""
        raise NotImplementedError

    def embed(self, clip: Clip) -> Tensor:
        """Dense features b t n e, for label propagation."""
        raise NotImplementedError

    def roll_out(self, slots: Tensor, horizon: int) -> Segments:
        """What the next `horizon` frames will be, of which none is shown: masks b m k n and slots b m k d,
        from the slots b t k d of the frames before."""
        raise NotImplementedError

    def after_step(self, step: int) -> None:
        """Called after each applied update: EMA teachers live here."""


@runtime_checkable
class Loss(Protocol):
    """A term of the objective: reads `Output` and `Clip`, returns a scalar. May be an nn.Module.

    `needs` names fields of `Output`, or of the clip as `clip.<field>`; "{of}" stands for the field that
    the term's setting `of` names.
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


@dataclass(frozen=True)
class Report:
    """What an evaluation says.

    `rows`: one mapping per video, sorted by its name; `metrics`: scores over the split, as fractions
    or in the unit their name ends with; `measures`: how to read each of them, one that is not named
    is a fraction of which more is better.
    """

    protocol: str
    rows: list[dict[str, Any]]
    metrics: dict[str, float]
    measures: Mapping[str, Measure] = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """What an evaluation is given: a trained model, and the dataset it is to be scored on.

    `source(split)`: a split of the evaluation's own dataset (of the run's, where it names none);
    `keep(video, masks)`: stores soft masks, uint8 t k n, None where they are not to be kept;
    `advance()`: to be called by every rank equally often; it raises to stop.
    """

    model: VideoModel
    dataset: Dataset
    source: Callable[[str], Source]
    device: torch.device
    keep: Callable[[str, np.ndarray], None] | None = None
    advance: Callable[[], Any] = lambda: None


class Evaluation:
    """Scores a trained model. Subclasses take their settings from `conf/eval` and define `run`.

    It may use any split of its dataset, train something of its own (a probe), and ask the model for
    masks and slots (`segment`) or dense features (`embed`). It changes no weight of the model: during
    `run` these are frozen, and torch's global generator is seeded, so that scores can be repeated.

    `needs` names what it asks for: names of the model's `answers`, and "truth" where each scored split
    must have videos with a truth. `scores` names the metrics that each of its reports has, where the class
    knows them. `vocl plan` proves both from the source text.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    scores: ClassVar[frozenset[str] | None] = None
    split: str  # the videos that are scored

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits that it reads, the scored one first; each must exist before a run starts."""
        return (self.split,)

    def check(self, source: Source, where: str) -> None:
        """Raise `UserError`, before a run starts, for a scored split `source` that would give no score;
        `where` names it."""

    def run(self, subject: Subject) -> Report:
        """Score `subject.model`; on every rank, which all return the same report."""
        raise NotImplementedError


class Video(Protocol):
    """One video of a source; frames are decoded when asked for.

    A class that says `in_threads = True` lets a thread decode one video while another thread works with
    others: an evaluation then decodes ahead.
    """

    if TYPE_CHECKING:  # a frozen dataclass is a video too

        @property
        def name(self) -> str: ...
        @property
        def length(self) -> int: ...
        @property
        def size(self) -> tuple[int, int]: ...
    else:  # who inherits may set them
        name: str
        length: int  # frames
        size: tuple[int, int]  # height, width in pixels

    def frames(self, indices: Sequence[int]) -> np.ndarray:
        """Frames `indices`, in any order and also repeated, as uint8 t h w 3 (RGB)."""
        ...

    def annotations(self, names: Sequence[str], indices: Sequence[int]) -> dict[str, np.ndarray]:
        """What the source says of frames `indices`, by name; see `Source.annotated` for kinds and shapes."""
        ...


class Source(Protocol):
    """A named split of a dataset: videos by index, and what is true about them. Subclass it.

    `annotated`: annotations that its videos give for training, name -> kind, a literal on the class so
    that a plan can read it; an instance may have fewer. Kinds say how they follow the frames through
    resizing, crops, flips and reversal: "labels" t h w (integers, nearest), "dense" t c h w (values,
    bilinear), "vectors" t 2 h w (pixels per stored frame, x first), "points" t p 3 (x, y in pixels;
    visible), "boxes" t p 5 (left, top, right, bottom in pixels; visible). The number p may differ
    between videos. Names that are no field of `Clip` go to `Clip.more`.
    """

    annotated: Mapping[str, str] = {}

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Video: ...
    def truth(self, name: str) -> Any | None:
        """`vocl.data.truth.Truth` of the video `name`; None when it has no annotation."""
        ...

    def fingerprint(self, name: str) -> str:
        """What changes when the pixels of video `name` do; "" where the config and the split say it all."""
        return ""

    def check(self) -> None:
        """Look at every file once before a long run starts; raises `UserError` for a bad one."""
        return None
