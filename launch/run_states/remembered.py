"""What was read of the files of runs, for as long as these stay as they are.

A cache in the user's own folder, and nothing but a cache: what has changed since, or was read by other
code, is read again, and so is everything where the cache is gone or damaged. To read a thousand files of
YAML or logs takes seconds, to look whether they changed does not.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from vocl.files import Kinds, record_or_none, write_text
from vocl.rundir.results_root import ResultsRoot

CACHE: Kinds = {"code": list, "known": dict}
FEW = 100  # so many are read as quickly

Mark = list[int]


def mark(*paths: str | Path) -> Mark | None:
    """What changes where one of the files at `paths` does; None where one cannot be looked at."""
    try:
        facts = [os.stat(path) for path in paths]
    except OSError:
        return None
    return [number for each in facts for number in (each.st_mtime_ns, each.st_size, each.st_ino)]


def remembered(
    root: ResultsRoot,
    name: str,
    code: Iterable[Path],
    marks: Mapping[str, Mark | None],
    read: Callable[[str], Any],
) -> dict[str, Any]:
    """What `read` says of each run of `marks`, by its id, or what it said when the run's mark was the same.

    `name` of the cache, `code`: folders of what `read` depends on beside the marked files. A run whose mark
    is None is always read, as are few.
    """
    if len(marks) <= FEW:
        return {run: read(run) for run in marks}
    path, version = _place(root, name), _version(code)
    cached = record_or_none(path, CACHE) or {"code": [], "known": {}}
    known: dict[str, Any] = cached["known"] if cached["code"] == version else {}
    found, fresh = {}, {}
    for run, own in marks.items():
        entry = known.get(run)
        if own is not None and isinstance(entry, list) and len(entry) == 2 and entry[0] == own:
            found[run] = entry[1]
            continue
        found[run] = read(run)
        if own is not None and _is_plain(found[run]):
            fresh[run] = [own, found[run]]
    if fresh:
        with suppress(OSError):  # without a home there is no cache
            write_text(path, json.dumps({"code": version, "known": known | fresh}))
    return found


def _place(root: ResultsRoot, name: str) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # of no home: a folder "~" that
    place = hashlib.blake2s(os.fsencode(root.path.absolute()), digest_size=8).hexdigest()  # is never made
    return Path(base) / "vocl" / f"{name}-{place}.json"


def _version(code: Iterable[Path]) -> list[int]:
    """What changes where code or a config in the folders `code` does."""
    times = [0]
    found = ((place, names) for top in code for place, _, names in os.walk(top))
    for path in (os.path.join(place, name) for place, names in found for name in names):
        if path.endswith((".py", ".yaml")):
            with suppress(OSError):  # an editor's lock, which leads nowhere
                times.append(os.stat(path).st_mtime_ns)
    return [len(times), max(times)]


def _is_plain(content: Any) -> bool:
    """Whether JSON gives it back as it is."""
    try:
        return bool(json.loads(json.dumps(content)) == content)
    except (TypeError, ValueError):
        return False
