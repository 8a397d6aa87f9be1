"""Slots carried through a video frame by frame: SAVi, DINOSAUR and SlotContrast are settings of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from vocl.build import Part
from vocl.errors import UserError
from vocl.interface import Backbone, Clip, Features, Grid, Output, SegmentOptions, Segments, VideoModel


@dataclass
class Unrolled:
    """A sweep over frames: `slots`, `predicted` b t k d; `attn` b t k n."""

    slots: Tensor
    predicted: Tensor
    attn: Tensor


class Recurrent(VideoModel):
    """initializer -> (corrector -> predictor) per frame -> decoder on the corrected slots.

    Frame t: the corrector refines the state by slot attention on the adapted features of the frame;
    the predictor turns the result into the state for frame t + 1 (without a predictor the state is
    carried as it is). Gradients flow through all frames. The decoder sees the corrector's slots,
    not the predictor's. `target`: what it reconstructs, the backbone's features or the frames.
    """

    provides: ClassVar[frozenset[str]] = frozenset(
        {"slots", "attn", "features", "target", "recon", "masks", "predicted"}
    )
    reads_features: ClassVar[bool] = True

    def __init__(
        self,
        backbone: Backbone,
        frame_px: tuple[int, int],
        *,
        num_slots: Annotated[int, Ge(1)],
        slot_dim: Annotated[int, Ge(1)],
        target: Literal["features", "rgb"],
        initializer: Part[nn.Module],
        adapter: Part[nn.Module],
        corrector: Part[nn.Module],
        predictor: Part[nn.Module] | None,
        decoder: Part[nn.Module],
    ) -> None:
        super().__init__()
        self.num_slots, self.active_slots = num_slots, num_slots
        self.target, self.reads_video = target, target == "rgb"
        grid = backbone.grid(frame_px)
        self.initializer = initializer(num_slots, slot_dim)
        self.backbone = backbone
        self.adapter = adapter(backbone.dim, slot_dim, grid)
        self.corrector = corrector(slot_dim)
        self.predictor = predictor(slot_dim) if predictor else None
        in_pixels = target == "rgb"
        self.decoder = decoder(
            slot_dim, 3 if in_pixels else backbone.dim, Grid(*frame_px) if in_pixels else grid
        )

    def begin(self, stage: Any, step: int) -> None:
        """Train with the stage's number of slots; `segment` always uses all of them."""
        active = stage.active_slots
        assert active is None or 1 <= active <= self.num_slots
        self.active_slots = active or self.num_slots

    def forward(self, clip: Clip) -> Output:
        features = self._features(clip)
        state = self.initializer(clip.key)[:, : self.active_slots]
        swept = self._sweep(self.adapter(features.tokens), state, None)
        decoded = self.decoder(swept.slots)
        return Output(
            slots=swept.slots,
            attn=swept.attn,
            grid=decoded.grid,
            features=features.tokens,
            target=clip.video if self.target == "rgb" else features.tokens.detach(),
            recon=decoded.recon,
            masks=decoded.masks,
            keys=features.keys,
            predicted=swept.predicted,
        )

    @torch.no_grad()
    def segment(self, clip: Clip, options: SegmentOptions, carry: Any = None) -> Segments:
        """Decoder masks of all slots; `options.cyclic` sweeps forward and back (SlotCurri, sec. 4).

        The carry is the predicted state for the next frame. A cyclic sweep needs the whole video
        at once, so it can neither continue a window nor be continued.
        """
        if options.cyclic and carry is not None:
            raise UserError("options.cyclic=true: needs the whole video in one window; choose false")
        inputs = self.adapter(self._features(clip).tokens)
        first = carry is None
        state = self.initializer(clip.key) if first else carry
        swept = self._sweep(inputs, state, options.iterations, first=first)
        slots, carry = swept.slots, swept.predicted[:, -1]
        if options.cyclic:
            slots = self._sweep_back(inputs, swept, options.iterations)
        decoded = self.decoder(slots, reconstruct=False)
        return Segments(masks=decoded.masks, grid=decoded.grid, carry=carry)

    def embed(self, clip: Clip) -> Tensor:
        return self._features(clip).tokens

    def _features(self, clip: Clip) -> Features:
        return clip.features if clip.features is not None else self.backbone(clip.video)

    def _sweep(self, inputs: Tensor, state: Tensor, iterations: int | None, first: bool = True) -> Unrolled:
        """Unroll over `inputs` b t n d from `state` b k d; `first`: frame 0 starts the video."""
        steps = []
        for t, features in enumerate(self.corrector.prepare(inputs).unbind(1)):
            rounds = self.corrector.first_iterations if first and t == 0 else self.corrector.iterations
            slots, attn = self.corrector(state, features, iterations or rounds)
            state = self.predictor(slots) if self.predictor else slots
            steps.append((slots, state, attn))
        return Unrolled(*(torch.stack(parts, dim=1) for parts in zip(*steps, strict=True)))

    def _sweep_back(self, inputs: Tensor, forward: Unrolled, iterations: int | None) -> Tensor:
        """Slots b t k d in time order: the last frame's from the forward sweep, the others from
        a sweep that starts at its prediction and walks back to frame 0 (never `first`)."""
        if inputs.shape[1] == 1:
            return forward.slots
        backward = self._sweep(inputs[:, :-1].flip(1), forward.predicted[:, -1], iterations, first=False)
        return torch.cat([backward.slots.flip(1), forward.slots[:, -1:]], dim=1)
