"""`train.precision`: steps of low precision stay close to those in fp32, and say what they are."""

from __future__ import annotations

import pytest
from running import losses, tiny

from vocl import run

STEPS = ("train.steps=40", "model.decoder.num_layers=3", "model.decoder.hidden_dim=32", "runtime.log_every=5")


def test_losses_are_within_a_hundredth_of_those_in_fp32(tmp_path):
    configs = [tiny(tmp_path / p, *STEPS, f"train.precision={p}") for p in ("fp32", "bf16", "fp8")]
    assert [run.run(config) for config in configs] == [0, 0, 0]
    plain, bf16, fp8 = map(losses, configs)
    assert len(plain) == 8 and plain[-1] < 0.9 * plain[0]  # it learns, so that small steps would show
    assert plain != bf16 != fp8 != plain
    assert bf16 == pytest.approx(plain, rel=1e-2)
    assert fp8 == pytest.approx(plain, rel=1e-2)
