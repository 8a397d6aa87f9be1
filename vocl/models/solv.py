"""SOLV: slots of single frames, bound over neighbouring frames, merged, and linked over a video."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, cast

import numpy as np
import torch
from annotated_types import Ge, Lt
from einops import rearrange
from torch import Tensor, nn

from vocl.config.build import Part
from vocl.errors import UserError
from vocl.interface import (
    Backbone,
    Clip,
    Context,
    Features,
    Grid,
    Output,
    SegmentOptions,
    Segments,
    VideoModel,
)
from vocl.nn.decoders.broadcast import Decoded, PlacedDecoder
from vocl.nn.invariant import Bound, Spatial, pose, relative
from vocl.nn.merging import Merged, MergeSimilar, alone, merge
from vocl.ops.linking import inherit
from vocl.ops.narrow import given
from vocl.ops.random import subsets

CHUNK = 8  # frames encoded and decoded at once in `segment`


@dataclass
class Carry:
    """Where a video stands: `recent` b t k d, slots of the last frames before they are bound over
    time; `last`, merged slots of the last frame, and the identities `ids` (k' each) of its clusters."""

    recent: Tensor
    last: list[np.ndarray]
    ids: list[np.ndarray]


class SOLV(VideoModel):
    """Self-supervised object-centric learning for videos (Aydemir et al., NeurIPS 2023).

    A clip is the window of its middle frame. Each frame's slots compete for a random part of its
    patches (`token_drop` of them are left out inside the backbone); the slots of one index are bound
    over the window; similar slots of the middle frame are merged; the decoder reconstructs all
    patches of the middle frame from them. So every field of `Output` has t = 1, the middle frame;
    `attn` is 0 at patches that were dropped. `merge` null keeps all slots.

    `window`: frames a slot sees. A shorter clip, and the ends of a video, have less context.
    `legacy_index_bug`: as the release, take the positions of the kept patches for the decoder from
    the first b of all frames of the batch instead of each clip's middle frame. It makes a clip's
    loss depend on the batch, so on the number of processes.

    Deviations: clips lie within the video, so only a test sees windows that reach beyond it; the
    chance to merge goes by shares of the run; the backbone runs in the precision of the run (the
    release's in fp16); black borders are not cut.
    """

    provides: ClassVar[frozenset[str]] = frozenset(
        {"slots", "attn", "features", "target", "recon", "masks", "active"}
    )
    answers: ClassVar[frozenset[str]] = frozenset({"masks", "embed"})
    any_size: ClassVar[frozenset[str]] = frozenset({"embed"})
    output_frames: ClassVar[int | None] = 1
    reads_features: ClassVar[bool] = True
    gives_context: ClassVar[frozenset[str]] = frozenset({"decoder"})
    requires: ClassVar[dict[str, dict[str, str]]] = {
        "token_drop": {
            "backbone.drops_tokens": "cannot drop tokens; choose 0, or a vision transformer or filters"
        }
    }

    def __init__(
        self,
        backbone: Backbone,
        frame_px: tuple[int, int],
        *,
        num_slots: Annotated[int, Ge(1)],
        slot_dim: Annotated[int, Ge(1)],
        window: Annotated[int, Ge(1)],
        token_drop: Annotated[float, Ge(0), Lt(1)],
        initializer: Part[nn.Module],
        adapter: Part[nn.Module],
        spatial: Part[nn.Module],
        temporal: Part[nn.Module],
        merge: Part[MergeSimilar] | None,
        decoder: Part[nn.Module],
        legacy_index_bug: bool,
    ) -> None:
        super().__init__()
        if token_drop and not backbone.drops_tokens:
            raise UserError(f"model.token_drop={token_drop}: this backbone cannot drop tokens; choose 0")
        self.num_slots, self.active_slots = num_slots, num_slots
        self.window, self.token_drop, self.legacy_index_bug = window, token_drop, legacy_index_bug
        grid = backbone.grid(frame_px)
        self.initializer = initializer(num_slots, slot_dim)
        self.backbone = backbone
        self.adapter = adapter(backbone.dim, slot_dim, grid)
        self.spatial = cast(Spatial, spatial(num_slots, slot_dim, grid))
        self.temporal = temporal(slot_dim, window)
        self.merging = merge() if merge else None
        self.chance_to_keep = 0.0
        self.decoder = cast(PlacedDecoder, decoder(slot_dim, backbone.dim, grid))

    def begin(self, stage: Any, step: int) -> None:
        """Slots of the stage (`segment` always uses all) and the chance of a clip to keep them all."""
        self.active_slots = stage.active_slots or self.num_slots
        self.chance_to_keep = self.merging.chance_to_keep(step) if self.merging else 1.0

    def forward(self, clip: Clip) -> Output:
        clip = _cut(clip, *_around_middle(clip.valid.shape[1], self.window))
        middle = clip.valid.shape[1] // 2
        seen, keep, full = self._see(clip, middle)
        coordinates = self.spatial.coordinates(keep)
        one = self._bind(clip, seen, coordinates, middle)
        merged = self._merge(one, clip.key)
        context = self._context(clip, full.tokens, full.grid)
        decoded = self._decode(merged, self._middle(coordinates, middle), context)
        return Output(
            slots=merged.slots.unsqueeze(1),
            attn=_spread(merged.attn, keep[:, middle], full.tokens.shape[2]).unsqueeze(1),
            grid=full.grid,
            features=full.tokens,
            target=full.tokens.detach(),
            recon=decoded.recon,
            masks=decoded.masks,
            keys=full.keys,
            active=merged.active,
            extra=context.extra or None,
        )

    @torch.no_grad()
    def segment(self, clip: Clip, options: SegmentOptions, carry: Any = None) -> Segments:
        """Masks of identities that begin in the video's first frame, linked from frame to frame.

        Channel i is what cluster i of the first frame became. Clusters that share an identity share
        a channel, the maximum of their masks; that of a lost or never used identity is empty. A
        frame is bound over its window in the carry and this clip: frames after the clip are not
        known, so give whole videos where they fit. `options.cyclic` gives them, and changes
        nothing else.
        """
        found = self._bind_all(clip, options.iterations)
        before = found.slots[:, :0] if carry is None else carry.recent
        slots = torch.cat([before, found.slots], dim=1)
        frames = torch.arange(before.shape[1], slots.shape[1], device=slots.device)
        valid = torch.cat([clip.valid.new_ones(before.shape[:2]), clip.valid], dim=1)
        bound = found._replace(slots=self.temporal(slots, valid, frames))
        clusters, active, masks = self._decode_all(bound, clip)
        linked, last, ids = _link(clusters, active, masks, carry)
        recent = slots[:, max(slots.shape[1] - self.window // 2, 0) :]
        return Segments(masks=linked, grid=self.decoder.grid, carry=Carry(recent, last, ids))

    def embed(self, clip: Clip) -> Tensor:
        return self.encode(clip).tokens

    # ------------------------------------------------------------------------------------- parts

    def _see(self, clip: Clip, middle: int) -> tuple[Tensor, Tensor, Features]:
        """Tokens b t m e of the patches `keep` b t m of every frame; all of the middle frame's (t = 1)."""
        b, t = clip.valid.shape
        full = self.encode(_cut(clip, middle, middle + 1))
        n = full.tokens.shape[2]
        if self.token_drop:
            size = max(1, round(n * (1 - self.token_drop)))
            keep = subsets(clip.key, "tokens", t, size, n)
            return self.backbone(given(clip.video), keep).tokens, keep, full
        keep = torch.arange(n, device=full.tokens.device).expand(b, t, n)
        return full.tokens if t == 1 else self.encode(clip).tokens, keep, full

    def _bind(self, clip: Clip, seen: Tensor, coordinates: Tensor, middle: int) -> Bound:
        """The middle frame's slots (t = 1), bound over space and then time."""
        key = clip.key if self.training else None
        first = self.initializer(clip.key)[:, : self.active_slots]
        slots, attn, weights = self.spatial(first, self.adapter(seen), coordinates, key=key)
        frames = torch.arange(middle, middle + 1, device=slots.device)  # no copy from the host
        slots = self.temporal(slots, clip.valid, frames, key)
        return Bound(slots, attn[:, frames], weights[:, frames])

    def _merge(self, bound: Bound, key: Tensor | None) -> Merged:
        """Similar slots put together, frame by frame, one per row. `key` (one per frame): training."""
        slots, attn, weights = (rearrange(x, "b t k x -> (b t) k x") for x in bound)
        labels = self.merging.labels(slots, key, self.chance_to_keep) if self.merging else alone(slots)
        return merge(slots, weights, attn, labels)

    def _middle(self, coordinates: Tensor, middle: int) -> Tensor:
        """Coordinates b m 2 of the kept patches of each clip's middle frame."""
        if self.legacy_index_bug:
            return rearrange(coordinates, "b t m two -> (b t) m two")[: len(coordinates)]
        return coordinates[:, middle]

    def _decode(
        self, merged: Merged, coordinates: Tensor, context: Context, reconstruct: bool = True
    ) -> Decoded:
        """One frame per row of `merged`, and of the inputs m 1 n d: recon m 1 n e, masks m 1 k n."""
        place = relative(self.spatial.grid, *self.spatial.bounded(*pose(given(merged.weights), coordinates)))
        slots, place, active = (x.unsqueeze(1) for x in (merged.slots, place, merged.active))
        return context.call(self.decoder, slots, place, active, reconstruct)

    @property
    def _decoder_reads(self) -> bool:
        return bool(getattr(self.decoder, "needs", frozenset()))

    def _context(self, clip: Clip, tokens: Tensor, grid: Grid) -> Context:
        """What the decoder may read beside slots, if it reads anything, of the frames b t n e."""
        if not self._decoder_reads:
            return Context(clip)
        return Context(clip, tokens, self.adapter(tokens), grid, tokens.detach())

    def _bind_all(self, clip: Clip, iterations: int | None) -> Bound:
        """Every frame's slots from all its patches, bound over space alone, some frames at a time."""
        first, found = self.initializer(clip.key), []
        for start in range(0, clip.valid.shape[1], CHUNK):
            tokens = self.encode(_cut(clip, start, start + CHUNK)).tokens
            coordinates = self.spatial.grid.expand(*tokens.shape[:2], -1, -1)
            found.append(self.spatial(first, self.adapter(tokens), coordinates, iterations))
        return Bound(*(torch.cat(parts, dim=1) for parts in zip(*found, strict=True)))

    def _decode_all(self, bound: Bound, clip: Clip) -> tuple[Tensor, Tensor, Tensor]:
        """Merged slots b t k d, which are in use b t k, masks b t k n; some frames at a time.

        A decoder that reads the frames has them encoded again: a video's features may fill memory.
        """
        found = []
        for i, parts in enumerate(zip(*(x.split(CHUNK, dim=1) for x in bound), strict=True)):
            merged = self._merge(Bound(*parts), None)
            coordinates = self.spatial.grid.expand(len(merged.slots), -1, -1)
            context = self._frames(_cut(clip, i * CHUNK, (i + 1) * CHUNK))
            masks = self._decode(merged, coordinates, context, reconstruct=False).masks
            rows = (merged.slots, merged.active, masks.squeeze(1))
            found.append([rearrange(x, "(b t) ... -> b t ...", b=len(parts[0])) for x in rows])
        slots, active, masks = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
        return slots, active, masks

    def _frames(self, clip: Clip) -> Context:
        """The context of a clip's frames, one per row."""
        if not self._decoder_reads:
            return Context(clip)
        features = self.encode(clip)
        return self._context(clip, rearrange(features.tokens, "b t n e -> (b t) 1 n e"), features.grid)


def _around_middle(length: int, window: int) -> tuple[int, int]:
    """First and last + 1 of the frames of the middle frame's window that a clip has."""
    start = length // 2 - window // 2
    return max(start, 0), min(start + window, length)


def _cut(clip: Clip, start: int, stop: int) -> Clip:
    """Frames `start` to `stop` of a clip, without its annotations."""
    features = clip.features
    if features is not None:
        keys = None if features.keys is None else features.keys[:, start:stop]
        features = Features(features.tokens[:, start:stop], features.grid, keys)
    return Clip(
        given(clip.video)[:, start:stop], clip.valid[:, start:stop], clip.key, clip.names, features=features
    )


def _link(
    slots: Tensor, active: Tensor, masks: Tensor, carry: Carry | None
) -> tuple[Tensor, list[np.ndarray], list[np.ndarray]]:
    """Masks b t k n by identity, from those by cluster; the last frame's slots and identities."""
    channel = torch.zeros(masks.shape[:3], dtype=torch.int64)
    none_yet: list[np.ndarray] = [np.empty(0)] * len(masks)
    last, ids = (none_yet[:], none_yet[:]) if carry is None else (carry.last[:], carry.ids[:])
    vectors, used = slots.float().cpu().numpy(), active.cpu().numpy()
    for i, t in itertools.product(range(masks.shape[0]), range(masks.shape[1])):
        found, first = vectors[i, t, used[i, t]], carry is None and t == 0
        ids[i] = np.arange(len(found)) if first else inherit(last[i], found, ids[i])
        last[i] = found
        channel[i, t, : len(found)] = torch.from_numpy(ids[i])
    index = channel.to(masks.device).unsqueeze(-1).expand_as(masks)
    return torch.zeros_like(masks).scatter_reduce_(2, index, masks, "amax"), last, ids


def _spread(attn: Tensor, keep: Tensor, n: int) -> Tensor:
    """Put `attn` b k m of the patches `keep` b m where they lie among n, 0 elsewhere."""
    index = keep.unsqueeze(1).expand_as(attn)
    return attn.new_zeros(*attn.shape[:2], n).scatter(2, index, attn)
