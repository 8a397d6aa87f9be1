"""Hidden layers of a decoder for every slot and patch, mixed over the slots a tile at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vocl.nn.execution import fp8
from vocl.nn.execution.compiled import is_compiling, region
from vocl.nn.execution.precision import wide_in_fp8
from vocl.nn.execution.room import chunk_values, keepable_bytes

Tile = tuple[slice, slice]  # of frames, and of patches


class Place(NamedTuple):
    """Where patches lie for each slot: `at` m k n p through the linear map `relate` h p."""

    at: Tensor
    relate: Tensor


def mixed_states(
    slots: Tensor,
    position: Tensor,
    middle: Sequence[nn.Linear],
    logit: Tensor,
    place: Place | None = None,
    active: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Masks m k n (float32 at least) and the last hidden state mixed by them, m n h.

    `slots` m k h and `position` n h: the first layer's share of each; `middle`: the further hidden
    layers, h to h; `logit` h: of the last layer, the row of the mask. `place` adds relate @ at before
    the first ReLU; `active` m k: slots that get a mask. Under autocast in its precision.
    """
    device = slots.device.type
    low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else slots.dtype
    layers = [p.to(low) for layer in middle for p in (layer.weight, layer.bias)]
    at, relate = (None, None) if place is None else (part.to(low) for part in place)
    with torch.autocast(device, enabled=False):
        return _MixHidden.apply(
            torch.is_grad_enabled(),
            wide_in_fp8(),
            active,
            slots.to(low),
            position.to(low),
            logit.to(low),
            at,
            relate,
            *layers,
        )


class _Given(NamedTuple):
    """What the states of all tiles are made of; names as for `mixed_states`."""

    slots: Tensor
    position: Tensor
    at: Tensor | None
    relate: Tensor | None
    layers: Sequence[Tensor]  # weight and bias of each further layer
    fp8: bool  # whether these multiply in FP8

    def states(self, tile: Tile, out: Tensor, kept: Sequence[Tensor] | None = None) -> list[Tensor]:
        """The states x_1 (written to `out`), x_2, ... of a tile, each c k n h; all but x_1 as `kept`."""
        frames, patches = tile
        at = None if self.at is None else self.at[frames, :, patches]
        _first_state(self.slots[frames], self.position[patches], at, self.relate, out)
        states = [out]
        if kept is not None:
            return [*states, *kept]
        for weight, bias in zip(self.layers[0::2], self.layers[1::2], strict=True):
            states.append(_next_state(states[-1], weight, bias, self.fp8))
        return states


@region
def _first_state(
    slots: Tensor, position: Tensor, at: Tensor | None, relate: Tensor | None, out: Tensor
) -> None:
    torch.add(slots.unsqueeze(2), position, out=out)
    if at is not None and relate is not None:
        rows = rearrange(at, "c k n p -> (c k n) p")
        rearrange(out, "c k n h -> (c k n) h").addmm_(rows, relate.t())
    out.relu_()


@region
def _next_state(state: Tensor, weight: Tensor, bias: Tensor, in_fp8: bool) -> Tensor:
    return F.relu_((fp8.linear if in_fp8 else F.linear)(state, weight, bias))


@region
def _mix(hidden: Tensor, logit: Tensor, active: Tensor | None, spare: Tensor | None) -> tuple[Tensor, Tensor]:
    """Masks c k n of the last states c k n h, and those mixed by them, c n h."""
    logits = torch.matmul(hidden, logit)
    if active is not None:
        logits = logits.masked_fill(~active.unsqueeze(-1), -torch.inf)
    masks = torch.softmax(logits, dim=1, dtype=torch.promote_types(hidden.dtype, torch.float32))
    return masks, torch.mul(hidden, masks.to(hidden.dtype).unsqueeze(-1), out=spare).sum(1)


class _MixHidden(torch.autograd.Function):
    """x_1 = ReLU(slot part + position part + place part), x_(i+1) = ReLU(W_i x_i + b_i), masks = softmax
    over the slots of x_last . w, mixed = sum over the slots of masks * x_last.

    The gradients are written out, so that a tile (a few frames, or a few patches of one) at a time goes
    forward and back: temporaries stay in a CPU's cache and small on a GPU, every ReLU works in place,
    and x_1, a mere sum, is computed again rather than kept. Of the other states the first tiles' are
    kept, as many as there is room for; those of the rest are computed again. Once differentiable.
    """

    @staticmethod
    def forward(
        ctx: Any,
        keep: bool,
        in_fp8: bool,
        active: Tensor | None,
        slots: Tensor,
        position: Tensor,
        logit: Tensor,
        at: Tensor | None,
        relate: Tensor | None,
        *layers: Tensor,
    ) -> tuple[Tensor, Tensor]:
        (m, k, h), n = slots.shape, len(position)
        masks = torch.empty(
            m, k, n, device=slots.device, dtype=torch.promote_types(slots.dtype, torch.float32)
        )
        mixed = slots.new_empty(m, n, h)
        given = _Given(slots, position, at, relate, layers, in_fp8)
        tiles, kept = _tiles(m, k, n, h, slots.device), list[Tensor]()
        size = _size(tiles[0]) * k * h
        num_kept = _keepable(slots, len(layers) // 2 * size, len(tiles)) if keep else 0
        buffers = slots.new_empty(2, size)
        for i, (frames, patches) in enumerate(tiles):
            first, weighted = _shaped(buffers, slots[frames], position[patches])
            states = given.states((frames, patches), out=first)
            shown = None if active is None else active[frames]
            spare = None if is_compiling() else weighted  # a program needs none, and would fill it
            masks[frames, :, patches], mixed[frames, patches] = _mix(states[-1], logit, shown, spare)
            kept += states[1:] if i < num_kept else []
        ctx.save_for_backward(masks, slots, position, logit, at, relate, *layers, *kept)
        ctx.tiles, ctx.num_layers, ctx.num_kept, ctx.in_fp8 = tiles, len(layers) // 2, num_kept, in_fp8
        return masks, mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_masks: Tensor, grad_mixed: Tensor) -> tuple[Tensor | None, ...]:
        masks, slots, position, logit, at, relate, *rest = ctx.saved_tensors
        depth = ctx.num_layers
        layers, kept = rest[: 2 * depth], rest[2 * depth :]
        given = _Given(slots, position, at, relate, layers, ctx.in_fp8)
        inputs = (slots, position, logit, at, relate, *layers)
        sums = [torch.zeros_like(logit if x is None else x, dtype=masks.dtype) for x in inputs]
        buffers = slots.new_empty(3, _size(ctx.tiles[0]) * masks.shape[1] * slots.shape[-1])
        for i, (frames, patches) in enumerate(ctx.tiles):
            first, grad, spare = _shaped(buffers, slots[frames], position[patches])
            before = kept[i * depth : (i + 1) * depth] if i < ctx.num_kept else None
            states = given.states((frames, patches), first, before)
            cut = (frames, slice(None), patches)
            outer = grad_mixed[frames, None, patches]
            _unmix(states[-1], masks[cut], logit, outer, grad_masks[cut], sums[2], out=grad)
            grad = _through(states, given, grad, sums[5:], spare)
            sums[0][frames] += grad.sum(2)
            sums[1][patches] += grad.sum((0, 1))
            if at is not None:
                sums[3][cut] = grad @ relate
                rows = rearrange(grad, "c k n h -> (c k n) h")
                _add_product(sums[4], rows.t(), rearrange(at[cut], "c k n p -> (c k n) p"))
        found = (None if x is None else total.to(x.dtype) for total, x in zip(sums, inputs, strict=True))
        return None, None, None, *found


def _tiles(m: int, k: int, n: int, h: int, device: torch.device) -> list[Tile]:
    """Slices of frames and of patches of few enough values of a hidden state; no other is larger than
    the first."""
    fit = max(1, chunk_values(device) // (k * h))  # patches
    frames = max(1, fit // n)
    patches = -(-n // -(-n // min(n, fit)))  # as even as can be
    starts = [(i, j) for i in range(0, m, frames) for j in range(0, n, patches)]
    return [(slice(i, min(i + frames, m)), slice(j, min(j + patches, n))) for i, j in starts]


def _keepable(slots: Tensor, values: int, num_tiles: int) -> int:
    """Of how many tiles, each of so many `values`, there is room to keep the states."""
    room = keepable_bytes(slots.device)
    needed = num_tiles * values * slots.element_size()
    return num_tiles if needed <= room else int(num_tiles * room / needed)


def _size(tile: Tile) -> int:
    frames, patches = tile
    return (frames.stop - frames.start) * (patches.stop - patches.start)


def _shaped(buffers: Tensor, slots: Tensor, position: Tensor) -> Tensor:
    """The beginning of each buffer as a hidden state c k n h of `slots` c k h, `position` n h."""
    (c, k, h), n = slots.shape, len(position)
    return rearrange(buffers[:, : c * k * n * h], "i (c k n h) -> i c k n h", c=c, k=k, n=n)


@region
def _unmix(
    hidden: Tensor,
    masks: Tensor,
    logit: Tensor,
    outer: Tensor,
    grad_masks: Tensor,
    sum_logit: Tensor,
    out: Tensor,
) -> None:
    """Gradient of the last state (into `out`) from `outer` c 1 n h of mixed and `grad_masks` c k n."""
    score = torch.mul(hidden, outer, out=out).sum(-1, dtype=masks.dtype) + grad_masks
    score *= masks
    score -= masks * score.sum(1, keepdim=True)
    score = score.to(hidden.dtype)
    sum_logit += torch.tensordot(score, hidden, dims=3)
    torch.mul(masks.to(hidden.dtype).unsqueeze(-1), outer, out=out).addcmul_(score.unsqueeze(-1), logit)


def _through(
    states: list[Tensor], given: _Given, grad: Tensor, sums: Sequence[Tensor], spare: Tensor
) -> Tensor:
    """Gradient of x_1 before its ReLU from `grad` of the last state; adds to `sums` of the layers."""
    for i in reversed(range(len(states))):
        _cut(grad, states[i], sums[2 * i - 1] if i > 0 else None)
        if i > 0:
            rows = rearrange(grad, "c k n h -> (c k n) h")
            _add_product(sums[2 * i - 2], rows.t(), rearrange(states[i - 1], "c k n h -> (c k n) h"))
            weight = given.layers[2 * i - 2]
            if given.fp8:
                grad = fp8.linear_grad(grad, weight)
            else:
                grad, spare = torch.matmul(grad, weight, out=spare), grad
    return grad


@region
def _cut(grad: Tensor, state: Tensor, sum_bias: Tensor | None) -> None:
    """Turn `grad` of a `state` into that before its ReLU, and add it to that of the bias."""
    torch.ops.aten.threshold_backward.grad_input(grad, state, 0, grad_input=grad)
    if sum_bias is not None:
        sum_bias += rearrange(grad, "c k n h -> (c k n) h").sum(0)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    if total.dtype == left.dtype:
        torch.addmm(total, left, right, out=total)  # counted by flop counters, unlike addmm_
    else:  # low precision: each product in it, their sum in float32
        total += left @ right
