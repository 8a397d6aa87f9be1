"""Runs on the test cluster under seeded kills, preemptions and cancels: none lost, none twice, none wrong.

    PYTHONPATH=.:tests python tests/slurm/chaos.py [--runs 100] [--seed 0]

Submits the runs, disturbs them while anything is queued or running, and submits again what was
interrupted, as a person or `vocl tend` would, until nothing changes any more. Prints one line of counts;
the exit code is 1 when an assertion about any run does not hold.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from cluster import TestCluster
from running import final, same
from sweeps import Sweeps, shared_folder

from launch.run_states.states import LIVE, RunState
from launch.selection.plan import Spec

PERIOD_S = 3.0  # between two disturbances
STEPS = 150  # so that a run trains for some seconds beside those that it takes to start
PACKED = 3  # runs per job, for a part of them
AT_ONCE = 3  # jobs of one run: more would starve each other of this machine's cores while they start
OPTIONS = {"kill_wait": 30}  # as on a real cluster


class Chaos:
    """`count` runs, a third of them packed."""

    def __init__(self, sweeps: Sweeps, count: int, seed: int) -> None:
        self.sweeps, self.random = sweeps, random.Random(seed)
        single = [str(number) for number in range(count) if number % 3]
        packed = [str(number) for number in range(count) if not number % 3]
        own = ("dataset.source.num_validation=1", "cluster.partition=low", "runtime.checkpoint_every=50")
        some = (f"seed={','.join(single)}", f"cluster.max_running={AT_ONCE}")
        rest = (f"seed={','.join(packed)}", f"cluster.runs_per_job={PACKED}", "cluster.max_running=1")
        self.words = [sweeps.words(*words, *own, steps=STEPS) for words in (some, rest)]
        self.specs: list[Spec] = [spec for words in self.words for spec in sweeps.specs(words)]
        self.left = max(3, count // 2)  # disturbances; one may hit many runs
        self.done: collections.Counter[str] = collections.Counter()

    def run(self, seconds: float) -> dict[str, RunState]:
        """Disturb and submit again until all runs are over; returns their states."""
        deadline = time.monotonic() + seconds
        while True:
            for words in self.words:
                self.sweeps.submit(words)
            states = self.sweeps.look(self.specs)
            while any(state.name in LIVE for state in states.values()):
                assert time.monotonic() < deadline, {k: (s.name, s.reason) for k, s in states.items()}
                self._disturb(states)
                time.sleep(PERIOD_S)
                states = self.sweeps.look(self.specs)
            if not any(state.name in ("interrupted", "absent") for state in states.values()):
                return states

    def _disturb(self, states: dict[str, RunState]) -> None:
        if self.left <= 0:
            return
        kinds = (self._kill_child, self._kill_agent, self._cancel, self._preempt)
        # The first three may end a run for good, so rather the fourth.
        act = self.random.choices(kinds, (3, 1, 1, 4))[0]
        live = [spec for spec in self.specs if states[spec.id].name in LIVE]
        training = [spec for spec in live if states[spec.id].rate]  # beyond its imports
        if not training and self.random.random() < 0.8:
            return  # all start or wait yet: a stop now would rarely leave anything to resume
        chosen = self.random.choice(training or live)
        with suppress(ProcessLookupError):  # it has ended by itself since
            if act(chosen, states[chosen.id]):
                self.left -= 1
                self.done[act.__name__.strip("_")] += 1

    def _kill_child(self, spec: Spec, state: RunState) -> bool:
        if state.name == "running" and self.sweeps.starts(spec):
            os.kill(self.sweeps.starts(spec)[-1]["pid"], signal.SIGKILL)
            return True
        return False

    def _kill_agent(self, spec: Spec, state: RunState) -> bool:
        start = self.sweeps.claims(spec)[-1].start
        if state.name == "running" and start is not None:
            os.kill(start["pid"], signal.SIGKILL)
            return True
        return False

    def _cancel(self, spec: Spec, state: RunState) -> bool:
        return self.sweeps.cluster.run("scancel", self.sweeps.job(spec)).returncode == 0

    def _preempt(self, spec: Spec, state: RunState) -> bool:
        """All that run in `low` make room."""
        job = self.sweeps.job(spec)
        if self.sweeps.cluster.state(job) != "RUNNING":
            return False
        self.sweeps.cluster.preempt(job)
        return True

    def check(self, states: dict[str, RunState]) -> str:
        """Assert what must hold of each run; returns the counts."""
        for spec in self.specs:
            state = states[spec.id]
            assert state.name == "done" or (state.name == "failed" and state.reason), (spec.id, state)
            self.sweeps.assert_never_twice(spec)
            self._check_ends(spec, state.name == "done")
            if state.name == "done":
                same(final(spec.config), self.sweeps.twin(spec))
        assert sum(self.done.values()) >= min(3, len(self.specs)), "hardly anything was disturbed"
        names = collections.Counter(state.name for state in states.values())
        attempts = sum(len(self.sweeps.starts(spec)) for spec in self.specs)
        resumed = sum(start["step"] > 0 for spec in self.specs for start in self.sweeps.starts(spec))
        reasons = collections.Counter(s.reason for s in states.values() if s.name == "failed")
        counts = f"runs={len(states)} {dict(names)} attempts={attempts} resumed={resumed}"
        return f"{counts} disturbed by {dict(self.done)} failed by {dict(reasons)}"

    def _check_ends(self, spec: Spec, done: bool) -> None:
        """One attempt is said to be done, the last, if the run is; a kill after the result takes its word."""
        ends, starts = self.sweeps.ends(spec), self.sweeps.starts(spec)
        cut = done and len(ends) < len(starts)
        assert ends.count("done") == (done and not cut), (spec.id, ends)


def chaos(cluster: TestCluster, count: int, seed: int, seconds: float) -> str:
    """Run it; returns the counts, raises AssertionError where something does not hold."""
    with shared_folder() as folder:
        runs = Chaos(Sweeps(cluster, folder), count, seed)
        return runs.check(runs.run(seconds))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Disturbed runs on a SLURM of their own.")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=3600)
    chosen = parser.parse_args(arguments)
    cluster = TestCluster(max_array_size=40, **OPTIONS).start()
    try:
        print(chaos(cluster, chosen.runs, chosen.seed, chosen.seconds))
    finally:
        cluster.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
