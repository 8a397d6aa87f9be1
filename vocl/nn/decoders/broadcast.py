"""From slots to a reconstruction and to the masks that say which slot made which patch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from annotated_types import Ge
from einops import rearrange
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vocl.errors import UserError
from vocl.interface import Grid
from vocl.nn.adapters import coordinates
from vocl.nn.blocks import mlp

# Values of one hidden state that the decoder works on at a time. One CPU thread: few enough for its
# cache. Several: more, since threads that meet often stall under any other load on the machine. A
# GPU: enough rows to fill it.
CHUNK = {"thread": 2**19, "cpu": 2**21, "gpu": 2**26}


class Decoded(NamedTuple):
    """`recon` b t n e (or b t c h w), None if not asked for; `masks` b t k n on `grid`."""

    recon: Tensor | None
    masks: Tensor
    grid: Grid


class PlacedDecoder(Protocol):
    """From slots that have a place, and may be out of use, to patches on its `grid`."""

    grid: Grid

    def __call__(self, slots: Tensor, place: Tensor, active: Tensor, reconstruct: bool) -> Decoded: ...


class MLPDecoder(nn.Module):
    """Each slot is broadcast to all patches, decoded by an MLP, and mixed by its masks.

    DINOSAUR and SlotContrast: x = slot + position, `num_layers` hidden layers with ReLU, a linear
    layer to e + 1 outputs, the last of which is the mask logit; masks = softmax over the slots.

    Computed by exact algebra with fewer products than the formula: the first layer is linear in
    slot + position, so both parts pass it apart (n + k rows instead of n * k); the last layer is
    linear and the masks sum to 1, so hidden states are mixed before it (n rows instead of n * k);
    the bias of the mask logit is the same for all slots, so the masks do not depend on it. What
    lies between, the only part with n * k rows, runs a tile at a time (see `_MixHidden`).
    """

    def __init__(
        self,
        slot_dim: int,
        target_dim: int,
        grid: Grid,
        *,
        hidden_dim: Annotated[int, Ge(1)],
        num_layers: Annotated[int, Ge(1)],
    ) -> None:
        super().__init__()
        self.grid = grid
        self.target_dim = target_dim
        patches = grid.rows * grid.columns
        self.pos_emb = nn.Parameter(torch.randn(patches, slot_dim) * slot_dim**-0.5)
        self.mlp = mlp([slot_dim, *[hidden_dim] * num_layers, target_dim + 1])

    def forward(self, slots: Tensor, reconstruct: bool = True) -> Decoded:
        """`slots` b t k d."""
        device = slots.device.type
        low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else slots.dtype
        first, *middle, last = (layer for layer in self.mlp if isinstance(layer, nn.Linear))
        position = F.linear(self.pos_emb, first.weight, first.bias)
        per_slot = rearrange(F.linear(slots, first.weight), "b t k h -> (b t) k h")
        layers = [p.to(low) for layer in middle for p in (layer.weight, layer.bias)]
        with torch.autocast(device, enabled=False):
            masks, mixed = _MixHidden.apply(
                torch.is_grad_enabled(), per_slot.to(low), position.to(low), last.weight[-1].to(low), *layers
            )
        masks = rearrange(masks, "(b t) k n -> b t k n", b=len(slots))
        recon = None
        if reconstruct:
            mixed = rearrange(mixed, "(b t) n h -> b t n h", b=len(slots))
            recon = F.linear(mixed, last.weight[:-1], last.bias[:-1])
        return Decoded(recon, masks, self.grid)


class _MixHidden(torch.autograd.Function):
    """The hidden layers of `MLPDecoder` for every slot and patch, mixed over the slots.

    x_1 = ReLU(slot part + position part), x_(i+1) = ReLU(W_i x_i + b_i), masks = softmax over the
    slots of x_last . w, mixed = sum over the slots of masks * x_last. The gradients are written
    out, so that a tile (a few frames, or a few patches of one) at a time goes forward and back:
    temporaries stay in a CPU's cache and small on a GPU, every ReLU works in place, and x_1, a mere
    sum, is computed again rather than kept. Once differentiable.
    """

    @staticmethod
    def forward(
        ctx: Any, keep: bool, slots: Tensor, position: Tensor, logit: Tensor, *layers: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`slots` m k h, `position` n h, `logit` h, then weight and bias of each further layer.

        Returns masks m k n (float32) and mixed m n h; `keep`: whether a backward pass will follow.
        """
        (m, k, h), n = slots.shape, len(position)
        masks = torch.empty(
            m, k, n, device=slots.device, dtype=torch.promote_types(slots.dtype, torch.float32)
        )
        mixed = slots.new_empty(m, n, h)
        tiles, kept = _tiles(m, k, n, h, slots.device.type), []
        buffers = slots.new_empty(2, _size(tiles[0]) * k * h)
        for frames, patches in tiles:
            first, weighted = _shaped(buffers, slots[frames], position[patches])
            states = _hidden(_first(slots[frames], position[patches], out=first), layers)
            hidden = states[-1]
            weights = torch.softmax(torch.matmul(hidden, logit), dim=1, dtype=masks.dtype)
            torch.mul(hidden, weights.to(hidden.dtype).unsqueeze(-1), out=weighted)
            masks[frames, :, patches] = weights
            mixed[frames, patches] = weighted.sum(1)
            kept += states[1:] if keep else []
        ctx.save_for_backward(masks, slots, position, logit, *layers, *kept)
        ctx.tiles, ctx.num_layers = tiles, len(layers) // 2
        return masks, mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_masks: Tensor, grad_mixed: Tensor) -> tuple[Tensor | None, ...]:
        masks, slots, position, logit, *rest = ctx.saved_tensors
        depth = ctx.num_layers
        layers, kept = rest[: 2 * depth], rest[2 * depth :]
        sums = [torch.zeros_like(x, dtype=masks.dtype) for x in (slots, position, logit, *layers)]
        buffers = slots.new_empty(3, _size(ctx.tiles[0]) * masks.shape[1] * slots.shape[-1])
        for i, (frames, patches) in enumerate(ctx.tiles):
            first, grad, spare = _shaped(buffers, slots[frames], position[patches])
            _first(slots[frames], position[patches], out=first)
            states = [first, *kept[i * depth : (i + 1) * depth]]
            at = (frames, slice(None), patches)
            _unmix(
                states[-1],
                masks[at],
                logit,
                grad_mixed[frames, None, patches],
                grad_masks[at],
                sums[2],
                out=grad,
            )
            grad = _through(states, layers, grad, sums[3:], spare)
            sums[0][frames] += grad.sum(2)
            sums[1][patches] += grad.sum((0, 1))
        own = zip(sums, (slots, position, logit, *layers), strict=True)
        return None, *(total.to(x.dtype) for total, x in own)


Tile = tuple[slice, slice]


def _tiles(m: int, k: int, n: int, h: int, device: str) -> list[Tile]:
    """Slices of frames and of patches with up to `CHUNK` values of a hidden state; no other is larger
    than the first."""
    on_cpu = "thread" if torch.get_num_threads() == 1 else "cpu"
    fit = max(1, CHUNK[on_cpu if device == "cpu" else "gpu"] // (k * h))  # patches
    frames = max(1, fit // n)
    patches = -(-n // -(-n // min(n, fit)))  # as even as can be
    starts = [(i, j) for i in range(0, m, frames) for j in range(0, n, patches)]
    return [(slice(i, min(i + frames, m)), slice(j, min(j + patches, n))) for i, j in starts]


def _size(tile: Tile) -> int:
    frames, patches = tile
    return (frames.stop - frames.start) * (patches.stop - patches.start)


def _shaped(buffers: Tensor, slots: Tensor, position: Tensor) -> Tensor:
    """The beginning of each buffer as a hidden state c k n h of `slots` c k h, `position` n h."""
    (c, k, h), n = slots.shape, len(position)
    return rearrange(buffers[:, : c * k * n * h], "i (c k n h) -> i c k n h", c=c, k=k, n=n)


def _first(slots: Tensor, position: Tensor, out: Tensor) -> Tensor:
    return F.relu_(torch.add(slots.unsqueeze(2), position, out=out))


def _hidden(first: Tensor, layers: Sequence[Tensor]) -> list[Tensor]:
    """The states x_1, x_2, ..., each c k n h, from x_1."""
    states = [first]
    for weight, bias in zip(layers[0::2], layers[1::2], strict=True):
        states.append(F.relu_(F.linear(states[-1], weight, bias)))
    return states


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
    states: list[Tensor], layers: Sequence[Tensor], grad: Tensor, sums: Sequence[Tensor], spare: Tensor
) -> Tensor:
    """Gradient of x_1 before its ReLU from `grad` of the last state; adds to `sums` of the layers."""
    for i in reversed(range(len(states))):
        torch.ops.aten.threshold_backward.grad_input(grad, states[i], 0, grad_input=grad)
        if i > 0:
            rows = rearrange(grad, "c k n h -> (c k n) h")
            _add_product(sums[2 * i - 2], rows.t(), rearrange(states[i - 1], "c k n h -> (c k n) h"))
            sums[2 * i - 1] += rows.sum(0)
            grad, spare = torch.matmul(grad, layers[2 * i - 2], out=spare), grad
    return grad


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    if total.dtype == left.dtype:
        torch.addmm(total, left, right, out=total)  # counted by flop counters, unlike addmm_
    else:  # low precision: each product in it, their sum in float32
        total += left @ right


class BroadcastDecoder(nn.Module):
    """Spatial broadcast decoder (Watters et al., 2019) as SAVi uses it: slots to pixels.

    Each slot is broadcast to a small grid, a projected coordinate code is added, and `num_layers`
    layers of 5x5 convolutions, the first `num_upsample` transposed with stride 2, give the
    target's channels and a mask logit; masks = softmax over the slots.
    """

    def __init__(
        self,
        slot_dim: int,
        target_dim: int,
        grid: Grid,
        *,
        channels: Annotated[int, Ge(1)],
        num_layers: Annotated[int, Ge(1)],
        num_upsample: Annotated[int, Ge(0)],
    ) -> None:
        super().__init__()
        factor = 2**num_upsample
        if grid.rows % factor or grid.columns % factor:
            raise UserError(
                f"model.decoder.num_upsample={num_upsample}: frames of {grid.rows}x{grid.columns} pixels "
                f"(dataset.size_px) are not a multiple of 2**num_upsample = {factor}"
            )
        if num_upsample > num_layers:
            raise UserError(f"model.decoder.num_upsample={num_upsample}: at most num_layers={num_layers}")
        self.grid = grid
        self.start = Grid(grid.rows // factor, grid.columns // factor)
        self.register_buffer("code", coordinates(self.start), persistent=False)
        self.project = nn.Linear(4, slot_dim)
        layers: list[nn.Module] = []
        for i in range(num_layers):
            width = slot_dim if i == 0 else channels
            layers += [_convolution(width, channels, upsample=i < num_upsample), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)
        self.head = nn.Conv2d(channels, target_dim + 1, kernel_size=1)

    def forward(self, slots: Tensor, reconstruct: bool = True) -> Decoded:
        """`slots` b t k d; recon b t c h w, masks b t k (h w)."""
        b, t, k, _ = slots.shape
        x = rearrange(slots, "b t k d -> (b t k) 1 d") + self.project(self.code)
        x = rearrange(x, "m (r s) d -> m d r s", r=self.start.rows)
        x = rearrange(self.head(self.convolutions(x)), "(b t k) c h w -> b t k c h w", b=b, t=t, k=k)
        masks = torch.softmax(x[:, :, :, -1].float(), dim=2)
        recon = torch.einsum("btkhw,btkchw->btchw", masks, x[:, :, :, :-1]) if reconstruct else None
        return Decoded(recon, rearrange(masks, "b t k h w -> b t k (h w)"), self.grid)


def _convolution(fan_in: int, fan_out: int, upsample: bool) -> nn.Module:
    if upsample:
        return nn.ConvTranspose2d(fan_in, fan_out, kernel_size=5, stride=2, padding=2, output_padding=1)
    return nn.Conv2d(fan_in, fan_out, kernel_size=5, padding=2)
