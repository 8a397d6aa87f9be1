"""Which of the runs on disk somebody wants: by config, state, score and tag.

model.num_slots=7   loss=[feature_mse]   model=*Recurrent     what the config says; a value may be a glob
state=done          tag=baseline                              a glob each
video_fg_ari>0.6    discovery/video_mbo<=0.5                  scores of runs that are done
"""

from __future__ import annotations

import fnmatch
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import yaml

from launch.run_states.states import STATES, RunState
from vocl.config.schema import Config
from vocl.errors import UserError
from vocl.rundir.result import Result, find_score
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import RunDir

MISSING = object()
SIGNS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
SCORE = re.compile(r"([A-Za-z_][^\s<>=]*)(>=|<=|>|<)(.*)")


@dataclass(frozen=True)
class Filters:
    """What is asked of runs."""

    config: list[tuple[str, str]]
    states: list[str]
    tags: list[str]
    scores: list[tuple[str, Callable[[float, float], bool], float]]

    @classmethod
    def of(cls, words: Iterable[str]) -> Filters:
        """Of the words of a command line. Raises `UserError`."""
        found = cls([], [], [], [])
        for word in words:
            key, _, value = word.partition("=")
            if match := SCORE.fullmatch(word):
                found.scores.append((match[1], SIGNS[match[2]], _number(word, match[3])))
            elif key == "state":
                if not any(fnmatch.fnmatchcase(state, value) for state in STATES):
                    raise UserError(f"{word}: no such state, choose from {', '.join(STATES)}")
                found.states.append(value)
            elif key == "tag":
                found.tags.append(value)
            else:
                found.config.append((key, value))
        return found

    def refuse_unknown(self, configs: Mapping[str, Config]) -> None:
        """Refuse keys that no run's config has."""
        for key, _ in self.config:
            if configs and all(value_of(config, key) is MISSING for config in configs.values()):
                raise UserError(f"{key}: no run's config has this key")

    def refuse_unknown_scores(self, results: Iterable[Result | None]) -> None:
        """Refuse names of scores that no run has, where runs have any."""
        there = [result for result in results if result is not None] if self.scores else []
        for name, _, _ in self.scores:
            if there and not any(find_score(result.evals, name) for result in there):
                given = {
                    (each, own) for r in there for each, entry in r.evals.items() for own in entry["metrics"]
                }
                names = {f"{each}/{own}" if "/" in name else own for each, own in given}
                choices = ", ".join(sorted(names))
                raise UserError(f"{name}: no run has this score, choose from {choices}")

    def keep(self, run: RunDir, config: Config, state: RunState) -> bool:
        """Whether a run is wanted."""
        return (
            all(_matches(value_of(config, key), wanted) for key, wanted in self.config)
            and all(fnmatch.fnmatchcase(state.name, wanted) for wanted in self.states)
            and (not self.tags or _has_all(run.remarks().tags, self.tags))
            and (not self.scores or self._scores_so(run, state))
        )

    def _scores_so(self, run: RunDir, state: RunState) -> bool:
        result = _result(run, state)
        if result is None:
            return False
        for name, holds, limit in self.scores:
            place = find_score(result.evals, name)
            value = result.evals[place[0]]["metrics"][place[1]] if place else None
            if value is None or not holds(value, limit):
                return False
        return True


def results(root: ResultsRoot, states: Mapping[str, RunState]) -> Iterator[Result | None]:
    """What the runs of `states` have scored."""
    for run, state in states.items():
        yield _result(root.run(run), state)


def _result(run: RunDir, state: RunState) -> Result | None:
    return state.records.result if state.records is not None else run.result_or_none()


def is_filter(word: str) -> bool:
    """Whether a word says which runs are wanted, and names none."""
    named = word.startswith(("ablation=", "runtime.root="))
    return not named and ("=" in word or SCORE.fullmatch(word) is not None)


def _number(word: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{word}: expected a number after the sign, as in video_fg_ari>0.6") from None


def _has_all(tags: Sequence[str], wanted: Sequence[str]) -> bool:
    return all(any(fnmatch.fnmatchcase(tag, each) for tag in tags) for each in wanted)


def value_of(config: Any, key: str) -> Any:
    """What a config says under a dotted key; `MISSING` where it says nothing."""
    for part in key.split("."):
        if not isinstance(config, Mapping) or part not in config:
            return MISSING
        config = config[part]
    return config


def name_of(node: Any) -> str:
    """What people call a part of a config: its name, else the last word of its target."""
    if not isinstance(node, Mapping):
        return ""
    return str(node.get("name") or str(node.get("_target_", "")).rpartition(".")[2])


def _matches(value: Any, wanted: str) -> bool:
    """Whether a config's value is what somebody wrote on a command line."""
    if value is MISSING:
        return False
    try:
        meant = yaml.safe_load(wanted)
    except yaml.YAMLError:
        meant = wanted
    if isinstance(value, Mapping):
        if isinstance(meant, list):
            return set(map(str, meant)) == set(value)
        return _fits(name_of(value), wanted) or wanted in value
    if isinstance(value, bool) != isinstance(meant, bool):
        return False
    if isinstance(value, float):
        with suppress(ValueError):  # YAML takes 4e-4 for a word
            return value == float(wanted)
    return bool(value == meant) or _fits(str(value), wanted)


def _fits(text: str, wanted: str) -> bool:
    """Whether `wanted` is `text`, signs of globs in it or not, or a glob of it."""
    return text == wanted or fnmatch.fnmatchcase(text, wanted)
