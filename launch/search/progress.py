"""One decision of a search after the other, each on record before anything is handed over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from launch.run_states.states import RunState, look
from launch.search import sampling
from launch.search.declared import Search
from launch.search.records import SearchRecords, Trial
from launch.search.standing import Standing, next_number, promoted, stand
from launch.selection.metric_names import refuse_unknown_metrics
from launch.selection.plan import Spec, select_cell
from vocl.config.compose import checked
from vocl.config.compose_many import Composer
from vocl.config.grammar import key_of
from vocl.config.run_config import RunConfig
from vocl.errors import UserError


@dataclass(frozen=True)
class Progress:
    """A search, the overrides of a command line for all of its trials, and its records."""

    search: Search
    overrides: tuple[str, ...]
    records: SearchRecords

    @cached_property
    def _composer(self) -> Composer:
        return Composer()

    @cached_property
    def common(self) -> list[str]:
        """The overrides of all trials: every evaluation scores the search's split."""
        search = self.search
        base = [*(f"{key}={value}" for key, value in search.base.items()), *self.overrides]
        taken = {key_of(override) for override in base}
        if twice := sorted(taken & {*search.space, "seed"}):
            raise UserError(f"{twice[0]}: {search.path} says its values")
        config = checked(self._composer.compose(base), base)
        own = [name for name, each in config.eval.items() if "split" in each.part]
        if not own:
            raise UserError(f"{search.path}: split={search.split}: no evaluation of its runs has a split")
        return [*base, *(f"eval.{name}.split={search.split}" for name in own)]

    @cached_property
    def config(self) -> RunConfig:
        """What all trials share."""
        return checked(self._composer.compose(self.common), self.common)

    @cached_property
    def steps(self) -> list[int]:
        """The steps of the rungs, the last the full schedule."""
        config = self.config
        if self.search.rungs and self.search.rungs[-1] >= config.train.steps:
            asked = f"{self.search.path}: rungs={self.search.rungs}"
            raise UserError(f"{asked}: not before the end, train.steps={config.train.steps}")
        return [*self.search.rungs, config.train.steps]

    def begin(self) -> None:
        """Write down what the search begins with, where nothing is there yet."""
        self.refuse_changes()  # again: another call may have begun it since
        if self.records.begun() is None:
            _ = self.steps
            sampling.check(self.search)
            self.records.begin(list(self.overrides), self._fixed)

    def refuse_changes(self) -> None:
        """Refuse what is not what the search began with."""
        begun, fixed = self.records.begun(), self._fixed
        changed = sorted(key for key in fixed if begun is not None and begun[1].get(key) != fixed[key])
        if changed:
            began = begun[1].get("overrides", []) if begun else []
            others = sorted(set(began) ^ set(fixed["overrides"])) if "overrides" in changed else []
            told = ", ".join([*(key for key in changed if key != "overrides"), *others])
            raise UserError(
                f"{self.search.path}: {told}: not as the search began; "
                f"give the new one a name of its own, or remove {self.records.folder}"
            )

    @property
    def trained(self) -> list[str]:
        """Those of its overrides that say what is trained, not where and how."""
        sections = ("cluster", "runtime")
        return [o for o in self.overrides if key_of(o).partition(".")[0] not in sections]

    @property
    def _fixed(self) -> dict[str, Any]:
        return {**self.search.fixed, "overrides": self.trained}

    def look(self) -> tuple[list[Standing], dict[str, RunState], str]:
        """How all trials stand, the states of their runs, and what kept SLURM from answering."""
        trials = self.records.trials()
        states, trouble = look(self.records.root, [run for t in trials for run in t.run_ids.values()])
        return stand(self.search, self.steps, trials, self.records.root, states), states, trouble

    def decide(self, found: list[Standing]) -> Standing | None:
        """The next trial to train, on record now: one that goes on, or a new one; None where no more is to
        begin at present. `found` is brought up to date."""
        if sum(each.is_going for each in found) >= self.search.at_once:
            return None
        each = promoted(self.search, len(self.steps), found)
        if each is not None:
            trial = replace(each.trial, rung=each.trial.rung + 1)
            self.records.write(trial)
            left = [] if trial.rung in each.values else list(trial.run_ids.values())
            found[found.index(each)] = replace(each, trial=trial, left=left)
            return replace(each, trial=trial, left=left)
        if len(found) >= self.search.trials:
            return None
        trial = self._new(found)
        self.records.write(trial)
        known = [*(other.trial for other in found), trial]
        self.records.publish(known)
        states, _ = look(self.records.root, trial.run_ids.values())
        (new,) = stand(self.search, self.steps, [trial], self.records.root, states)
        found.append(new)
        return new

    def _new(self, found: list[Standing]) -> Trial:
        params = sampling.propose(self.search, len(self.steps), found)
        number = next_number(found)
        draft = Trial(number, params, [*self.common, *(f"{k}={v}" for k, v in params.items())], {}, 0)
        runs = {str(spec.seed): spec.id for spec in self.specs(draft)}
        return replace(draft, run_ids=runs)

    def specs(self, trial: Trial) -> list[Spec]:
        """The runs of a trial as they are today, to train up to its rung."""
        specs = select_cell(trial.overrides, trial.label, self.search.seeds, self._composer)
        refuse_unknown_metrics(self.search.path, [self.search.metric], specs)
        return [self.up_to(spec, trial) for spec in specs]

    def up_to(self, spec: Spec, trial: Trial) -> Spec:
        """`spec` to train up to the rung of `trial`."""
        last = trial.rung == len(self.steps) - 1
        runtime = replace(spec.config.runtime, stop_at=None if last else self.steps[trial.rung])
        return replace(spec, config=replace(spec.config, runtime=runtime), row=trial.label)

    def is_over(self, found: list[Standing]) -> bool:
        """Whether all trials have been tried and come as far as they will."""
        return (
            len(found) >= self.search.trials
            and not any(each.is_going for each in found)
            and promoted(self.search, len(self.steps), found) is None
        )


def to_hand_over(found: Iterable[Standing], states: Mapping[str, RunState]) -> list[tuple[Trial, str]]:
    """Runs that nobody works on and that have not reached the rung of their trial."""
    free = ("absent", "interrupted")
    going = [each for each in found if each.is_going]
    return [(each.trial, run) for each in going for run in each.left if states[run].name in free]
