"""Under which key of result.json the scores of an evaluation stand."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vocl.config.run_config import RunConfig, values
from vocl.config.schema import Config
from vocl.evaluate.store import Entry, Evaluated
from vocl.files import open_plain, write_json
from vocl.rundir import result

LONGEST = 100  # characters of a key


def add_to_result(
    folder: Path, saved: RunConfig, plain: RunConfig, config: RunConfig, found: Evaluated, untrained: bool
) -> None:
    """Add what evaluations said to the result of the run in `folder`, each under a key of its own.

    `saved`: the run's config; `config`: with the settings of those in `found`; `plain`: the same on the
    datasets that these have without being asked for another. A bare name is kept for what the run's
    config says of it, or else `plain`.
    """
    bare = {**plain.eval, **saved.eval}
    trained = values(saved.dataset)
    with _alone(folder):
        if not result.is_done(folder):  # imported weights: nothing was trained here
            result.write(folder, saved, 0, "cpu", {}, {})
        content = result.read(folder)
        evals, failed = dict(content["evals"]), dict(content.get("failed") or {})
        keys = {entry["eval_id"]: key for key, entry in evals.items()}
        for name, entry in found.entries.items():
            settings, first = config.eval[name].content, bare[name].content
            key = keys.get(entry["eval_id"]) or _free_key(
                folder, evals, first, settings, name, entry, trained, untrained
            )
            evals[key] = entry
            failed.pop(key, None)
        for name, why in found.failed.items():
            if not untrained and name not in evals and saved.eval.get(name) == config.eval[name]:
                failed[name] = why
        changed = result.with_evals(content, evals, failed, saved.eval)
        if changed != content:
            write_json(folder / "result.json", changed)


def _free_key(
    folder: Path,
    evals: dict[str, Entry],
    bare: Config,
    settings: Config,
    name: str,
    entry: Entry,
    dataset: Config,
    untrained: bool,
) -> str:
    """`name`; if that is taken or means other settings, `bare`, with what differs."""
    first: Config | None = bare
    if name in evals:
        report = result.report(folder, evals[name]["eval_id"])
        first = report["eval"] if report else None
    elif not untrained and settings == bare:
        return name
    words = [result.UNTRAINED] if untrained else []
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
def _alone(folder: Path) -> Iterator[None]:
    """Wait for other evaluations of the run to have written theirs."""
    with open_plain(folder / "lock") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        yield
