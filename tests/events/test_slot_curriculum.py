"""Training with a growing number of slots: what moves, what stays, and that it resumes exactly."""

from __future__ import annotations

import json
import signal

import pytest
import torch
from running import (
    SGD,
    Killed,
    at_step,
    final,
    on_ranks,
    result,
    run_folder,
    same,
    send,
    tiny,
    two_ranks_equal_one,
)

from launch import cli
from vocl import run
from vocl.errors import UserError
from vocl.rundir.run_dir import RunDir
from vocl.stop import StopFlag

# 20 steps: 2 slots, 3 from step 2 on, all 4 from step 5 on
GROWING = ("train.steps=20", "curriculum=slotcurri", "loss=[feature_mse,slot_contrast,ssim]")


def trainer(tmp_path, *overrides):
    config = tiny(tmp_path, *GROWING, *overrides)
    made = run.make_trainer(
        config, RunDir(tmp_path / "x"), torch.device("cpu"), StopFlag(), True, silent=True
    )
    made.save = lambda step: None
    return made


def test_slots_in_use_by_step(tmp_path):
    made, used = trainer(tmp_path), []
    forward = made.forward

    def watched(step, clip):
        output, *rest = forward(step, clip)
        used.append(output.slots.shape[2])
        return output, *rest

    made.forward = watched
    made.fit(range(0, 7))
    assert used == [2, 2, 3, 3, 3, 4, 4]


@pytest.mark.parametrize("curriculum", ["slotcurri", "slotcurri_simple"])
def test_rows_not_in_use_get_a_zero_gradient_and_keep_their_values(tmp_path, curriculum):
    made = trainer(tmp_path, f"curriculum={curriculum}")
    slots = made.model.initializer.slots
    built = slots.detach().clone()[0]
    made.fit(range(0, 2))
    state = made.torch_optimizer.state[slots]
    assert torch.equal(slots.detach()[0, 2:], built[2:])
    assert slots.grad is not None and not slots.grad[0, 2:].any() and slots.grad[0, :2].any()
    assert not state["exp_avg"][0, 2:].any() and state["exp_avg"][0, :2].any()
    made.fit(range(2, 3))
    assert torch.equal(slots.detach()[0, 3], built[3])
    assert made.torch_optimizer.state[slots] is state and state["step"] == 3  # one Adam for the whole run
    assert state["exp_avg"][0, 2].any()
    made.fit(range(3, 5))
    assert slots.grad[0, :3].any(dim=1).all() and torch.equal(slots.detach()[0, 3], built[3])


def test_a_transition_writes_the_new_rows_alone(tmp_path):
    made = trainer(tmp_path)
    made.fit(range(0, 2))
    before = {name: p.detach().clone() for name, p in made.model.named_parameters()}
    moments = made.torch_optimizer.state[made.model.initializer.slots]["exp_avg"].clone()
    (event,) = made.curriculum.entering(2)
    event.apply(made.model, 2)
    changed = [n for n, p in made.model.named_parameters() if not torch.equal(p, before[n])]
    assert changed == ["initializer.slots"]
    rows = (made.model.initializer.slots.detach() != before["initializer.slots"])[0].any(dim=1)
    assert rows.tolist() == [False, False, True, False]
    assert torch.equal(made.torch_optimizer.state[made.model.initializer.slots]["exp_avg"], moments)


@pytest.mark.parametrize("preset", ["release", "paper"])
def test_stops_around_both_transitions_change_nothing(tmp_path, monkeypatch, preset):
    """Checkpoints at 1, 2, 3 and 4, 5, 6, and a kill in the step of each transition, its children written."""
    settings = (*GROWING, f"curriculum/spawn={preset}")
    whole, torn = tiny(tmp_path / "whole", *settings), tiny(tmp_path / "torn", *settings)
    assert run.run(whole) == 0
    for step in range(6):
        if step in (2, 5):
            with monkeypatch.context() as patch, pytest.raises(Killed):
                at_step(patch, step, kill)
                run.run(torn)
        with monkeypatch.context() as patch:
            at_step(patch, step, send(signal.SIGTERM))
            assert run.run(torn) == 75
        assert final(torn)["step"] == step + 1
    assert run.run(torn) == 0
    same(final(torn), final(whole))
    assert final(whole)["curriculum"].keys() == {"1.0", "2.0"}
    assert [len(state["error"]) for state in final(whole)["curriculum"].values()] == [2, 3]
    ours, theirs = (result(c)["evals"]["discovery"]["metrics"] for c in (torn, whole))
    assert ours == theirs


def kill():
    raise Killed


@pytest.mark.slow
def test_two_ranks_spawn_the_same_children_as_one(tmp_path):
    one, two = (tiny(tmp_path / name, *GROWING, *SGD) for name in ("one", "two"))
    two_ranks_equal_one(one, two, tmp_path / "log")
    for name, state in final(one)["curriculum"].items():
        torch.testing.assert_close(final(two)["curriculum"][name]["error"], state["error"])
    lines = [(run_folder(c) / "metrics.jsonl").read_text().splitlines() for c in (one, two)]
    for a, b in zip(*lines, strict=True):
        assert json.loads(a)["loss"] == pytest.approx(json.loads(b)["loss"], rel=1e-5)


def test_ranks_hold_the_same_slots_after_a_transition(tmp_path):
    """Each rank's own copy, bit for bit: gradients are shared, weights never are."""
    config, log = tiny(tmp_path, *GROWING), tmp_path / "log"
    (tmp_path / "copies").mkdir()

    def one_rank(rank):
        fit = run.Trainer.fit

        def kept(self, steps):
            fit(self, steps)
            torch.save(self.model.initializer.slots.detach(), tmp_path / "copies" / f"{rank}.pt")

        run.Trainer.fit = kept
        return run.run(config)

    assert on_ranks(2, one_rank, log) == [0, 0], log.read_text()
    a, b = (torch.load(tmp_path / "copies" / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert torch.equal(a, b)


def test_slots_that_are_drawn_cannot_be_spawned(tmp_path):
    with pytest.raises(UserError, match=r"curriculum\.spawn: .*slot_init\.Gaussian has none"):
        trainer(tmp_path, "model.initializer._target_=vocl.nn.slot_init.Gaussian")
    trainer(tmp_path, "model.initializer._target_=vocl.nn.slot_init.Gaussian", "curriculum=slotcurri_simple")


def test_slots_that_are_merged_cannot_be_judged_one_by_one(capsys):
    words = ["plan", "experiment=solv/synthetic", "curriculum=slotcurri"]
    assert cli.main(words) == 2
    assert "curriculum.spawn: model.merge puts slots together" in capsys.readouterr().err
    assert cli.main([*words, "model.merge=null"]) == 0
    assert cli.main([*words, "curriculum/spawn=papers"]) == 2
    told = "curriculum/spawn=papers: no such choice, choose from paper, release; did you mean paper?\n"
    assert capsys.readouterr().err == told
    assert cli.main([*words, "curriculum.spawn.beta=0"]) == 2
    assert capsys.readouterr().err == "curriculum.spawn.beta=0.0: out of range, choose a value > 0\n"


def test_a_run_too_short_for_its_stages_still_enters_them(tmp_path):
    for steps in (1, 2, 4):
        assert run.run(tiny(tmp_path, *GROWING, f"train.steps={steps}")) == 0
