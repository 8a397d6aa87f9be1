"""Time limits, a controller or an accounting that is away, and SLURM's default delays."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from sweeps import Sweeps, shared_folder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sweeps(start_cluster) -> Iterator[Sweeps]:
    with shared_folder() as folder:
        yield Sweeps(start_cluster(max_array_size=4), folder)


@pytest.fixture(scope="module", autouse=True)
def limited(sweeps: Sweeps) -> Iterator[tuple]:
    """A run that meets its time limit while other tests run: two minutes to arrive, two to save and leave."""
    gate = sweeps.gate("limited")
    own = ("cluster.time_min=4", "cluster.signal_s=120", f"loss.probe.folder={gate}")
    words = sweeps.words("seed=1", *own)
    (spec,) = sweeps.specs(words)
    assert sweeps.submit(words) == 0

    def wait() -> None:
        sweeps.arrived(gate)
        sweeps.let_go(spec, gate)

    thread = threading.Thread(target=wait)
    thread.start()
    yield spec, thread
    thread.join()


@pytest.fixture(scope="module", autouse=True)
def delayed(start_cluster) -> Iterator[tuple]:
    """A run that is preempted while other tests run, on a cluster with SLURM's default delays."""
    with shared_folder() as folder:
        own = Sweeps(start_cluster(cred_expire=120), folder)
        gate = own.gate("delayed")
        words = own.words("seed=1", f"loss.probe.folder={gate}")
        (spec,) = own.specs(words)
        assert own.submit(words) == 0

        def disturb() -> None:
            own.arrived(gate)
            own.cluster.preempt(own.job(spec))
            own.let_go(spec, gate)

        thread = threading.Thread(target=disturb)
        thread.start()
        yield own, spec, thread
        thread.join()


def test_runs_go_on_without_controller(sweeps: Sweeps, capsys):
    """What cannot be known is not made up, and nothing is submitted on a guess."""
    gate = sweeps.gate("away")
    words = sweeps.words("seed=2", f"loss.probe.folder={gate}")
    (spec,) = sweeps.specs(words)
    assert sweeps.submit(words) == 0
    sweeps.arrived(gate)
    sweeps.cluster.stop_controller()
    try:
        assert sweeps.state(spec).name == "running"
        other = sweeps.words("seed=2,3")
        assert sweeps.submit([*other, f"loss.probe.folder={gate}"]) == 1
        assert sweeps.submit(sweeps.words("seed=4")) == 1
        assert "scontrol" in capsys.readouterr().err
        (gate / "go").touch()
        sweeps.wait((sweeps.run(spec) / "result.json").exists)
    finally:
        sweeps.cluster.start_controller()
    assert sweeps.submit([*other, f"loss.probe.folder={gate}"]) == 0
    (fourth,) = sweeps.specs(sweeps.words("seed=4"))
    assert sweeps.submit(sweeps.words("seed=4")) == 0
    specs = [*sweeps.specs([*other, f"loss.probe.folder={gate}"]), fourth]
    sweeps.settled(*specs)
    sweeps.assert_whole(*specs)
    assert [len([c for c in sweeps.claims(s) if c.start]) for s in specs] == [1, 1, 1]


def test_without_accounting_the_queue_and_the_records_say_it_all(start_cluster):
    with shared_folder() as folder:
        # the queue alone knows how a job was ended, for as long as this test may take
        own = Sweeps(start_cluster(accounting=False, slurm={"MinJobAge": "3600"}), folder)
        assert own.cluster.run("sacct").returncode != 0
        gate = own.gate("killed")
        words = {
            "good": own.words("seed=1"),
            "raises": own.words("seed=2", "loss.probe.fails=[0]"),
            "pending": own.words("seed=3", "+cluster.sbatch.begin=2099-01-01"),
            "killed": own.words("seed=4", "cluster.partition=cancel", f"loss.probe.folder={gate}"),
        }
        specs = {name: own.specs(each)[0] for name, each in words.items()}
        for each in words.values():
            assert own.submit(each) == 0
        own.cluster.run("scancel", own.job(specs["pending"]), check=True)
        own.arrived(gate)
        own.settled(specs["good"])
        own.cluster.run("scancel", own.job(specs["killed"]), check=True)
        own.wait(lambda: not own.cluster.squeue())
        states = own.look(specs.values())
        found = {name: (states[spec.id].name, states[spec.id].reason) for name, spec in specs.items()}
        assert found == {
            "good": ("done", ""),
            "raises": ("failed", "ArithmeticError: the probe was asked to fail"),
            "pending": ("failed", "cancelled while pending"),
            "killed": ("failed", "cancelled"),
        }
        own.assert_whole(specs["good"])


def test_signal_of_a_near_limit_saves_and_requeues(sweeps: Sweeps):
    """The signal alone, sent by hand: the same to the job as in the test of the limit itself."""
    gate = sweeps.gate("signalled")
    words = sweeps.words("seed=5", f"loss.probe.folder={gate}")
    (spec,) = sweeps.specs(words)
    assert sweeps.submit(words) == 0
    sweeps.arrived(gate)
    sweeps.cluster.run("scancel", "--signal=USR2", sweeps.job(spec), check=True)
    sweeps.let_go(spec, gate)
    sweeps.settled(spec)
    sweeps.assert_whole(spec)
    assert sweeps.ends(spec) == ["stopped", "done"]
    assert [s for s, _ in sweeps.sacct(sweeps.job(spec), 2)] == ["REQUEUED", "COMPLETED"]
    (claim,) = sweeps.claims(spec)
    assert (claim.start["restart"], claim.end["outcome"]) == (1, "done")


def test_run_longer_than_its_limit_is_a_chain(sweeps: Sweeps, limited):
    spec, thread = limited
    thread.join()
    sweeps.settled(spec)
    sweeps.assert_whole(spec)
    assert sweeps.ends(spec) == ["stopped", "done"]
    assert [start["step"] for start in sweeps.starts(spec)] == [0, 3]
    assert [s for s, _ in sweeps.sacct(sweeps.job(spec), 2)] == ["REQUEUED", "COMPLETED"]


def test_preempted_run_comes_back_after_the_default_delay(delayed):
    own, spec, thread = delayed
    thread.join()
    own.settled(spec)
    own.assert_whole(spec)
    assert own.ends(spec) == ["stopped", "done"]
    stopped = own.event(spec, "0001-stopped")["time"]
    assert own.starts(spec)[1]["time"] - stopped > 100
    assert [s for s, _ in own.sacct(own.job(spec), 2)] == ["PREEMPTED", "COMPLETED"]
