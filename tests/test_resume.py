"""Stop anywhere, start again: the run must end as if nothing had happened."""

from __future__ import annotations

import copy
import json
import os
import signal
import time

import pytest
from running import Killed, at_step, child, final, result, run_folder, same, send, steps_logged, tiny, wait

from vocl import run
from vocl.config.check import check
from vocl.evaluate.discovery import Discovery
from vocl.files import TEMPORARY
from vocl.rundir.attempts import Attempts
from vocl.rundir.checkpoint import Checkpoints
from vocl.rundir.run_dir import RunDir
from vocl.stop import stop_on_signal

EVENTS = '''
from __future__ import annotations
from typing import Annotated
import torch
from annotated_types import Gt


class Shift:
    """Moves the decoder's first bias by what it has seen of the slots: state that must survive."""

    def __init__(self, *, scale: Annotated[float, Gt(0)]) -> None:
        self.scale, self.seen, self.applied = scale, 0.0, 0

    def observe(self, step, output):
        self.seen += float(output.slots.detach().mean())

    def apply(self, model, step):
        self.applied += 1
        with torch.no_grad():
            next(p for n, p in model.named_parameters() if n.endswith("bias")).add_(self.scale * self.seen)

    def state_dict(self):
        return {"seen": self.seen, "applied": self.applied}

    def load_state_dict(self, state):
        self.seen, self.applied = state["seen"], state["applied"]
'''


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    """A config of two stages: other slots, terms, rates and clips, and an event on entering the second."""
    project = tmp_path_factory.mktemp("project")
    (project / "conf").mkdir()
    (project / "shifting").mkdir()
    (project / "shifting" / "__init__.py").write_text(EVENTS)

    def make(root, *overrides):
        config = tiny(root, *overrides).content
        config["project"] = str(project)
        stage = config["curriculum"]["stages"].pop("all")
        first = {"active_slots": 2, "terms": ["feature_mse"], "train": ["decoder.*", "corrector.*"]}
        feed = {"_target_": "vocl.curriculum.FeedSpec", "clip_frames": 3, "batch": 2, "sampling": None}
        event = {"_target_": "shifting.Shift", "scale": 0.5}
        second = {"lr": {"decoder.*": 0.1}, "feed": feed, "enter": [event]}
        for name, changes in (("first", first), ("second", second)):
            config["curriculum"]["stages"][name] = copy.deepcopy(stage) | {"length": 0.5} | changes
        return check(config)

    return make


@pytest.mark.parametrize("workers", [0, 2])
def test_a_chain_of_stops_and_kills_changes_nothing(tmp_path, staged, monkeypatch, workers):
    whole = staged(tmp_path / "whole")
    assert run.run(whole) == 0

    config = staged(tmp_path / "torn", f"runtime.workers={workers}")
    folder = run_folder(config)
    with monkeypatch.context() as patch:
        at_step(patch, 2, send(signal.SIGTERM))
        assert run.run(config) == 75
    assert [c.step for c in Checkpoints(folder / "checkpoints").list()] == [3]
    with monkeypatch.context() as patch:
        at_step(patch, 5, send(signal.SIGUSR2))  # saves at 6, before the event of the second stage
        assert run.run(config) == 75
    assert final(config)["curriculum"]["1.0"]["applied"] == 0

    def kill():
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        at_step(patch, 9, kill)  # between checkpoints: 6 is the newest
        run.run(config)
    assert steps_logged(config) == list(range(9))
    with monkeypatch.context() as patch:
        at_step(patch, 6, send(signal.SIGINT))
        assert run.run(config) == 75
    assert steps_logged(config) == list(range(7))  # cut back to 6, then one step
    assert final(config)["curriculum"]["1.0"]["applied"] == 1
    with monkeypatch.context() as patch:
        score = Discovery._score

        def slow(self, *arguments):
            send(signal.SIGTERM)()
            return score(self, *arguments)

        patch.setattr(Discovery, "_score", slow)
        assert run.run(config) == 75  # in the evaluation, after the first video
    assert not (folder / "result.json").exists()
    assert run.run(config) == 0

    same(final(config), final(whole))
    ours, theirs = result(config), result(whole)
    assert ours["evals"]["discovery"]["metrics"] == theirs["evals"]["discovery"]["metrics"]
    assert steps_logged(config) == steps_logged(whole) == list(range(12))
    logs = [(run_folder(c) / "metrics.jsonl").read_text().splitlines() for c in (config, whole)]
    for a, b in zip(*logs, strict=True):
        kept = ("step", "loss", "lr", "grad_norm", "slots_used", "stage")
        assert [json.loads(a)[k] for k in kept] == [json.loads(b)[k] for k in kept]
    _check_attempts(ours, folder)


def _check_attempts(ours, folder):
    """Six attempts: each has one start and one end; wall_s is the sum of the ends."""
    names = sorted(path.name for path in (folder / "events").glob("*.json"))
    ends = ["stopped", "stopped", "killed", "stopped", "stopped", "done"]
    expected = [f"{i + 1:04d}-{word}.json" for i, end in enumerate(ends) for word in sorted(("start", end))]
    assert names == expected
    events = [json.loads((folder / "events" / name).read_text()) for name in names]
    assert ours["attempts"] == 6
    assert ours["wall_s"] == pytest.approx(sum(e.get("wall_s", 0) for e in events), abs=0.02)
    assert [e["step"] for e in events if "step" in e] == [0, 3, 6, 6, 7, 12]
    assert [e["signal"] for e in events if "signal" in e] == [15, 12, 2, 15]


@pytest.mark.parametrize(("before", "ends"), [("write_result", ["killed", "done"]), ("end", [])])
def test_a_kill_beside_the_result_leaves_a_run_that_is_done_once(tmp_path, monkeypatch, before, ends):
    """An attempt is said to be done after its run: one that was said so before would be done twice."""
    config = tiny(tmp_path)
    owner = {"write_result": RunDir, "end": Attempts}[before]
    with monkeypatch.context() as patch:
        patch.setattr(owner, before, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
        assert wait(child(lambda: run.run(config))) == -signal.SIGKILL
    assert run.run(config) == 0
    events = sorted(path.stem for path in (run_folder(config) / "events").glob("*.json"))
    assert [name[5:] for name in events if not name.endswith("start")] == ends
    assert result(config)["attempts"] == max(1, len(ends))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_process_leaves_a_run_that_goes_on(tmp_path, workers):
    """kill -9 at whatever instant it is, three times."""
    whole = tiny(tmp_path / "whole", "train.steps=40", "runtime.checkpoint_every=3")
    assert run.run(whole) == 0
    torn = ("train.steps=40", "runtime.checkpoint_every=3", f"runtime.workers={workers}")
    config = tiny(tmp_path / "torn", *torn)
    checkpoints = Checkpoints(run_folder(config) / "checkpoints")
    for least in (5, 14, 29):
        pid = child(lambda: run.run(config))
        until = time.monotonic() + 30
        while not [c for c in checkpoints.list() if c.step >= least] and time.monotonic() < until:
            time.sleep(0.002)
        os.kill(pid, signal.SIGKILL)
        assert wait(pid) == -signal.SIGKILL
    assert run.run(config) == 0
    same(final(config), final(whole))
    assert result(config)["attempts"] == 4
    assert steps_logged(config) == list(range(40))


def test_repeating_a_finished_run_prints_its_scores(tmp_path, capsys):
    config = tiny(tmp_path, "train.steps=2")
    assert run.run(config) == 0
    before = {p: p.stat().st_mtime_ns for p in run_folder(config).rglob("*")}
    first = capsys.readouterr().out
    assert run.run(config) == 0
    assert capsys.readouterr().out == first and "video_fg_ari" in first
    assert before == {p: p.stat().st_mtime_ns for p in run_folder(config).rglob("*")}


def test_what_draws_from_the_global_generator_resumes_too(tmp_path, monkeypatch):
    """Dropout in a project's module: the step alone decides it."""
    import torch

    from vocl.nn.blocks import TransformerPredictor

    forward = TransformerPredictor.forward
    monkeypatch.setattr(
        TransformerPredictor, "forward", lambda self, x: torch.nn.functional.dropout(forward(self, x), 0.5)
    )
    whole, torn = tiny(tmp_path / "a", "train.steps=6"), tiny(tmp_path / "b", "train.steps=6")
    assert run.run(whole) == 0
    with monkeypatch.context() as patch:
        at_step(patch, 2, send(signal.SIGTERM))
        assert run.run(torn) == 75
    torch.manual_seed(99)
    assert run.run(torn) == 0
    same(final(torn), final(whole))


def test_the_threads_of_the_first_attempt_hold(tmp_path, monkeypatch):
    import torch

    config = tiny(tmp_path, "train.steps=4")
    with monkeypatch.context() as patch:
        at_step(patch, 1, send(signal.SIGTERM))
        assert run.run(config) == 75
    used = []
    monkeypatch.setattr(torch, "set_num_threads", used.append)
    assert run.run(tiny(tmp_path, "train.steps=4", "runtime.threads=2")) == 0
    assert used == [1]


def test_a_stop_before_the_run_began_writes_nothing(tmp_path, capsys):
    with stop_on_signal() as flag:
        send(signal.SIGTERM)()
    assert run.run(tiny(tmp_path / "results"), flag) == 75
    assert not (tmp_path / "results").exists()
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_what_killed_attempts_left_unfinished_goes_and_what_others_are_writing_stays(tmp_path):
    config = tiny(tmp_path)
    folder = run_folder(config)
    unfinished = [folder / place / f"{TEMPORARY}x" for place in ("events", "checkpoints", "jobs", "wandb")]
    for path in unfinished:
        path.parent.mkdir(parents=True)
        path.touch()
    assert run.run(config) == 0
    assert [path.exists() for path in unfinished] == [False, False, True, True]
