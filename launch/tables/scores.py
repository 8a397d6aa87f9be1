"""What finished runs say, as the rows of a table ask for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from launch.run_states.states import RunState
from launch.selection.plan import Spec
from launch.tables import run_files
from launch.tables.run_files import Asked, Beside, OfVideos, Report
from vocl.config import folders
from vocl.config.proof.evaluations import declared
from vocl.errors import UserError
from vocl.measure import Measure
from vocl.rundir import result
from vocl.rundir.records import Records
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import Remarks, RunDir

Entry = Mapping[str, Any]


class Score(NamedTuple):
    """A score of a run: `value` is None where it is undefined."""

    value: float | None
    measure: Measure
    evaluation: str
    protocol: str | None


@dataclass(frozen=True, slots=True)
class RunScores:
    """A run that a table wants: its state and, once done, its scores.

    `entries`: by the names of the row's evaluations, in their order; `lacking`: those that the run was not
    scored by yet, with the metrics that each would give (None: its class does not say), `failed` why, where
    that was tried; `codes`: digests of the evaluations' code; `damaged`: what is wrong with its result.
    """

    spec: Spec
    state: str
    entries: dict[str, Entry] = field(default_factory=dict)
    lacking: dict[str, frozenset[str] | None] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    codes: dict[str, str] = field(default_factory=dict)
    wall_s: float | None = None
    code: str | None = None
    damaged: str | None = None
    run: RunDir | None = None
    gpu_hours: float = 0.0
    lost_gpu_hours: float = 0.0  # in attempts that failed or were killed
    remarks: Remarks = field(default_factory=Remarks)
    _videos: dict[Asked, OfVideos] = field(default_factory=dict, compare=False, repr=False)
    _scores: dict[str, Score | None] = field(default_factory=dict, compare=False, repr=False)

    def score(self, metric: str) -> Score | None:
        """The score that `metric` names: <evaluation>/<metric>, or that of the row's first evaluation
        which has it; None where there is none, or none yet."""
        if metric not in self._scores:
            self._scores[metric] = self._find(metric)
        return self._scores[metric]

    def _find(self, metric: str) -> Score | None:
        found = result.find_score(self.entries, metric)
        if found is None:
            return None
        name, own = found
        if self.lacking and own == metric:
            order = list(self.spec.config.eval or self.entries)
            waited = (self.lacking[n] for n in order[: order.index(name)] if n in self.lacking)
            if any(gives is None or metric in gives for gives in waited):
                return None
        entry = self.entries[name]
        return Score(entry["metrics"][own], result.measure(entry, own), name, entry["protocol"])

    def videos(self, metric: str) -> dict[str, float]:
        """The score that `metric` names, of each video on which it is defined; nothing where no such rows are
        kept, or none were read (`read_videos`)."""
        asked = self.asked(metric)
        found = self._videos.get(asked) if asked else None
        return found.unpacked() if found else {}

    def asked(self, metric: str) -> Asked | None:
        """Where the score that `metric` names stands by video; None where there is no such score."""
        found = self.score(metric)
        if found is None:
            return None
        return self.entries[found.evaluation]["eval_id"], metric.partition("/")[2] or metric

    def gap(self, metric: str) -> str | None:
        """In a word or two why there is no number for `metric`; None where there is one."""
        found = self.score(metric)
        if found is not None:
            return "undefined" if found.value is None else None
        if self.state != "done":
            return self.state
        name, slash, _ = metric.partition("/")
        waited = [each for each in self.lacking if not slash or each == name]
        if not waited:
            return "not given"
        return "scoring failed" if any(each in self.failed for each in waited) else "unscored"

    def is_by(self, usual: Mapping[str, str], metric: str) -> bool:
        """Whether its score is by this code, by what (see `versions`), as far as records say."""
        found = self.score(metric)
        names = [RUN_CODE, found.evaluation] if found else []
        own = {RUN_CODE: self.code, **self.codes}
        return all(own.get(name) in (None, usual.get(name)) for name in names)

    @property
    def standing(self) -> str:
        """Its state, and of a finished run whether it was scored as its row asks."""
        return "unscored" if self.lacking else self.state

    @property
    def names(self) -> list[str]:
        """Every score as <evaluation>/<metric>."""
        return [f"{name}/{metric}" for name, entry in self.entries.items() for metric in entry["metrics"]]


RUN_CODE = ""  # the key of what trained the runs; the others are names of evaluations


def versions(records: Sequence[RunScores]) -> dict[str, Counter[str]]:
    """How many runs come from which code, the most common first: what trained them, and each evaluation."""
    runs = {record.spec.id: record for record in records}.values()
    names = dict.fromkeys(name for record in records for name in record.codes)
    of_evaluations = {name: Counter(r.codes[name] for r in runs if name in r.codes) for name in names}
    return {RUN_CODE: Counter(record.code for record in runs if record.code), **of_evaluations}


def read(
    specs: Sequence[Spec], root: ResultsRoot, states: Mapping[str, RunState], protocol: str | None
) -> list[RunScores]:
    """The records of the runs of `specs`, whose `states` are known; `protocol` as in `TableSettings`."""
    found = {run: state.records or Records(root.run(run)) for run, state in states.items()}
    files = run_files.beside(root, {spec.id: found[spec.id] for spec in specs})
    return [_read(spec, states[spec.id].name, found[spec.id], files[spec.id], protocol) for spec in specs]


def _read(spec: Spec, name: str, left: Records, files: Beside, protocol: str | None) -> RunScores:
    """The record of the run of `spec`, which is in the state `name`, left these records, and `files`."""
    run, found, hours = left.run, left.result, left.gpu_hours
    lost = (left.lost_gpu_hours if found is None else files.lost_gpu_hours) if hours else 0.0
    always: dict[str, Any] = {"gpu_hours": hours, "lost_gpu_hours": lost, "remarks": files.remarks}
    if left.has_damaged_result or (found is not None and found.is_not_of(run.id, spec.seed)):
        try:
            run.result(spec.seed)
        except (UserError, OSError) as error:
            name = "failed" if name == "done" else name
            return RunScores(spec, name, damaged=str(error), **always)
    if found is None or name != "done":
        return RunScores(spec, name, **always)
    evals = found.evals
    reports = {key: files.reports[e["eval_id"]] for key, e in evals.items() if e["eval_id"] in files.reports}
    keys = {each: _key(run, spec, each, evals, reports, protocol) for each in spec.config.eval or evals}
    there = {each: key for each, key in keys.items() if key is not None}
    return RunScores(
        spec=spec,
        state=name,
        entries={each: evals[key] for each, key in there.items()},
        lacking={each: _gives(spec, each) for each in keys if each not in there},
        failed={each: why for each, why in found.failed.items() if each not in there},
        codes={n: code for n, key in there.items() if key in reports and (code := reports[key].code)},
        wall_s=found.wall_s,
        code=found.code,
        run=run,
        **always,
    )


def read_videos(records: Sequence[RunScores], metrics: Sequence[str], root: ResultsRoot, table: str) -> None:
    """Have `records` know the scores of videos of `metrics`; `table`: whose they are."""
    wanted: dict[RunDir, set[Asked]] = {}
    for record in records:
        asked = {each for metric in metrics if (each := record.asked(metric)) is not None}
        if asked and record.run is not None:
            wanted.setdefault(record.run, set()).update(asked)
    found = run_files.of_videos(root, table, wanted)
    for record in records:
        record._videos.update(found.get(record.spec.id, {}))


def _key(
    run: RunDir,
    spec: Spec,
    name: str,
    evals: Mapping[str, Entry],
    reports: Mapping[str, Report],
    protocol: str | None,
) -> str | None:
    """Under which key the scores stand that a row asks for by its evaluation `name`; None without any.

    Those under another protocol than the row's count too: `table.protocol` decides which do. Those under
    one that had the row's name and said otherwise then do not.
    """
    if not spec.config.eval:
        return name
    settings = spec.config.eval[name].content
    stored = [key for key, report in reports.items() if _answers(report.eval, settings)]
    stored.sort(key=lambda key: reports[key].eval != settings)  # the row's own protocol first
    if not stored and name in evals and name not in reports:  # as when only the results were copied
        alone = [key for key in evals if key.partition(":")[0] == name] == [name]
        stored = [name] if alone else []
    if protocol in (None, "same") or "protocol" not in settings:
        return next(iter(stored), None)
    fitting = [key for key in stored if evals[key]["protocol"] == protocol]
    if stored and not fitting:
        others = ", ".join(dict.fromkeys(str(evals[key]["protocol"]) for key in stored))
        raise UserError(
            f"{run.result_path} ({spec.label}): scored by protocol {others}, the table wants {protocol}; "
            f"score it again by vocl eval {spec.id}, or set table.protocol to {others} or null"
        )
    return next(iter(fitting), None)


def _gives(spec: Spec, name: str) -> frozenset[str] | None:
    allowed = folders.packages(spec.config.project)
    return declared(spec.config.eval[name].part, allowed, "scores", None)


def _answers(scored: Entry, settings: Entry) -> bool:
    """Whether scores by the settings `scored` are those that `settings` ask for, by whatever protocol."""
    own, asked = scored.get("protocol"), settings.get("protocol")
    if isinstance(own, Mapping) and isinstance(asked, Mapping) and own.get("name") == asked.get("name"):
        return scored == settings
    return _asked(scored) == _asked(settings)


def _asked(settings: Entry) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != "protocol"}


def refuse_metrics_not_given(path: Path, metrics: Sequence[str], records: Sequence[RunScores]) -> None:
    """Refuse names that none of the runs has a score of, although each was scored as its row asks."""
    done = [record for record in records if record.state == "done"]
    for metric in metrics:
        name, slash, _ = metric.partition("/")
        unclear = any(name in r.lacking if slash else r.lacking for r in done)
        if done and not unclear and not any(record.score(metric) for record in done):
            bare = sorted({key for r in done for entry in r.entries.values() for key in entry["metrics"]})
            named = sorted({key for record in done for key in record.names})
            raise UserError(
                f"{path}: metrics: no run has {metric!r}, choose from {', '.join(named if slash else bare)}"
            )
