"""`vocl eval RUN [eval=[...]] [eval.<name>.<key>=value ...] [runtime.<key>=value ...]`

Scores a trained run again, by evaluations it was not trained with or by its own under other
settings, and adds them to its result.json. It never trains. An evaluation that the run's config
has starts from the settings there, any other from conf/eval.
"""

from __future__ import annotations

import copy
import fcntl
import json
import sys
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from vocl import assemble, result
from vocl import config as configs
from vocl.compose import compose
from vocl.config import Config
from vocl.errors import EXIT_USER, UserError
from vocl.evaluate.store import Entry, evaluate, settings_of
from vocl.files import write_json
from vocl.load import load, pick_device, saved_config, trusted_run
from vocl.stop import EXIT_STOPPED, Stopped, stop_on_signal


def main(arguments: list[str]) -> int:
    """The command; returns its exit code: 0, 2 the user's mistake, 75 stopped."""
    if not arguments or "=" in arguments[0]:
        print("vocl eval: give RUN, then eval=[...] or eval.<name>.<key>=<value>", file=sys.stderr)
        return EXIT_USER
    try:
        add(arguments[0], arguments[1:])
        return 0
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_USER
    except Stopped as stopped:
        print(f"stopped at {stopped}; the same command begins that evaluation again", file=sys.stderr)
        return EXIT_STOPPED


def add(run: str, overrides: list[str]) -> dict[str, Entry]:
    """Evaluate the run `run` (an id or a folder) as `overrides` say; returns the new entries."""
    root = _root(overrides)
    folder = trusted_run(run, root)
    config = requested(saved_config(folder, root), overrides)
    imported = not list((folder / "events").glob("*-start.json"))
    if not imported and result.is_damaged(folder):
        result.read(folder)  # raises
    if not imported and not result.is_done(folder):
        raise UserError(f"{folder}: has not finished; train it first")
    if config["runtime"]["threads"]:
        torch.set_num_threads(config["runtime"]["threads"])
    device = pick_device(config["runtime"]["device"])
    for settings in config["eval"].values():
        assemble.make_source(config, settings["split"])
    loaded = load(str(folder), root, str(device))
    with stop_on_signal() as stop:

        def advance() -> None:
            if stop:
                raise Stopped("the evaluation")

        try:
            entries = evaluate(config, loaded.model, loaded.checkpoint.digest, folder, device, advance)
            _keep(folder, config, entries)
        except OSError as error:
            raise UserError(f"{error.filename or folder}: {error.strerror}") from None
    result.show(folder)
    return entries


def requested(saved: Config, overrides: list[str]) -> Config:
    """The config of a run with the evaluations and the runtime values that `overrides` ask for."""
    keys = [_key(override) for override in overrides]
    for key, override in zip(keys, overrides, strict=True):
        if key.split(".")[0] not in ("eval", "runtime"):
            raise UserError(f"{override}: the run is trained already, choose from eval and runtime")
    names = [f"eval=[{','.join(saved['eval'])}]"] if "eval" not in keys else []
    project = [f"project={saved['project']}"] if saved["project"] else []
    composed = compose([*project, *names, *overrides])
    config = copy.deepcopy(saved)
    config["eval"] = {name: saved["eval"].get(name, new) for name, new in composed["eval"].items()}
    for key in keys:
        if key not in ("eval", "runtime"):
            _put(config, key, _get(composed, key))
    return configs.check(config)


def _key(override: str) -> str:
    """The dotted path in the config that an override sets: eval/protocol@eval.x.protocol=y sets
    eval.x.protocol."""
    return override.partition("=")[0].lstrip("+~").rpartition("@")[2].replace("/", ".")


def _get(config: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(config, dict) or part not in config:
            raise UserError(f"{key}: no such key")
        config = config[part]
    return config


def _put(config: Any, key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for part in parents:
        if not isinstance(config.get(part), dict):
            raise UserError(f"{key}: the run's config has no {part}")
        config = config[part]
    config[last] = value


def _root(overrides: Iterable[str]) -> str:
    """Where runs lie: runtime.root of the overrides, or of conf/."""
    given = [o.partition("=")[2] for o in overrides if _key(o) == "runtime.root"]
    return given[-1] if given else compose([])["runtime"]["root"]


def _keep(folder: Path, config: Config, entries: dict[str, Entry]) -> None:
    """Add `entries` to result.json, each under a key of its own; `metrics` stay the first one's."""
    with _alone(folder):
        if not result.is_done(folder):  # imported weights: nothing was trained here
            result.write(folder, config, 0, "cpu", {})
        content = result.read(folder)
        evals = content["evals"]
        for name, entry in entries.items():
            if entry["eval_id"] not in {e["eval_id"] for e in evals.values()}:
                evals[_free_key(folder, evals, name, entry, config["eval"][name])] = entry
        if evals != result.read(folder)["evals"]:
            write_json(folder / "result.json", result.with_evals(content, evals))


def _free_key(folder: Path, evals: dict[str, Entry], name: str, entry: Entry, settings: Config) -> str:
    """`name`; if it is taken, with what differs from the evaluation of that name."""
    if name not in evals:
        return name
    first = settings_of(folder, evals[name]["eval_id"])
    key = f"{name}:{','.join(_changes(first, settings))}" if first else name
    return key if key not in evals and not key.endswith(":") else f"{name}:{entry['eval_id']}"


def _changes(first: Config, settings: Config) -> list[str]:
    """What `settings` say otherwise than `first`: cyclic=true, and for what has a name, its name."""
    if first.get("name") != settings.get("name"):
        return [str(settings["name"])]
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
def _alone(folder: Path) -> Any:
    """Wait for other evaluations of the run to have written theirs."""
    with (folder / "lock").open("a+") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
