"""`vocl submit`: train what a selector names and is not done, in child processes of this machine."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from launch.ablation import Ablation, slug
from launch.plan import Selection, Spec, run_folder, select, state
from launch.pool import Job, Outcome, Pool
from launch.progress import make_board
from vocl import config as configs
from vocl.config import Config
from vocl.errors import UserError
from vocl.files import write_text
from vocl.stop import EXIT_STOPPED

TRAIN = (sys.executable, "-m", "vocl.train", "--config")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def main(arguments: Sequence[str]) -> int:
    """`vocl submit SELECTOR [cluster=local cluster.slots=N]`; the same command goes on where it stopped.

    Returns 0 all done, 1 some failed (the others went on), 75 stopped by a signal.
    """
    selection = select(arguments)
    root = selection.root
    slots = _slots(selection)
    try:
        if selection.ablation:
            _link(selection, selection.ablation, root)
        todo = [spec for spec in selection.runs if state(run_folder(root, spec)) != "done"]
        # seed by seed, so that a table half done has one seed everywhere
        jobs = [_prepare(spec, root, slots) for spec in sorted(todo, key=lambda spec: spec.seed)]
    except OSError as error:
        raise UserError(
            f"runtime.root={root}: cannot write there: {error.strerror}: {error.filename}"
        ) from None
    runs = len(selection.runs)
    print(f"{runs} runs: {runs - len(jobs)} done already, {len(jobs)} to do in {slots} slots", flush=True)
    code, outcomes = _run(jobs, slots)
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    for outcome in failed:
        print(f"failed: {outcome.job.id} ({outcome.job.label}): {_reason(outcome)}", file=sys.stderr)
    if code == EXIT_STOPPED:
        print(f"stopped; to go on: vocl submit {shlex.join(arguments)}", file=sys.stderr)
    return 1 if failed and code != EXIT_STOPPED else code


def submit_one(config: Config) -> int:
    """Train one checked config in a child process; returns its exit code, 75 when stopped."""
    spec = Spec(configs.run_id(config), configs.cell_id(config), config, "", "", config["seed"])
    root = Path(config["runtime"]["root"]).expanduser()
    folder = run_folder(root, spec)
    if state(folder) != "done":
        try:
            job = _prepare(spec, root, slots=1)
        except OSError as error:
            raise UserError(
                f"runtime.root={root}: cannot write there: {error.strerror}: {error.filename}"
            ) from None
        code, outcomes = _run([job], 1)
        if code != 0 or outcomes[0].code != 0:
            print(_reason(outcomes[0]) if outcomes else "stopped", file=sys.stderr)
            return code or (outcomes[0].code if outcomes[0].code in (1, 2) else 1)
    for name, value in json.loads((folder / "result.json").read_text())["metrics"].items():
        print(f"{name} {value}")
    print(f"{folder}/result.json")
    return 0


def _run(jobs: list[Job], slots: int) -> tuple[int, list[Outcome]]:
    """75 when something stopped before its end, else 0 (failures are the caller's to tell)."""
    pool = Pool(
        slots,
        {name: str(_threads(slots)) for name in THREADS} | {"PYTHONUNBUFFERED": "1"},
        make_board(len(jobs)),
    )
    outcomes = pool.run(jobs)
    unfinished = len(outcomes) < len(jobs) or any(outcome.state == "stopped" for outcome in outcomes)
    return (EXIT_STOPPED if unfinished else 0), outcomes


def _prepare(spec: Spec, root: Path, slots: int) -> Job:
    """Save the config that the child will run as it stands: it composes nothing."""
    folder = run_folder(root, spec)
    runtime = {**spec.config["runtime"], "progress": False}
    runtime["threads"] = runtime["threads"] or _threads(slots)
    config = {**spec.config, "runtime": runtime, "cluster": {"kind": "here", "slots": 1}}
    write_text(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False))
    command = (*TRAIN, str(folder / "config.yaml"))
    return Job(spec.id, spec.label, command, folder, config["train"]["steps"])


def _slots(selection: Selection) -> int:
    """Runs at a time; a selection is one submission, so all of its runs must say the same."""
    slots = {spec.config["cluster"]["slots"] for spec in selection.specs}
    if len(slots) > 1:
        raise UserError(f"cluster.slots: one submission has one pool, not {sorted(slots)}")
    return slots.pop()


def _threads(slots: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // slots)


def _reason(outcome: Outcome) -> str:
    """The last line of output, and where the record or the log lies."""
    records = sorted((outcome.job.folder / "events").glob("*-failed.json"))
    place = records[-1] if outcome.code == 1 and records else outcome.job.folder / "log.txt"
    killed = f"ended by signal {-outcome.code}: " if outcome.code < 0 else ""
    line = f"{killed}{outcome.last_line}"
    return line if str(place) in line else f"{line}; see {place}"


def _link(selection: Selection, ablation: Ablation, root: Path) -> None:
    """<root>/by-name/<ablation>/<row>/<column>/s<seed> -> the run's folder."""
    for spec in selection.specs:
        link = root / "by-name" / ablation.name / slug(spec.row) / slug(spec.column) / f"s{spec.seed}"
        target = os.path.relpath(run_folder(root, spec), link.parent)
        link.parent.mkdir(parents=True, exist_ok=True)
        if link.is_symlink() and os.readlink(link) == target:
            continue
        temporary = link.with_name(f".{link.name}.{os.getpid()}")
        temporary.symlink_to(target)
        temporary.replace(link)
