"""Handing the runs of trials over: to the slots of this machine, or to SLURM as `vocl submit` and `vocl tend`
hand over theirs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from launch.node.pool import Job, Pool
from launch.node.progress import PoolProgress
from launch.run_states.states import LIVE, UNKNOWN, RunState
from launch.search.progress import Progress, to_hand_over
from launch.search.records import Trial
from launch.search.standing import Standing
from launch.selection.plan import Spec
from launch.selection.submitted import PlacedRun
from launch.submission import local, resubmit, tend_policy
from launch.submission.enqueue import Queued, enqueue
from launch.submission.preflight import missing
from vocl.errors import UserError, printable
from vocl.rundir.results_root import ResultsRoot
from vocl.stop import EXIT_STOPPED
from vocl.tracking import log


@dataclass
class Handing:
    """Hands over runs of `progress`; `slots`: how many this machine works on at a time."""

    progress: Progress
    slots: int = 1
    tried: set[tuple[str, int]] = field(default_factory=set)  # run and rung, by this process

    @cached_property
    def words(self) -> list[str]:
        """The command, for the ledger."""
        return ["search", self.progress.search.name]

    @cached_property
    def cluster(self) -> dict[str, Any]:
        """What the command line says of the cluster, for runs that have been handed over before."""
        return resubmit.asked_of_cluster(self.progress.overrides)

    def settle(self) -> tuple[list[Standing], dict[str, RunState], str]:
        """Decide what is to be trained now; how trials then stand, and what kept SLURM from answering."""
        found, states, trouble = self.progress.look()
        if trouble:
            return found, states, trouble
        decided = False
        while self.progress.decide(found) is not None:
            decided = True
        return self.progress.look() if decided else (found, states, trouble)

    # ------------------------------------------------------------------------------ on this machine

    def run_here(self) -> int:
        """Search until nothing more is to be done, in `slots` child processes; the verb's exit code."""
        log.configure()
        pool = Pool(self.slots, local.environment(self.slots), TrialLines(self.progress.records.root))
        outcomes = pool.run([], self._more)
        failed = [outcome for outcome in outcomes if outcome.state == "failed"]
        for outcome in failed:
            print(printable(f"failed: {outcome.job.id} ({outcome.job.label}): {local.reason(outcome)}"))
        found, _, _ = self.progress.look()
        return EXIT_STOPPED if any(each.is_going for each in found) else 1 if failed else 0

    def _more(self) -> list[Job] | None:
        found, states, _ = self.settle()
        todo = [(trial, run) for trial, run in to_hand_over(found, states) if self._is_new(trial, run)]
        if not todo:
            going = [run for each in found if each.is_going for run in each.left]
            waits = any(states[run].name in (*LIVE, UNKNOWN) for run in going)
            return [] if waits else None
        self.tried |= {(run, trial.rung) for trial, run in todo}
        specs = self._specs(todo, states)
        return local.claimed(self.progress.records.root, specs, states, self.words, self.slots)

    def _is_new(self, trial: Trial, run: str) -> bool:
        """Whether this process has not tried it in vain."""
        return (run, trial.rung) not in self.tried

    # ------------------------------------------------------------------------------------ on SLURM

    def queue(self, found: Iterable[Standing], states: dict[str, RunState]) -> Queued:
        """Queue what nobody has; lost jobs are `vocl tend`'s to see to."""
        todo = [each for each in to_hand_over(found, states) if self._is_ours(each[1], states[each[1]])]
        specs, root = self._specs(todo, states), self.progress.records.root
        known = [spec for spec in specs if states[spec.id].claim is not None]
        queued = resubmit.again(root, known, states, self.words)
        queued.add(enqueue(root, [spec for spec in specs if spec not in known], states, self.words))
        return queued

    def _is_ours(self, run: str, state: RunState) -> bool:
        claim, folder = state.claim, self.progress.records.root.run(run)
        if claim is None or claim.cluster != "slurm" or not folder.has_config():
            return True
        left_out = tend_policy.is_left_out(claim)
        return tend_policy.is_mine(claim) and not left_out and (folder.is_paused() or state.name == "absent")

    # ---------------------------------------------------------------------------------------------

    def _specs(self, todo: Iterable[tuple[Trial, str]], states: Mapping[str, RunState]) -> list[Spec]:
        """The runs to hand over, each up to the rung of its trial."""
        specs = {run: self._spec(trial, run, states[run]) for trial, run in todo}
        lines = list(dict.fromkeys(line for spec in specs.values() for line in missing(spec.config)))
        if lines:
            raise UserError("; ".join(lines))
        return list(specs.values())

    def _spec(self, trial: Trial, run: str, state: RunState) -> Spec:
        """A run of a trial: as it was handed over before; else, or where that broke off before its config
        was written) as it is composed today."""
        seed = next(int(seed) for seed, each in trial.run_ids.items() if each == run)
        if state.claim is not None and self.progress.records.root.run(run).has_config():
            place = PlacedRun(trial.label, "", seed, run)
            spec = resubmit.spec_of(self.progress.records.root, place, state.claim, self.cluster)
            return self.progress.up_to(spec, trial)
        composed = {spec.id: spec for spec in self.progress.specs(trial)}
        if run not in composed:
            folder = self.progress.records.folder
            raise UserError(f"{folder}: trial {trial.number}: its configs have changed, remove its record")
        return composed[run]


class TrialLines(PoolProgress):
    """A line for each run of a trial that starts or ends."""

    def __init__(self, root: ResultsRoot) -> None:
        super().__init__(0)
        self.root = root

    def started(self, run: str, label: str, steps: int) -> None:
        self.labels[run] = label
        self.say(f"started {run} ({label})")

    def ended(self, run: str, state: str, seconds: float) -> None:
        scored = state == "stopped" and self.root.run(run).is_paused()
        self.say(f"{'scored' if scored else state} {run} ({self.labels[run]}) after {seconds:.0f} s")
