"""The configs of many runs. Those that have not changed since come from a cache in the user's own folder:
to read a thousand files of YAML takes seconds, to look whether they changed does not."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from vocl.config.folders import CONF
from vocl.config.schema import Config
from vocl.files import Kinds, record_or_none, write_text
from vocl.rundir.results_root import ResultsRoot

CACHE: Kinds = {"code": list, "configs": dict}
FEW = 100  # so many are read as quickly
CODE = (Path(__file__).resolve().parents[2] / "vocl", CONF)  # how an old config reads today


def configs(root: ResultsRoot, runs: Iterable[str]) -> dict[str, Config]:
    """The config of each run in today's keys, unchecked; empty where there is none that can be read."""
    runs = list(runs)
    if len(runs) <= FEW:
        return {run: root.run(run).config_unchecked() for run in runs}
    path, code = _place(root), _code()
    cached = record_or_none(path, CACHE) or {"code": [], "configs": {}}
    known: dict[str, Any] = cached["configs"] if cached["code"] == code else {}
    found, fresh = {}, {}
    for run in runs:
        mark, entry = _mark(root, run), known.get(run)
        if mark is not None and isinstance(entry, list) and entry[0] == mark:
            found[run] = entry[1]
            continue
        found[run] = root.run(run).config_unchecked()
        if mark is not None and _is_plain(found[run]):
            fresh[run] = [mark, found[run]]
    if fresh:
        with suppress(OSError):  # without a home there is no cache
            write_text(path, json.dumps({"code": code, "configs": known | fresh}))
    return found


def _place(root: ResultsRoot) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # of no home: a folder "~" that
    name = hashlib.blake2s(os.fsencode(root.path.absolute()), digest_size=8).hexdigest()  # is never made
    return Path(base) / "vocl" / f"configs-{name}.json"


def _mark(root: ResultsRoot, run: str) -> list[int] | None:
    """What changes where a config does."""
    try:
        facts = os.stat(root.run(run).config_path)
    except OSError:
        return None
    return [facts.st_mtime_ns, facts.st_size, facts.st_ino]


def _code() -> list[int]:
    """What changes where the code does that reads old configs."""
    times = [
        os.stat(os.path.join(place, name)).st_mtime_ns
        for top in CODE
        for place, _, names in os.walk(top)
        for name in names
        if name.endswith((".py", ".yaml"))
    ]
    return [len(times), max(times)]


def _is_plain(config: Config) -> bool:
    """Whether JSON gives it back as it is."""
    try:
        return bool(json.loads(json.dumps(config)) == config)
    except (TypeError, ValueError):
        return False
