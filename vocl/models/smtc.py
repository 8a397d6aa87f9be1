"""Semantics, and instances of each, learned from a teacher instead of a reconstruction: SMTC."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Le
from einops import rearrange, repeat
from torch import Tensor, nn

from vocl.config.build import Part
from vocl.errors import UserError
from vocl.interface import Backbone, Clip, Features, Grid, Output, SegmentOptions, Segments, VideoModel
from vocl.nn.correspondence import Correspondence
from vocl.nn.masked_slot_attention import MaskedSlotAttention
from vocl.nn.valid_instances import ValidInstances, closeness
from vocl.ops.narrow import given
from vocl.ops.random import normal, subkeys


@dataclass
class SemanticOutput(Output):
    """An output of two levels, N semantics and P instances of each; slot k = n P + p is instance p of n.

    `attn` is the product of both competitions: it sums to 1 over all slots, and over the instances
    of one semantics to `semantic_masks`.
    """

    semantics: Tensor | None = None  # b t N d   slots of the first stage
    semantic_logits: Tensor | None = None  # b t N n
    semantic_masks: Tensor | None = None  # b t N n   softmax of the logits over N
    objects: Tensor | None = None  # b t N P d   what instances are compared by: the slots, or a head's output
    valid: Tensor | None = None  # b t N P   bool: instances of something that is there


class Grouping(nn.Module):
    """From the features of frames and of their partners to semantics and instances."""

    def __init__(
        self,
        feature_dim: int,
        slot_dim: int,
        grid: Grid,
        num_semantics: int,
        correspondence: Part[Correspondence],
        attention: Part[MaskedSlotAttention],
        valid: Part[ValidInstances],
        head: Part[nn.Module] | None,
    ) -> None:
        super().__init__()
        self.correspondence = correspondence(feature_dim, slot_dim, grid)
        self.attention = attention(slot_dim, num_semantics)
        self.valid = valid()
        self.head = head(slot_dim) if head else nn.Identity()

    def forward(
        self, features: Tensor, cells: Tensor, grid: Grid, noise: Tensor, iterations: int | None = None
    ) -> SemanticOutput:
        """`features` b t n e, the partners' `cells` b t m e; `noise` b t N P d: the samples of stage 2."""
        attention = self.attention
        prepared = attention.prepare(self.correspondence(features, cells))
        semantics, logits = attention.semantics(prepared, iterations)
        masks = logits.softmax(2)
        first = attention.sample(noise)
        instances, within = attention.instances(prepared, first, attention.mask(logits), iterations)
        product = masks.unsqueeze(3) * within.softmax(3)
        return SemanticOutput(
            slots=rearrange(instances, "b t n p d -> b t (n p) d"),
            attn=rearrange(product, "b t n p x -> b t (n p) x"),
            grid=grid,
            features=features,
            semantics=semantics,
            semantic_logits=logits,
            semantic_masks=masks,
            objects=self.head(instances),
            valid=self.valid(masks, semantics, instances),
        )


class Teacher(nn.Module):
    """Copies of the student's backbone and grouping that follow it (eq. 14); always in eval mode.

    `average_backbone`: whether the backbone follows too (paper), or stays as it is (release).
    """

    def __init__(
        self, backbone: Backbone, grouping: Grouping, momentum: float, average_backbone: bool
    ) -> None:
        super().__init__()
        self.momentum, self.average_backbone = momentum, average_backbone
        self.backbone, self.grouping = copy.deepcopy(backbone), copy.deepcopy(grouping)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Teacher:
        return super().train(False)

    @torch.no_grad()
    def follow(self, backbone: Backbone, grouping: Grouping) -> None:
        """Each parameter becomes momentum times itself plus the rest of the student's."""
        pairs = [(self.grouping, grouping), *([(self.backbone, backbone)] if self.average_backbone else [])]
        for own, students in pairs:
            torch._foreach_lerp_([*own.parameters()], [*students.parameters()], 1 - self.momentum)


@dataclass
class Carry:
    """Where a video stands: `frames` seen so far, and the `cells` b 1 m e of the last of them."""

    frames: int = 0
    cells: Tensor | None = None


class SMTC(VideoModel):
    """Semantics Meets Temporal Correspondence (Qian et al., ICCV 2023), by its text or its release.

    Per frame: features F of the backbone, the correlation with a partner frame, both fused, and two
    stages of masked slot attention. Student and teacher do this on views of one clip, with noise of
    their own; the losses compare the student with the `teacher` of its Output. The teacher sees
    `clip.views[0]` where there is one, else the student's view. No decoder is built.

    `keys`: F is the keys of the backbone's last attention, not normalised (release), or, for backbones
    without one, its tokens. `slot_dim` null: as wide as F. `momentum` m of
    the teacher: m teacher + (1 - m) student after each step. `preset`: whose choices the settings
    follow where text and release differ; the losses have the same label, and a config with both is
    refused.

    At test a video is cut into windows of `window` frames; a frame's partner is the one before it,
    that of the first of a window its last (release). `noise_at_test`: each frame of a "video" starts
    from the same samples (ours: instances keep their index where nothing changes), or draws its own
    ("frame", release): every single frame sees noise of one distribution either way.
    """

    provides: ClassVar[frozenset[str]] = frozenset(
        {
            *("slots", "attn", "features", "keys", "teacher"),
            *("semantics", "semantic_logits", "semantic_masks", "objects", "valid"),
            *("teacher.features", "teacher.semantic_logits", "teacher.semantic_masks"),
            *("teacher.objects", "teacher.valid"),
        }
    )
    answers: ClassVar[frozenset[str]] = frozenset({"masks", "scores", "parent", "slots", "embed"})
    any_size: ClassVar[frozenset[str]] = frozenset({"masks", "scores", "parent", "slots", "embed"})
    reads_features: ClassVar[bool] = True
    one_frame_per_token: ClassVar[bool] = True  # it compares frames
    reads_video = False
    requires: ClassVar[dict[str, dict[str, str]]] = {
        "keys": {"backbone.keys": "gives none; choose false, or a vision transformer with backbone.keys=true"}
    }

    def __init__(
        self,
        backbone: Backbone,
        frame_px: tuple[int, int],
        *,
        preset: Literal["paper", "release"] | None,
        keys: bool,
        slot_dim: Annotated[int, Ge(1)] | None,
        num_semantics: Annotated[int, Ge(1)],
        num_instances: Annotated[int, Ge(1)],
        correspondence: Part[Correspondence],
        attention: Part[MaskedSlotAttention],
        valid: Part[ValidInstances],
        head: Part[nn.Module] | None,
        momentum: Annotated[float, Ge(0), Le(1)],
        average_backbone: bool,
        window: Annotated[int, Ge(1)],
        noise_at_test: Literal["video", "frame"],
    ) -> None:
        super().__init__()
        self.preset, self.keys = preset, keys
        self.noise_shape = (num_semantics, num_instances, slot_dim or backbone.dim)
        self.window, self.noise_at_test = window, noise_at_test
        self.backbone = backbone
        self.grouping = Grouping(
            backbone.dim,
            slot_dim or backbone.dim,
            backbone.grid(frame_px),
            num_semantics,
            correspondence,
            attention,
            valid,
            head,
        )
        self.teacher = Teacher(backbone, self.grouping, momentum, average_backbone)

    def begin(self, stage: Any, step: int) -> None:
        """Refuse to leave out slots: their number is that of semantics times instances."""
        if stage.active_slots is not None:
            raise UserError(f"active_slots={stage.active_slots} of a stage: this model uses all, choose null")

    def forward(self, clip: Clip) -> SemanticOutput:
        draws = self.training and self.backbone.drop_path and clip.features is None
        seen = self.backbone(clip.video, key=clip.key) if draws else self.encode(clip)
        student = self.group(self.grouping, seen, *self._draw(clip, "student"))
        with torch.no_grad():
            seen = self._see_as_teacher(clip)
            teacher = self.group(self.teacher.grouping, seen, *self._draw(clip, "teacher"))
        return replace(student, teacher=teacher)

    def group(self, grouping: Grouping, seen: Features, noise: Tensor, partners: Tensor) -> SemanticOutput:
        """What the student's or teacher's `grouping` makes of `seen`.

        `noise` b t N P d standard normal; `partners` b t: the frame that each one is compared with.
        """
        features = self._features(seen)
        cells = grouping.correspondence.cells(features, seen.grid)
        index = repeat(partners, "b t -> b t m e", m=cells.shape[2], e=cells.shape[3])
        output = grouping(features, cells.gather(1, index), seen.grid, noise)
        return replace(output, keys=seen.keys)

    @torch.no_grad()
    def segment(self, clip: Clip, options: SegmentOptions, carry: Any = None) -> Segments:
        """Masks of all instances, a partition of each patch; `scores` is the cosine with their semantics.

        An instance counts where its score is at least `valid.min_cosine` (0.5); at test the release
        asks for no area. The masks of semantics n, `parent` of its instances, sum to that of n, so
        the paper's area test (eq. 11) can be made of them. Windows of one video that are multiples
        of `window`, or the whole of it, give the same; others cut a window in two, and its first
        frame is compared with the last one known. `options.cyclic` gives whole videos, and changes
        nothing else.
        """
        outputs, carry = [], carry or Carry()
        for start, stop in _windows(carry.frames, clip.valid.shape[1], self.window):
            seen = self.encode(_cut(clip, start, stop))
            noise = self._noise_at_test(clip.key, range(carry.frames, carry.frames + stop - start))
            output, carry = self.group_window(seen, noise, carry, options.iterations)
            outputs.append(output)
        masks, slots, scores = (torch.cat(parts, dim=1) for parts in zip(*map(_found, outputs), strict=True))
        parent = torch.arange(self.noise_shape[0], device=masks.device)
        parent = repeat(parent, "n -> (n p)", p=self.noise_shape[1])
        return Segments(masks, outputs[0].grid, True, scores, parent, slots, carry)

    def group_window(
        self, seen: Features, noise: Tensor, carry: Carry, iterations: int | None = None
    ) -> tuple[SemanticOutput, Carry]:
        """A window of a video, or the rest of one that began before `carry`, and the new carry.

        `seen` t frames, `noise` b t N P d standard normal.
        """
        features, grouping = self._features(seen), self.grouping
        cells = grouping.correspondence.cells(features, seen.grid)
        last = cells[:, -1:]
        before = given(carry.cells) if carry.frames % self.window else last
        partners = torch.cat([before, cells[:, :-1]], dim=1)
        output = grouping(features, partners, seen.grid, noise, iterations)
        return output, Carry(carry.frames + cells.shape[1], last)

    def embed(self, clip: Clip) -> Tensor:
        """The last block's tokens b t n e (not its keys), as the backbone is: without final norm."""
        return self.encode(clip).tokens

    def after_step(self, step: int) -> None:
        self.teacher.follow(self.backbone, self.grouping)

    # ------------------------------------------------------------------------------------- parts

    def _features(self, seen: Features) -> Tensor:
        return given(seen.keys) if self.keys else seen.tokens

    def _see_as_teacher(self, clip: Clip) -> Features:
        if clip.views:
            return self.teacher.backbone(clip.views[0])
        return clip.features if clip.features is not None else self.teacher.backbone(clip.video)

    def _draw(self, clip: Clip, who: str) -> tuple[Tensor, Tensor]:
        """Noise b t N P d of the samples and partners b t of `who`, "student" or "teacher"."""
        frames = clip.valid.shape[1]
        noise = normal(clip.key, f"{who}.instances", (frames, *self.noise_shape))
        return noise, self.grouping.correspondence.partners(clip.key, who, frames)

    def _noise_at_test(self, key: Tensor, frames: range) -> Tensor:
        """Noise b t N P d of frames number `frames` of a video."""
        if self.noise_at_test == "video":
            return repeat(normal(key, "instances", self.noise_shape), "b n p d -> b t n p d", t=len(frames))
        own = subkeys(key, "instances", frames.stop)[:, frames.start :]
        noise = normal(own.flatten(), "instances", self.noise_shape)
        return rearrange(noise, "(b t) n p d -> b t n p d", b=len(key))


def _windows(known: int, frames: int, window: int) -> Iterator[tuple[int, int]]:
    """First and last + 1 of parts of `frames` frames that lie in one window, `known` frames into a video."""
    start = 0
    while start < frames:
        stop = min(start + window - (known + start) % window, frames)
        yield start, stop
        start = stop


def _cut(clip: Clip, start: int, stop: int) -> Clip:
    """Frames `start` to `stop` of a clip, without its annotations."""
    features = clip.features
    if features is not None:
        keys = None if features.keys is None else features.keys[:, start:stop]
        features = Features(features.tokens[:, start:stop], features.grid, keys)
    video = None if clip.video is None else clip.video[:, start:stop]
    return Clip(video, clip.valid[:, start:stop], clip.key, clip.names, features=features)


def _found(output: SemanticOutput) -> tuple[Tensor, Tensor, Tensor]:
    """Masks b t k n, slots b t k d and scores b t k of an output."""
    semantics = given(output.semantics)
    instances = rearrange(output.slots, "b t (n p) d -> b t n p d", n=semantics.shape[2])
    scores = rearrange(closeness(semantics, instances), "b t n p -> b t (n p)")
    return output.attn, output.slots, scores
