"""What weight decay applies to."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from running import tiny

from vocl import run
from vocl.config import identity
from vocl.config.migrate import migrate
from vocl.optim import SGD, Adam, AdamW
from vocl.rundir.run_dir import RunDir
from vocl.stop import StopFlag
from vocl.trainer import Trainer

ADAMW = ("optim=adamw", "optim.weight_decay=0.5", "optim.schedule.warmup_steps=0", "optim.lr=0.1")


def trainer(root: Path, *overrides: str, stage: dict | None = None) -> Trainer:
    config = tiny(root, *ADAMW, *overrides)
    config.curriculum["stages"]["all"].update(stage or {})
    return run.make_trainer(config, RunDir(root), torch.device("cpu"), StopFlag(), fresh=True, silent=True)


@pytest.mark.parametrize("decay", ["all", "matrices"])
def test_a_step_without_gradient_decays_what_is_to_decay(tmp_path, monkeypatch, decay):
    made = trainer(tmp_path, f"optim.decay={decay}")
    before = {name: p.detach().clone() for name, p in made.trainable.items()}
    nothing = lambda step, clip: (None, sum(0 * p.sum() for p in made.trainable.values()), {})  # noqa: E731
    monkeypatch.setattr(made, "forward", nothing)
    made.step(0, SimpleNamespace(names=()))
    shapes = {p.ndim for p in made.trainable.values()}
    assert 1 in shapes and max(shapes) > 1
    for name, p in made.trainable.items():
        decays = decay == "all" or p.ndim > 1
        torch.testing.assert_close(p.detach(), before[name] * (0.95 if decays else 1.0), msg=name)


def test_all_alike_are_one_group_as_before_there_was_a_choice(tmp_path):
    assert len(trainer(tmp_path).torch_optimizer.param_groups) == 1
    assert len(trainer(tmp_path, "optim.decay=matrices").torch_optimizer.param_groups) == 2


def test_a_stage_that_names_a_decay_has_it_for_biases_too(tmp_path):
    made = trainer(tmp_path, "optim.decay=matrices", stage={"weight_decay": {"*": 0.25}})
    made._set_rates(0)
    assert {group["weight_decay"] for group in made.torch_optimizer.param_groups} == {0.25}


def test_saved_configs_of_optimizers_that_have_no_choice_get_none(tmp_path):
    for optim, has in (("adam", False), ("adamw", True)):
        config = tiny(
            tmp_path, f"optim={optim}", "optim/schedule=constant", "optim.schedule.warmup_steps=2"
        ).content
        saved = {**config, "optim": {k: v for k, v in config["optim"].items() if k != "decay"}}
        assert migrate(saved) == config and ("decay" in config["optim"]) is has
        assert identity.run_id(saved) == identity.run_id(config)


def final(kind: type[torch.optim.Optimizer], **settings: Any) -> list[torch.Tensor]:
    """Weights after ten steps, halfway through which the optimizer is restored from its own state."""
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(3, 2, generator=generator).requires_grad_() for _ in range(2)]
    made = kind([{"params": [weight]} for weight in weights], lr=0.1, foreach=True, **settings)
    for step in range(10):
        made.zero_grad(set_to_none=True)
        sum(weight.cos().sum() for weight in weights).backward()
        made.step()
        if step == 5:
            made.load_state_dict(copy.deepcopy(made.state_dict()))
    return [weight.detach() for weight in weights]


@pytest.mark.parametrize(
    "ours, theirs, settings",
    [
        (Adam.kind, torch.optim.Adam, {"betas": (0.8, 0.9)}),
        (AdamW.kind, torch.optim.AdamW, {"weight_decay": 0.5}),
        (SGD.kind, torch.optim.SGD, {"momentum": 0.9}),
    ],
)
def test_steps_are_those_of_torch(ours, theirs, settings):
    pairs = zip(final(ours, **settings), final(theirs, **settings), strict=True)
    assert all(torch.equal(own, other) for own, other in pairs)
