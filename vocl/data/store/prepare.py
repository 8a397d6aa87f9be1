"""Making a store of a published dataset: shard by shard, in several processes, resumed at whole shards."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge

from vocl.data.convert.converter import Converter, Split, Unit, dev_splits, refuse_other_counts
from vocl.data.features.progress import Progress
from vocl.data.store import layout, splits
from vocl.data.store.layout import Manifest, ShardSums
from vocl.data.store.reading import Entry, Shard
from vocl.data.store.record import Record
from vocl.data.store.writing import finished, sha256_of, write_shard
from vocl.errors import UserError
from vocl.files import json_or_none, make_folder, open_plain, refuse_planted, sweep, write_json
from vocl.stop import StopFlag, Stopped, end_with_parent, ignore_signals, shielded

PLAN, LOCK = "preparing.json", ".lock"
OWN_WORDS = ("val", "valid")  # of datasets for their validation videos
POLL_S = 0.2
LEAVE_S = 5.0  # no longer: what waits for a disk cannot be killed


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a store is made.

    `workers`: processes, None: one per core; `shard_mb`: a shard is closed when it has so much;
    `skip_damaged`: leave out videos that cannot be read, and say which.
    """

    workers: Annotated[int, Ge(1)] | None
    shard_mb: Annotated[int, Ge(1)]
    skip_damaged: bool


def prepare(
    converter: Converter, node: dict[str, Any], name: str, out: Path, how: Settings, stop: StopFlag
) -> Manifest:
    """Make `out` the store of what `converter` reads; what an earlier call left unfinished is gone on with.

    `node`: the config that made the converter. UserError for what is damaged or not as published;
    `Stopped` when asked to. Either leaves whole shards alone, and no store.
    """
    shards = list(_shards(converter.units(), how.shard_mb * 10**6))
    annotation = converter.annotation()
    digest = None if annotation is None else sha256_of(annotation)
    settings = {key: value for key, value in node.items() if key != "partial"}  # it decides at the end alone
    plan = {"name": name, "converter": settings, "annotation": digest, "shards": _digest(shards)}
    with _held(out, plan):
        found = _write(converter, shards, out, how, stop)
        skipped = [why for _, left_out in found for why in left_out]
        _write_splits(converter, out, [sums.name for sums, _ in found], digest, len(skipped))
        manifest = Manifest(name, node, digest, [sums for sums, _ in found], skipped)
        manifest.write(out)
        (out / PLAN).unlink()
    return manifest


def _shards(units: Sequence[Unit], most: int) -> Iterator[list[Unit]]:
    """Units in order, closed as soon as they weigh `most` bytes."""
    part: list[Unit] = []
    for unit in units:
        part.append(unit)
        if sum(one.weight for one in part) >= most:
            yield part
            part = []
    if part:
        yield part


def _digest(shards: Sequence[Sequence[Unit]]) -> str:
    """Of what is to be read, so that shards of another source are not taken for these."""
    text = json.dumps([[[unit.name, unit.weight] for unit in shard] for shard in shards])
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def _held(out: Path, plan: dict[str, Any]) -> Iterator[None]:
    """Within the block this process alone makes the store. UserError for a folder that holds other things."""
    try:
        refuse_planted(out)
        if layout.is_store(out):
            raise UserError(f"{out}: is a whole store already; remove it, or choose another folder")
        begun = json_or_none(out / PLAN)
        if begun is None and out.exists() and any(path.name != LOCK for path in out.iterdir()):
            raise UserError(f"{out}: exists already and is not empty; choose another folder or remove it")
        if begun not in (None, plan):
            raise UserError(f"{out}: was begun from another source or with other settings; remove it")
        make_folder(out)
        with open_plain(out / LOCK, "a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"{out}: another process is making it") from None
            if not _is_at(out / LOCK, lock.fileno()) or layout.is_store(out):
                raise UserError(f"{out}: another process has just made it")  # while this one waited for it
            sweep(out)
            write_json(out / PLAN, plan)
            try:
                yield
            finally:
                _leave_nothing(out)
    except OSError as error:
        raise UserError(f"{error.filename or out}: cannot be written: {error.strerror or error}") from None
    with suppress(OSError):
        (out / LOCK).unlink()


def _is_at(path: Path, handle: int) -> bool:
    """Whether an open file is the one that lies at `path` now."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.stat(path), os.fstat(handle))
    return False


def _leave_nothing(out: Path) -> None:
    """Where not one shard came about, other settings may be tried at once."""
    if not layout.is_store(out) and not any(out.glob("*.parquet")):
        sweep(out)
        for name in (PLAN, LOCK):
            (out / name).unlink(missing_ok=True)
        with suppress(OSError):
            out.rmdir()


def _write(
    converter: Converter, shards: Sequence[Sequence[Unit]], out: Path, how: Settings, stop: StopFlag
) -> list[tuple[ShardSums, list[str]]]:
    """All shards, those that lie there already as they are."""
    names = [f"{number:05d}" for number in range(len(shards))]
    there = [name for name in names if layout.index_path(out, name).is_file()]
    progress, done = Progress(f"shards of {out.name}"), len(there)
    with _processes(how.workers or len(os.sched_getaffinity(0))) as pool:
        make = functools.partial(_shard, converter, out, how.skip_damaged)
        with shielded():  # the first starts the processes
            waiting = {
                pool.submit(make, *job) for job in zip(names, shards, strict=True) if job[0] not in there
            }
        while waiting:
            ended, waiting = wait(waiting, timeout=POLL_S, return_when=FIRST_COMPLETED)
            for future in ended:
                future.result()
            done += len(ended)
            progress(done, len(names))
            if stop:
                raise Stopped(f"{done} of {len(names)} shards")
    return [finished(out, name) for name in names]


@contextmanager
def _processes(number: int) -> Iterator[ProcessPoolExecutor]:
    """A pool that is gone, whatever it was at, when the block ends."""
    others = multiprocessing.active_children()
    context = multiprocessing.get_context("fork" if sys.platform.startswith("linux") else None)
    pool = ProcessPoolExecutor(number, mp_context=context, initializer=_begin, initargs=(os.getpid(),))
    try:
        yield pool
    except BrokenProcessPool:
        raise UserError(
            "a process that read the dataset was killed: out of memory? fewer workers need less"
        ) from None
    finally:
        own = [process for process in multiprocessing.active_children() if process not in others]
        pool.shutdown(wait=False, cancel_futures=True)
        for process in own:
            process.kill()
        for process in own:  # they hold the lock, too
            process.join(LEAVE_S)


def _begin(parent: int) -> None:
    end_with_parent(parent, signal.SIGKILL)
    ignore_signals()


def _shard(converter: Converter, out: Path, skip_damaged: bool, name: str, units: Sequence[Unit]) -> None:
    write_shard(out, name, _records(converter, units), skip_damaged)


def _records(converter: Converter, units: Sequence[Unit]) -> Iterator[Record | UserError]:
    """All records of some units; a unit that cannot be read at all is an error in their place."""
    for unit in units:
        try:
            yield from converter.records(unit)
        except UserError as error:
            yield error


def _write_splits(
    converter: Converter, out: Path, names: Sequence[str], annotation: str | None, skipped: int
) -> None:
    """The dataset's own splits and those of papers, and for labelled videos `dev`, cut from `train`."""
    entries = [entry for name in names for entry in Shard(out, name).entries()]
    found: dict[str, list[str]] = {}
    first: dict[str, Entry] = {}
    for entry in entries:
        if first.setdefault(entry.name, entry) is not entry:
            raise UserError(f"{converter.source}: two videos are called {entry.name}")
        found.setdefault(entry.split, []).append(entry.name)
    if not found:
        raise UserError(f"{converter.source}: no video of it can be read")
    refuse_other_counts(converter, {name: len(videos) for name, videos in found.items()}, skipped)
    every = converter.splits(found)
    for name in OWN_WORDS:  # evaluations ask for "validation"
        if name in every and "validation" not in every:
            every["validation"] = Split(every[name].videos, f"{name} of the dataset")
    labelled = {entry.name for entry in entries if entry.objects > 0 or entry.has("points")}
    if "train" in every and "dev" not in every and labelled & set(every["train"].videos):
        every |= dev_splits(every["train"])
    for name, split in every.items():
        if split.videos:
            splits.write(out, name, split.videos, split.rule, annotation)
