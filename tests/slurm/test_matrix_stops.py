"""Runs that are stopped from outside end as if nothing had happened: preemption, limits, kills."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from running import final, on_ranks, same
from sweeps import Sweeps, shared_folder

from vocl import run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sweeps(start_cluster) -> Iterator[Sweeps]:
    with shared_folder() as folder:
        yield Sweeps(start_cluster(), folder)


@pytest.fixture(scope="module")
def preempted(sweeps: Sweeps) -> dict[str, tuple]:
    """Five jobs that the same preemption hits: requeued, cancelled, about to end, on two ranks, with
    loader processes."""
    own = {
        "requeue": ("seed=1", "loss.probe.folder=GATE"),
        "cancel": ("seed=2", "loss.probe.folder=GATE", "cluster.partition=cancel"),
        "late": ("seed=3", "eval=[discovery,late]", "eval.late.folder=GATE"),
        "ranks": ("seed=4", "loss.probe.folder=GATE", "cluster.tasks=2"),
        "loaders": ("seed=5", "loss.probe.folder=GATE", "runtime.workers=2"),
    }
    gates = {name: sweeps.gate(name) for name in own}
    words = {name: sweeps.words(*(w.replace("GATE", str(gates[name])) for w in own[name])) for name in own}
    for each in words.values():
        assert sweeps.submit(each) == 0
    specs = {name: sweeps.specs(each)[0] for name, each in words.items()}
    sweeps.arrived(*gates.values())
    sweeps.cluster.preempt(sweeps.job(specs["late"]))
    for name in own.keys() - {"late"}:
        sweeps.let_go(specs[name], gates[name])
    return {name: (words[name], specs[name]) for name in own}


@pytest.mark.parametrize("name", ["requeue", "loaders"])
def test_preempted_run_saves_is_requeued_and_goes_on(sweeps: Sweeps, preempted, name):
    _, spec = preempted[name]
    sweeps.settled(spec)
    sweeps.assert_whole(spec)
    assert sweeps.ends(spec) == ["stopped", "done"]
    stopped = sweeps.event(spec, "0001-stopped")
    assert stopped["signal"] == signal.SIGTERM
    assert stopped["detail"] == "step 3 of 12"
    assert [start["step"] for start in sweeps.starts(spec)] == [0, 3]
    (claim,) = sweeps.claims(spec)
    assert (claim.start["restart"], claim.end["outcome"]) == (1, "done")
    assert sweeps.sacct(sweeps.job(spec), 2) == [("PREEMPTED", "0:0"), ("COMPLETED", "0:0")]


def test_run_that_ends_within_kill_wait_is_not_run_again(sweeps: Sweeps, preempted):
    _, spec = preempted["late"]
    sweeps.settled(spec)
    rows = sweeps.sacct(sweeps.job(spec), 2)
    assert [state for state, _ in rows] == ["PREEMPTED", "COMPLETED"]
    sweeps.assert_whole(spec)
    assert sweeps.ends(spec) == ["done"]
    assert sweeps.result(spec)["attempts"] == 1
    (claim,) = sweeps.claims(spec)
    assert (claim.start["restart"], claim.end["outcome"]) == (0, "done")


def test_run_on_two_ranks_stops_as_one_and_goes_on(sweeps: Sweeps, preempted):
    _, spec = preempted["ranks"]
    sweeps.settled(spec)
    assert sweeps.ends(spec) == ["stopped", "done"]
    assert [start["world"] for start in sweeps.starts(spec)] == [2, 2]
    sweeps.assert_never_twice(spec)
    assert [s for s, _ in sweeps.sacct(sweeps.job(spec), 2)] == ["PREEMPTED", "COMPLETED"]
    twin = replace(spec.config, runtime=replace(spec.config.runtime, root=str(sweeps.folder / "twins")))
    assert on_ranks(2, lambda rank: run.run(twin), sweeps.folder / "ranks.txt") == [0, 0]
    same(final(spec.config), final(twin))


def test_a_signal_to_all_processes_of_a_job_stops_a_run_with_loaders(sweeps: Sweeps):
    gate = sweeps.gate("signalled")
    (gate / "stay").touch()
    words = sweeps.words("seed=6", f"loss.probe.folder={gate}", "runtime.workers=2")
    assert sweeps.submit(words) == 0
    (spec,) = sweeps.specs(words)
    sweeps.arrived(gate)
    pid = sweeps.starts(spec)[-1]["pid"]
    loaders = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert len(loaders) == 2
    job = sweeps.job(spec)
    sweeps.cluster.run("scancel", "--signal=TERM", job, check=True)
    time.sleep(3)  # for what must not happen: that a loader ends
    assert all(Path(f"/proc/{each}").exists() for each in loaders)
    (gate / "go").touch()
    states = sweeps.wait_for([spec], "interrupted")
    assert sweeps.ends(spec) == ["stopped"], states
    stopped = sweeps.event(spec, "0001-stopped")
    assert (stopped["signal"], stopped["detail"]) == (signal.SIGTERM, "step 3 of 12")
    assert sweeps.sacct(job) == [("FAILED", "75:0")]
    assert sweeps.submit(words) == 0
    sweeps.settled(spec)
    sweeps.assert_whole(spec)
    assert sweeps.ends(spec) == ["stopped", "done"]
    assert [start["step"] for start in sweeps.starts(spec)] == [0, 3]
    assert sweeps.sacct(sweeps.job(spec)) == [("COMPLETED", "0:0")]


def test_preempted_run_that_nobody_requeues_is_interrupted_and_submitted_again(sweeps: Sweeps, preempted):
    words, spec = preempted["cancel"]
    job = sweeps.job(spec)
    states = sweeps.wait_for([spec], "interrupted")
    assert states[spec.id].reason == "preempted"
    assert sweeps.sacct(job) == [("PREEMPTED", "0:0")]
    assert sweeps.submit(words) == 0
    sweeps.settled(spec)
    sweeps.assert_whole(spec)
    assert sweeps.ends(spec) == ["stopped", "done"]
    first, second = sweeps.claims(spec)
    assert first.end is None and second.end["outcome"] == "done"
    assert sweeps.sacct(sweeps.job(spec)) == [("COMPLETED", "0:0")]
