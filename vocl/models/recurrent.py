"""Slots carried through a video frame by frame: SAVi, DINOSAUR and SlotContrast are settings of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, cast

import torch
from annotated_types import Ge
from torch import Tensor, nn

from vocl.config.build import Part
from vocl.errors import UserError
from vocl.interface import (
    Backbone,
    Clip,
    Context,
    Corrected,
    Corrector,
    Features,
    Grid,
    Output,
    SegmentOptions,
    Segments,
    VideoModel,
)
from vocl.nn.decoders.broadcast import Decoded
from vocl.nn.targets import Target
from vocl.ops.narrow import given


class Unrolled(NamedTuple):
    """A sweep over frames: `slots`, `predicted` b t k d; `attn` b t k n; `extra` b t ... of the corrector."""

    slots: Tensor
    predicted: Tensor
    attn: Tensor
    extra: dict[str, Tensor]


class Recurrent(VideoModel):
    """initializer -> (corrector -> predictor) per frame -> decoder on the corrected slots.

    Frame t: the corrector refines the state by slot attention on the adapted features of the frame;
    the predictor turns the result into the state for frame t + 1 (without a predictor the state is
    carried as it is). Gradients flow through all frames. The decoder sees the corrector's slots,
    not the predictor's. `target`: what it reconstructs, the backbone's features, the frames, or an
    image out of their annotations.

    Each part may declare what else it needs (see `Context`), and gives more through
    `Context.extra`; a corrector returns (slots, attn) or `Corrected`.
    """

    provides: ClassVar[frozenset[str]] = frozenset(
        {"slots", "attn", "features", "target", "recon", "masks", "predicted"}
    )
    reads_features: ClassVar[bool] = True
    gives_context: ClassVar[frozenset[str]] = frozenset(
        {"initializer", "corrector", "predictor", "decoder", "target"}
    )
    scored_masks: ClassVar[frozenset[str]] = frozenset({"decoder", "attention"})
    answers: ClassVar[frozenset[str]] = frozenset({"masks", "slots", "embed", "rollout"})
    any_size: ClassVar[frozenset[str]] = frozenset({"embed"})  # adapter and decoder have a grid of their own

    def __init__(
        self,
        backbone: Backbone,
        frame_px: tuple[int, int],
        *,
        num_slots: Annotated[int, Ge(1)],
        slot_dim: Annotated[int, Ge(1)],
        target: Literal["features", "rgb"] | Part[Target],
        initializer: Part[nn.Module],
        adapter: Part[nn.Module],
        corrector: Part[nn.Module],
        predictor: Part[nn.Module] | None,
        decoder: Part[nn.Module],
    ) -> None:
        super().__init__()
        self.num_slots, self.active_slots = num_slots, num_slots
        self.target = target() if callable(target) else target
        self.reads_video = target == "rgb"
        grid = backbone.grid(frame_px)
        self.initializer = initializer(num_slots, slot_dim)
        self.backbone = backbone
        self.adapter = adapter(backbone.dim, slot_dim, grid)
        self.corrector = cast(Corrector, corrector(slot_dim))
        self.predictor = predictor(slot_dim) if predictor else None
        self.decoder = decoder(
            slot_dim, self._channels(backbone), grid if target == "features" else Grid(*frame_px)
        )

    def begin(self, stage: Any, step: int) -> None:
        """Train with the stage's number of slots; `segment` always uses all of them."""
        active = stage.active_slots
        assert active is None or 1 <= active <= self.num_slots
        self.active_slots = active or self.num_slots

    def forward(self, clip: Clip) -> Output:
        features = self.encode(clip)
        context = self._training_context(clip, features)
        state = self._first(context)[:, : self.active_slots]
        swept = self._sweep(context, state, None)
        decoded = context.call(self.decoder, swept.slots)
        return Output(
            slots=swept.slots,
            attn=swept.attn,
            grid=decoded.grid,
            features=features.tokens,
            target=context.target,
            recon=decoded.recon,
            masks=decoded.masks,
            keys=features.keys,
            predicted=swept.predicted,
            extra=context.extra or None,
        )

    @torch.no_grad()
    def segment(self, clip: Clip, options: SegmentOptions, carry: Any = None) -> Segments:
        """Masks of all slots; `options.cyclic` sweeps forward and back (SlotCurri, sec. 4).

        `options.masks`: the decoder's, unless it says attention. The carry is the predicted state
        for the next frame. A cyclic sweep needs the whole video at once, so it can neither continue
        a window nor be continued.
        """
        if options.cyclic and carry is not None:
            raise UserError("options.cyclic=true: needs the whole video in one window; choose false")
        context = self._context(clip, self.encode(clip))
        first = carry is None
        state = self._first(context) if first else carry
        swept = self._sweep(context, state, options.iterations, first=first)
        carry = swept.predicted[:, -1]
        if options.cyclic:
            swept = self._sweep_back(context, swept, options.iterations)
        if options.masks == "attention":
            return Segments(masks=swept.attn, grid=given(context.grid), slots=swept.slots, carry=carry)
        decoded = context.call(self.decoder, swept.slots, reconstruct=False)
        return Segments(masks=decoded.masks, grid=decoded.grid, slots=swept.slots, carry=carry)

    def embed(self, clip: Clip) -> Tensor:
        return self.encode(clip).tokens

    @torch.no_grad()
    def roll_out(self, slots: Tensor, horizon: int) -> Segments:
        future = self.future(slots, horizon)
        decoded = self._decode_alone(future, reconstruct=False)
        return Segments(masks=decoded.masks, grid=decoded.grid, slots=future)

    def future(self, slots: Tensor, horizon: int) -> Tensor:
        """Slots of the next `horizon` frames, b m k d, from those before, b t k d.

        Here: the predictor again and again on the last of them, though it was trained for one step, and
        for a corrector to follow. Without a predictor nothing changes.
        """
        if self.predictor is not None:
            _refuse_needy("predictor", self.predictor)
        found = [slots[:, -1]]
        for _ in range(horizon):
            found.append(self.predictor(found[-1]) if self.predictor else found[-1])
        return torch.stack(found[1:], dim=1)

    def _decode_alone(self, slots: Tensor, reconstruct: bool) -> Decoded:
        """Decode slots of frames that nobody has seen."""
        _refuse_needy("decoder", self.decoder)
        return self.decoder(slots, reconstruct=reconstruct)

    def _channels(self, backbone: Backbone) -> int:
        """Channels of what the decoder reconstructs."""
        if isinstance(self.target, Target):
            return self.target.channels
        return 3 if self.target == "rgb" else backbone.dim

    def _training_context(self, clip: Clip, features: Features) -> Context:
        """The context with a target also where that is made of annotations, which only training has."""
        context = self._context(clip, features)
        if isinstance(self.target, str):
            return context
        return replace(context, target=context.call(self.target))

    def _context(self, clip: Clip, features: Features) -> Context:
        """What the parts may read before the first frame is looked at."""
        tokens = features.tokens.detach() if self.target == "features" else None
        return Context(
            clip=clip,
            features=features.tokens,
            inputs=self.corrector.prepare(self.adapter(features.tokens)),
            grid=features.grid,
            target=clip.video if self.target == "rgb" else tokens,
        )

    def _first(self, context: Context) -> Tensor:
        """Slots b k d that a video begins with."""
        return context.call(self.initializer, context.clip.key)

    def _sweep(self, context: Context, state: Tensor, iterations: int | None, first: bool = True) -> Unrolled:
        """Unroll over the inputs of `context` from `state` b k d; `first`: frame 0 starts the video."""
        found: list[Corrected] = []
        states = []
        for t, features in enumerate(given(context.inputs).unbind(1)):
            at = replace(context, frame=t, slots=tuple(c.slots for c in found))
            rounds = self.corrector.first_iterations if first and t == 0 else self.corrector.iterations
            corrected = at.call(self.corrector, state, features, iterations or rounds)
            found.append(corrected if isinstance(corrected, Corrected) else Corrected(*corrected))
            slots = found[-1].slots
            state = at.call(self.predictor, slots) if self.predictor else slots
            states.append(state)
        extra = {name: torch.stack([c.extra[name] for c in found], dim=1) for name in found[0].extra}
        context.extra.update(extra)
        rows = ([c.slots for c in found], states, [c.attn for c in found])
        slots, predicted, attn = (torch.stack(row, dim=1) for row in rows)
        return Unrolled(slots, predicted, attn, extra)

    def _sweep_back(self, context: Context, forward: Unrolled, iterations: int | None) -> Unrolled:
        """In time order: the last frame from the forward sweep, the others from a sweep that starts
        at its prediction and walks back to frame 0 (never `first`)."""
        inputs = given(context.inputs)
        if inputs.shape[1] == 1:
            return forward
        back = replace(context, inputs=inputs[:, :-1].flip(1), extra=dict(context.extra))
        backward = self._sweep(back, forward.predicted[:, -1], iterations, first=False)

        def joined(b: Tensor, f: Tensor) -> Tensor:
            return torch.cat([b.flip(1), f[:, -1:]], dim=1)

        extra = {name: joined(backward.extra[name], f) for name, f in forward.extra.items()}
        context.extra.update(extra)
        slots, predicted, attn = map(joined, backward[:3], forward[:3])
        return Unrolled(slots, predicted, attn, extra)


def _refuse_needy(place: str, part: nn.Module) -> None:
    """Refuse to foretell with a part that reads of a frame what is not there before it is seen."""
    needs: frozenset[str] = getattr(part, "needs", frozenset())
    if needs:
        raise UserError(f"model.{place}: needs {', '.join(sorted(needs))}, which frames to come do not have")
