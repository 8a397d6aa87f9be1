"""One run in this process: from a checked config to result.json, through any number of attempts."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import torch
import yaml

from vocl import assemble, dist
from vocl import config as configs
from vocl.checkpoint import Checkpoints
from vocl.config import Config
from vocl.errors import UserError
from vocl.evaluate.store import evaluate
from vocl.files import write_bytes, write_json, write_text
from vocl.load import find_run, pick_device
from vocl.ops.random import seed_of
from vocl.record import Attempts, environment
from vocl.settings import Runtime, Train
from vocl.stop import EXIT_STOPPED, Stopped, StopFlag, stop_on_signal
from vocl.track import Track
from vocl.trainer import NonFinite, Trainer

SCHEMA = 1
RESERVE_BYTES = 16384  # given back when the disk is full, so that the record of it can be written


def run(config: Config) -> int:
    """Train and evaluate what `config` (checked) says, or go on with it; returns the exit code.

    0 done (also when it was done already), 1 crashed with a record, 75 stopped and resumable.
    Raises `UserError` before anything is written when something it needs is missing.
    """
    folder = run_folder(config)
    result = folder / "result.json"
    if result.is_file():
        show(json.loads(result.read_text()), folder)
        return 0
    with stop_on_signal() as stop:
        try:
            return _attempt(config, folder, stop)
        finally:
            dist.stop()


def run_folder(config: Config) -> Path:
    """Where the run of `config` lives: <runtime.root>/runs/<run_id>."""
    return Path(config["runtime"]["root"]).expanduser() / "runs" / configs.run_id(config)


def _attempt(config: Config, folder: Path, stop: StopFlag) -> int:
    device = _prepare_device(config, folder)
    trainer = make_trainer(config, folder, device, stop)
    checkpoints = trainer.checkpoints
    found = checkpoints.newest()
    with _claim(folder, config):
        attempts = Attempts(folder)
        start = _restore(trainer, checkpoints, found, folder, config)
        if dist.rank() == 0:
            attempts.start(start, environment(str(device), torch.get_num_threads(), dist.world()))
            write_bytes(folder / "events" / ".reserve", bytes(RESERVE_BYTES))
        trainer.track.resume(start, attempts.number)
        trainer.track.heartbeat(start)
        try:
            trainer.fit(range(start, trainer.train.steps))
            _finish(config, folder, trainer, attempts, stop)
        except Stopped as stopped:
            attempts.end("stopped", detail=str(stopped), signal=stop.signal)
            print(f"stopped at {stopped}; the same command goes on", file=sys.stderr)
            return EXIT_STOPPED
        except Exception as error:
            _record_crash(error, attempts, folder)
            return 1
        finally:
            trainer.track.close()
    return 0


def make_trainer(config: Config, folder: Path | None, device: torch.device, stop: StopFlag) -> Trainer:
    """Everything a run needs, built from `config` and nothing else; writes nothing.

    Weights start from `seed`; `folder` None makes a trainer that leaves no trace (a replay).
    """
    complaints = assemble.missing_inputs(config)
    if complaints:
        raise UserError("; ".join(complaints))
    torch.manual_seed(seed_of(config["seed"], "weights"))
    checkpoints = Checkpoints((folder or Path(os.devnull)) / "checkpoints", _tenths(config))
    resuming = bool(checkpoints.list())
    train, runtime = Train(**config["train"]), Runtime(**config["runtime"])
    trainer = Trainer(
        seed=config["seed"],
        train=train,
        runtime=runtime,
        dataset=assemble.make_dataset(config),
        source=assemble.make_source(config, "train"),
        model=assemble.make_model(config, pretrained=not resuming),
        objective=assemble.make_objective(config),
        curriculum=assemble.make_curriculum(config),
        optimizer=assemble.make_optimizer(config),
        device=device,
        checkpoints=checkpoints,
        track=Track(folder if dist.rank() == 0 else None, train.steps, runtime.progress),
        stop=stop,
    )
    for begins in trainer.curriculum.starts:
        trainer.feed(begins).check()
    return trainer


def _restore(trainer: Trainer, checkpoints: Checkpoints, found: Any, folder: Path, config: Config) -> int:
    """Put the trainer into the state of the newest checkpoint; returns the step it goes on from."""
    if found is None:
        if config["warm_start"] is not None:
            _warm_start(trainer, config)
        frozen = {n: p for n, p in trainer.model.named_parameters() if n in trainer.frozen_names()}
        if dist.rank() == 0:
            trainer.frozen_digest = checkpoints.save_frozen(frozen, folder.parent.parent / "weights")
        trainer.frozen_digest = dist.gather_objects(trainer.frozen_digest)[0]
        return 0
    checkpoint, state = found
    trainer.frozen_digest = state["frozen"]
    frozen = checkpoints.load_frozen(state["frozen"])
    trainer.model.load_state_dict(frozen, strict=False)
    trainer.restore(state)
    return checkpoint.step


def _warm_start(trainer: Trainer, config: Config) -> None:
    """Take the parameters that match `warm_start.take` from another run's newest checkpoint."""
    import fnmatch

    source = find_run(config["warm_start"]["run"], config["runtime"]["root"])
    checkpoints = Checkpoints(source / "checkpoints")
    found = checkpoints.newest()
    if found is None:
        raise UserError(f"warm_start.run={config['warm_start']['run']}: has no valid checkpoint")
    weights = found[1]["model"] | checkpoints.load_frozen(found[1]["frozen"])
    own = trainer.model.state_dict()
    for glob in config["warm_start"]["take"]:
        names = fnmatch.filter(weights, glob)
        if not names:
            raise UserError(f"warm_start.take: {glob!r} matches no weight of {source}")
        for name in names:
            if name not in own or own[name].shape != weights[name].shape:
                raise UserError(f"warm_start.take: {name} of {source} does not fit this model")
            own[name].copy_(weights[name])


def _finish(config: Config, folder: Path, trainer: Trainer, attempts: Attempts, stop: StopFlag) -> None:
    """Evaluate, then write result.json: its presence means done."""

    def advance() -> None:
        if stop:
            raise Stopped("the evaluation")

    (final, _) = trainer.checkpoints.newest()
    entries = evaluate(config, trainer.model, final.digest, folder, trainer.device, advance)
    if dist.rank() != 0:
        return
    attempts.end("done")
    seconds = attempts.wall_s()
    gpus = dist.world() if trainer.device.type == "cuda" else 0
    result = {
        "schema": SCHEMA,
        "run_id": configs.run_id(config),
        "cell_id": configs.cell_id(config),
        "seed": config["seed"],
        "steps": config["train"]["steps"],
        "attempts": attempts.number,
        "wall_s": round(seconds, 2),
        "gpu_hours": round(gpus * seconds / 3600, 4),
        "device": torch.cuda.get_device_name(trainer.device) if gpus else "cpu",
        "code": environment(str(trainer.device), 0, 0)["code"],
        "metrics": next(iter(entries.values()))["metrics"] if entries else {},
        "evals": entries,
    }
    with suppress(FileNotFoundError):
        (folder / "events" / ".reserve").unlink()
    write_json(folder / "result.json", result)
    show(result, folder)


def show(result: dict[str, Any], folder: Path) -> None:
    """Print the scores of a finished run."""
    from rich.console import Console
    from rich.table import Table

    table = Table("metric", *result["evals"], title=f"run {result['run_id']}, seed {result['seed']}")
    names = [n for e in result["evals"].values() for n in e["metrics"] if n.startswith(("video_", "image_"))]
    for name in dict.fromkeys(names):
        values = [entry["metrics"].get(name) for entry in result["evals"].values()]
        table.add_row(name, *("-" if value is None else f"{value:.3f}" for value in values))
    console = Console()
    if names:
        console.print(table)
    console.print(f"{folder}/result.json", soft_wrap=True)


def _record_crash(error: Exception, attempts: Attempts, folder: Path) -> None:
    """Leave a record of what went wrong; says so in one line even where the disk is full."""
    with suppress(OSError):
        (folder / "events" / ".reserve").unlink()
    facts = {"kind": type(error).__name__, "message": str(error), "traceback": traceback.format_exc()}
    if isinstance(error, NonFinite):
        facts["non_finite"] = error.record
    place = f"{attempts.events}/{attempts.number:04d}-failed.json"
    try:
        attempts.end("failed", **facts)
    except OSError as failure:
        place = f"nowhere, the record could not be written: {failure}"
    print(f"failed: {type(error).__name__}: {' '.join(str(error).split())}; record: {place}", file=sys.stderr)


@contextmanager
def _claim(folder: Path, config: Config) -> Iterator[None]:
    """Hold the run against a second process on it; the first claim also writes its config."""
    if dist.rank() != 0:
        dist.barrier()
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock: IO[str] = (folder / "lock").open("a+")
    except OSError as error:
        raise UserError(f"runtime.root={config['runtime']['root']}: cannot write there: {error.strerror}: {error.filename}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise UserError(f"{folder}: is being trained already, by {lock.read().strip() or 'another process'}") from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {os.uname().nodename} since {time.strftime('%F %T')}\n")
        lock.flush()
        if not (folder / "config.yaml").is_file():
            write_text(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False))
        dist.barrier()
        yield


def _prepare_device(config: Config, folder: Path) -> torch.device:
    """Device, threads and process group. The thread count of the first attempt holds for all: sums
    of floats depend on it."""
    first = folder / "events" / "0001-start.json"
    recorded = json.loads(first.read_text())["threads"] if first.is_file() else None
    threads = recorded or config["runtime"]["threads"]
    if threads:
        torch.set_num_threads(threads)
    device = pick_device(config["runtime"]["device"])
    dist.start(device)
    return device


def _tenths(config: Config) -> frozenset[int]:
    """Steps whose checkpoints are kept for good: every tenth of the run, if asked."""
    steps, every = config["train"]["steps"], config["runtime"]["checkpoint_every"]
    if not config["runtime"]["checkpoint_tenths"]:
        return frozenset()
    return frozenset(round(steps * i / 10 / every) * every for i in range(1, 10))


