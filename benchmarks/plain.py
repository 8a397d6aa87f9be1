"""The formulas of the network written down directly: the baseline of the benchmarks, and a check.

No algebra beyond the formula: keys and values of every patch, slot plus position through the whole
decoder, the output of each slot weighted by its mask. Works in any float type. Weights come as the
`state_dict` of a `vocl.models.recurrent.Recurrent` (or `weights_of` it), so that both compute the
same. Letters as in `vocl/interface.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

Weights = Mapping[str, Tensor]


class Result(NamedTuple):
    """`slots`, `predicted` b t k d; `attn`, `masks` b t k n; `recon` b t n e."""

    slots: Tensor
    predicted: Tensor
    attn: Tensor
    recon: Tensor
    masks: Tensor


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the trainable parameters of `model`, as leaves that take gradients."""
    named = model.named_parameters()
    return {name: p.detach().clone().requires_grad_() for name, p in named if p.requires_grad}


def inside(weights: Weights, prefix: str) -> dict[str, Tensor]:
    """The weights of the part `prefix`, under their names inside it."""
    return {
        name.removeprefix(f"{prefix}."): w for name, w in weights.items() if name.startswith(f"{prefix}.")
    }


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))


def norm(w: Weights, name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])


def mlp(w: Weights, name: str, x: Tensor) -> Tensor:
    """Linear layers 0, 2, 4, ... of a Sequential with ReLU between them."""
    layers = sorted({int(key.split(".")[-2]) for key in w if key.startswith(f"{name}.")})
    for layer in layers[:-1]:
        x = F.relu(linear(w, f"{name}.{layer}", x))
    return linear(w, f"{name}.{layers[-1]}", x)


def adapter(w: Weights, tokens: Tensor) -> Tensor:
    """b t n e to b t n d: LayerNorm, then an MLP."""
    return mlp(w, "mlp", norm(w, "norm", tokens))


def slot_attention(
    w: Weights, slots: Tensor, inputs: Tensor, iterations: int, normalised_hidden: bool
) -> tuple[Tensor, Tensor]:
    """Slots b k d and adapted features b n d of one frame to new slots and attn b k n."""
    features = norm(w, "norm_features", inputs)
    keys, values = linear(w, "to_k", features), linear(w, "to_v", features)
    b = len(slots)
    for _ in range(iterations):
        normed = norm(w, "norm_slots", slots)
        logits = linear(w, "to_q", normed) @ keys.transpose(1, 2) * slots.shape[-1] ** -0.5
        attn = torch.softmax(logits, dim=1)
        weights = attn + 1e-8
        update = weights / weights.sum(-1, keepdim=True) @ values
        rows = [rearrange(x, "b k d -> (b k) d") for x in (update, normed if normalised_hidden else slots)]
        slots = rearrange(gru(inside(w, "gru"), *rows), "(b k) d -> b k d", b=b)
        if "norm_mlp.weight" in w:
            slots = slots + mlp(w, "mlp", norm(w, "norm_mlp", slots))
    return slots, attn


def gru(w: Weights, x: Tensor, h: Tensor) -> Tensor:
    """torch.nn.GRUCell's convention; PyTorch's own cell, as anyone would use."""
    return torch.gru_cell(x, h, w["weight_ih"], w["weight_hh"], w["bias_ih"], w["bias_hh"])


def predictor(w: Weights, slots: Tensor, num_heads: int, multiplied: bool, pre: bool) -> Tensor:
    """Transformer blocks over the slots; `multiplied`: logits times sqrt(head_dim), not divided."""
    for block in range(1 + max(int(name.split(".")[1]) for name in w)):
        own = inside(w, f"blocks.{block}")
        if pre:
            slots = slots + attend(own, norm(own, "norm1", slots), num_heads, multiplied)
            slots = slots + feed_forward(own, norm(own, "norm2", slots))
        else:
            slots = norm(own, "norm1", slots + attend(own, slots, num_heads, multiplied))
            slots = norm(own, "norm2", slots + feed_forward(own, slots))
    return slots


def attend(w: Weights, x: Tensor, num_heads: int, multiplied: bool) -> Tensor:
    q, k, v = (
        rearrange(part, "b k (h d) -> b h k d", h=num_heads)
        for part in linear(w, "self_attn.qkv", x).chunk(3, -1)
    )
    scale = q.shape[-1] ** (0.5 if multiplied else -0.5)
    mixed = torch.softmax(q @ k.transpose(-1, -2) * scale, dim=-1) @ v
    return linear(w, "self_attn.out_proj", rearrange(mixed, "b h k d -> b k (h d)"))


def feed_forward(w: Weights, x: Tensor) -> Tensor:
    return linear(w, "linear2", F.relu(linear(w, "linear1", x)))


def decoder(w: Weights, slots: Tensor) -> tuple[Tensor, Tensor]:
    """Slots b t k d to recon b t n e and masks b t k n: every slot at every patch through the MLP."""
    out = mlp(w, "mlp", slots.unsqueeze(-2) + w["pos_emb"])
    masks = torch.softmax(out[..., -1], dim=2)
    return (masks.unsqueeze(-1) * out[..., :-1]).sum(2), masks


def slotcontrast(weights: Weights, tokens: Tensor) -> Result:
    """The whole network behind the backbone with SlotContrast's settings, from `tokens` b t n e."""
    inputs = adapter(inside(weights, "adapter"), tokens)
    corrector, transition = inside(weights, "corrector"), inside(weights, "predictor")
    state = weights["initializer.slots"].expand(len(tokens), -1, -1)
    steps = []
    for t in range(tokens.shape[1]):
        slots, attn = slot_attention(
            corrector, state, inputs[:, t], 3 if t == 0 else 2, normalised_hidden=True
        )
        state = predictor(transition, slots, num_heads=4, multiplied=True, pre=True)
        steps.append((slots, state, attn))
    slots, predicted, attn = (torch.stack(parts, dim=1) for parts in zip(*steps, strict=True))
    return Result(slots, predicted, attn, *decoder(inside(weights, "decoder"), slots))


def feature_loss(recon: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over every element."""
    return (recon - target).square().mean()


def contrast_loss(slots: Tensor, temperature: float) -> Tensor:
    """Each slot of a later frame picks itself among all slots of the batch in the frame before."""
    flat = rearrange(F.normalize(slots, dim=-1, eps=1e-12), "b t k d -> t (b k) d")
    target = torch.arange(flat.shape[1], device=slots.device)
    terms = [
        F.cross_entropy(later @ earlier.t() / temperature, target)
        for earlier, later in itertools.pairwise(flat)
    ]
    return torch.stack(terms).mean()
