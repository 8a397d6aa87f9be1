"""Under which key of a run's result the scores of an evaluation stand."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager

from vocl.config.run_config import RunConfig, values
from vocl.config.schema import Config
from vocl.evaluate.store import Evaluated, EvaluationEntry
from vocl.files import open_plain
from vocl.rundir.attempts import result_of
from vocl.rundir.result import Which
from vocl.rundir.run_dir import RunDir

LONGEST = 100  # characters of a key


def add_to_result(
    run: RunDir, saved: RunConfig, plain: RunConfig, config: RunConfig, found: Evaluated, which: Which
) -> None:
    """Add what evaluations said to the result of `run`, each under a key of its own.

    `saved`: the run's config; `config`: with the settings of those in `found`; `plain`: the same on the
    datasets that these have without being asked for another. A bare name is kept for what the run's
    config says of it, or else `plain`. `which`: of which model, where not of the trained one.
    """
    bare = {**plain.eval, **saved.eval}
    trained = values(saved.dataset)
    with _alone(run):
        if not run.is_done():  # imported weights: nothing was trained here
            run.write_result(result_of(saved, run, "cpu"))
        before = run.result()
        evals, failed = dict(before.evals), dict(before.failed)
        keys = {entry["eval_id"]: key for key, entry in evals.items()}
        for name, entry in found.entries.items():
            settings, first = config.eval[name].content, bare[name].content
            key = keys.get(entry["eval_id"]) or _free_key(
                run, evals, first, settings, name, entry, trained, which
            )
            evals[key] = entry
            failed.pop(key, None)
        for name, why in found.failed.items():
            if not which and name not in evals and saved.eval.get(name) == config.eval[name]:
                failed[name] = why
        changed = before.with_evals(evals, failed, saved.eval)
        if changed != before:
            run.write_result(changed)


def _free_key(
    run: RunDir,
    evals: dict[str, EvaluationEntry],
    bare: Config,
    settings: Config,
    name: str,
    entry: EvaluationEntry,
    dataset: Config,
    which: Which,
) -> str:
    """`name`; if that is taken or means other settings, `bare`, with what differs."""
    first: Config | None = bare
    if name in evals:
        report = run.report(evals[name]["eval_id"])
        first = report["eval"] if report else None
    elif not which and settings == bare:
        return name
    words: list[str] = [which] if which else []
    words += _changes(_whole(first, dataset), _whole(settings, dataset)) if first else []
    key = f"{name}:{','.join(words)}"
    return key if words and key not in evals and len(key) <= LONGEST else f"{name}:{entry['eval_id']}"


def _whole(settings: Config, dataset: Config) -> Config:
    """Settings with the dataset that they mean, where they have none of their own."""
    return settings | {"dataset": settings["dataset"] or dataset}


def _changes(first: Config, settings: Config) -> list[str]:
    """What `settings` say otherwise than `first`: cyclic=true, and for what has a name, its name."""
    if first.get("name") != settings.get("name"):
        return [str(settings.get("name"))]
    spelt = []
    for key, value in settings.items():
        if isinstance(value, dict) and isinstance(first.get(key), dict):
            inner = _changes(first[key], value)
            named = inner == [str(value.get("name"))]
            spelt += [f"{key}={inner[0]}"] if named else inner
        elif value != first.get(key):
            spelt.append(f"{key}={json.dumps(value)}")
    return spelt


@contextmanager
def _alone(run: RunDir) -> Iterator[None]:
    """Wait for other evaluations of the run to have written theirs."""
    with open_plain(run.lock_path) as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        yield
