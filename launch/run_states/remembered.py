"""What was read of the files of runs, for as long as these stay as they are.

A cache in the user's own folder, and nothing but a cache: what has changed since, or was read by other
code, is read again, and so is everything where the cache is gone, damaged, or not this user's. To read a
thousand files of YAML or logs takes seconds, to look whether they changed does not.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from vocl.files import atomic_path, open_regular, own_folder, parse_json
from vocl.rundir.results_root import ResultsRoot

FEW = 100  # so many are read as quickly
AT_ONCE = 1000  # lines of the file: read together, equal keys in them are one string
ABSENT = (0, 0, 0, 0)

Mark = list[int]
Entry = tuple[str, Mark, Any]  # a run, and what was read of it when it had this mark


def mark(*paths: str | Path) -> Mark | None:
    """What changes where one of the files at `paths` does, comes or goes; None where one cannot be looked at.

    The time of change is among it, which no program sets: a copy may keep size and date of what it replaces.
    """
    found: Mark = []
    for path in paths:
        try:
            facts = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            found += ABSENT
        except (OSError, ValueError):
            return None
        else:
            found += (facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size, facts.st_ino)
    return found


def remembered(
    root: ResultsRoot,
    name: str,
    code: Iterable[Path],
    marks: Mapping[str, Mark | None],
    read: Callable[[str], Any],
    fits: Callable[[Any], bool] = lambda content: True,
) -> dict[str, Any]:
    """What `read` says of each run of `marks`, by its id, or what it said when the run's mark was the same.

    `name` of the cache, `code`: folders of what `read` depends on beside the marked files. A run whose mark
    is None is always read, as are few, and whatever is such that `fits` denies it.
    """
    if len(marks) <= FEW:
        return {run: read(run) for run in marks}
    path, version = _place(root, name), _version(code)
    known = {run: content for run, own, content in _entries(path, version) if marks.get(run) == own}
    found = {run: known[run] if run in known and fits(known[run]) else read(run) for run in marks}
    fresh = [
        (run, own, found[run])
        for run, own in marks.items()
        if own is not None and found[run] is not known.get(run) and fits(found[run]) and _is_plain(found[run])
    ]
    if fresh:
        with suppress(OSError):  # without a home there is no cache
            _write(path, version, _still_true(path, version, root, marks, fresh))
    return found


def _still_true(
    path: Path, version: list[int], root: ResultsRoot, marks: Mapping[str, Mark | None], fresh: list[Entry]
) -> Iterator[Entry]:
    """What the cache is to hold: what it held of these runs as they are, and of others that are there yet;
    then what is `fresh`."""
    there, again = set(root.run_ids()), {run for run, _, _ in fresh}
    for entry in _entries(path, version):
        run, own, _ = entry
        if run not in again and (marks[run] == own if run in marks else run in there):
            yield entry
    yield from fresh


def _entries(path: Path, version: list[int]) -> Iterator[Entry]:
    """What was remembered by the same code, up to where the file is damaged. A part at a time: it may hold
    ten times what is asked for."""
    with suppress(OSError, ValueError, TypeError):
        own_folder(path.parent)  # another user's would say what they like of runs
        with open_regular(path, links=False) as file:
            is_own = os.fstat(file.fileno()).st_uid == os.geteuid()
            if not is_own or parse_json(file.readline()) != _head(version):
                return
            while lines := list(itertools.islice(file, AT_ONCE)):
                for run, own, content in parse_json(b"[%b]" % b",".join(lines)):
                    if isinstance(run, str) and isinstance(own, list):
                        yield run, own, content


def _write(path: Path, version: list[int], entries: Iterable[Entry]) -> None:
    own_folder(path.parent)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for each in (_head(version), *entries):
            file.write(f"{json.dumps(each)}\n")


def _head(version: list[int]) -> dict[str, list[int]]:
    return {"code": version}


def _place(root: ResultsRoot, name: str) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if not os.path.isabs(base):  # of no home
        base = os.devnull  # below which nothing is made
    place = hashlib.blake2s(os.fsencode(root.path.absolute()), digest_size=8).hexdigest()
    return Path(base) / "vocl" / f"{name}-{place}.json"


def _version(code: Iterable[Path]) -> list[int]:
    """What changes where code or a config in the folders `code` does."""
    times, sizes = [0], [0]
    found = ((place, names) for top in code for place, _, names in os.walk(top))
    for path in (os.path.join(place, name) for place, names in found for name in names):
        if path.endswith((".py", ".yaml")):
            with suppress(OSError):  # an editor's lock, which leads nowhere
                facts = os.stat(path)
                times.append(facts.st_mtime_ns)
                sizes.append(facts.st_size)
    return [len(times), max(times), sum(sizes)]


def _is_plain(content: Any) -> bool:
    """Whether JSON gives it back as it is."""
    try:
        return bool(json.loads(json.dumps(content)) == content)
    except (TypeError, ValueError):
        return False
