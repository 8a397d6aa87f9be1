"""Temporal feature similarity against its formula, patch by patch."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vocl.interface import Clip, Grid
from vocl.losses.similarity import TemporalSimilarity
from vocl.models.videosaur import SimilarityOutput

B, T, N, E, TAU = 2, 3, 5, 2, 0.3


def _output(frames: int = T) -> SimilarityOutput:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    keys = draw(B, frames, N, E)
    keys[0, 0, 0], keys[0, 1] = -1, keys[0, 1].abs()  # a patch whose products are all negative
    return SimilarityOutput(
        slots=draw(B, frames, 1, 1),
        attn=torch.ones(B, frames, 1, N),
        grid=Grid(1, N),
        features=draw(B, frames, N, E),
        keys=keys,
        similarity=draw(B, frames, N, N).requires_grad_(),
    )


def _clip(valid: Tensor) -> Clip:
    return Clip(torch.zeros(B, valid.shape[1], 3, 1, 1), valid, torch.arange(B), ("a", "b"))


def _cross_entropy(now: Tensor, later: Tensor, logits: Tensor) -> float:
    """One patch: its key (e), those of the next frame (n e), and its logits (n)."""
    products = [float(now @ x / now.norm() / x.norm()) for x in later]
    exps = [math.exp(p / TAU) if p >= 0 else 0.0 for p in products]
    target = [x / sum(exps) for x in exps] if sum(exps) else [1 / len(exps)] * len(exps)
    total = sum(math.exp(x) for x in logits.tolist())
    return -sum(q * math.log(math.exp(x) / total) for q, x in zip(target, logits.tolist(), strict=True))


def _expected(features: Tensor, similarity: Tensor, pairs: list[tuple[int, int]]) -> float:
    """Mean over the patches of frame t of clip b, for (b, t) in `pairs`."""
    losses = [
        _cross_entropy(features[b, t, i], features[b, t + 1], similarity[b, t, i])
        for b, t in pairs
        for i in range(N)
    ]
    return sum(losses) / len(losses)


@pytest.mark.parametrize("of", ["keys", "features"])
def test_formula(of: str) -> None:
    output = _output()
    loss = TemporalSimilarity(temperature=TAU, of=of)(output, _clip(torch.ones(B, T, dtype=torch.bool)))
    pairs = [(b, t) for b in range(B) for t in range(T - 1)]
    assert float(loss.detach()) == pytest.approx(
        _expected(getattr(output, of), output.similarity, pairs), rel=1e-6
    )


def test_a_patch_without_any_like_it_is_to_predict_the_uniform() -> None:
    output = _output()
    target = TemporalSimilarity(temperature=TAU, of="keys").target(output.keys)
    torch.testing.assert_close(target[0, 0, 0], torch.full((N,), 1 / N))
    torch.testing.assert_close(target.sum(-1), torch.ones(B, T - 1, N))


def test_padding_does_not_count() -> None:
    output, valid = _output(), torch.ones(B, T, dtype=torch.bool)
    valid[1, 1:] = False
    loss = TemporalSimilarity(temperature=TAU, of="keys")(output, _clip(valid))
    assert float(loss.detach()) == pytest.approx(
        _expected(output.keys, output.similarity, [(0, 0), (0, 1)]), rel=1e-6
    )
    loss.backward()
    assert torch.isfinite(output.similarity.grad).all() and not output.similarity.grad[1].any()
    assert output.similarity.grad[0, :-1].any() and not output.similarity.grad[:, -1].any()


def test_uniform_logits_cost_the_logarithm_of_the_number_of_patches() -> None:
    output = _output()
    output.similarity = torch.zeros(B, T, N, N)
    loss = TemporalSimilarity(temperature=TAU, of="keys")(output, _clip(torch.ones(B, T, dtype=torch.bool)))
    assert float(loss) == pytest.approx(math.log(N), rel=1e-6)


def test_no_gradient_reaches_the_keys() -> None:
    output = _output()
    output.keys.requires_grad_()
    TemporalSimilarity(temperature=TAU, of="keys")(
        output, _clip(torch.ones(B, T, dtype=torch.bool))
    ).backward()
    assert output.keys.grad is None
