"""`vocl sync RUN... | --all [runtime.root=PATH]`: upload what W&B has not seen of runs, with
runtime.wandb_project=NAME (or wandb_entity) to another place than their configs say.

A run is an id, its beginning, or a folder. Folders that the client wrote offline go up oldest first,
each by `wandb sync`, which marks it; so a second `vocl sync` finds nothing to do. Rows or scores that
no folder holds, because the mirror was killed or tracking was off, are written from the run's records
first. What a training that is going on has not finished writing stays for the next time.
Returns 0, 1 when an upload failed, 2 the user's mistake.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from vocl.command_line import defaults
from vocl.command_line.verb import RUN, RUNS, Line, option, verb, words
from vocl.config.wandb_names import refuse_project
from vocl.errors import UserError, printable
from vocl.files import parse_json
from vocl.rundir.result import Result
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import RunDir
from vocl.tracking import mirror
from vocl.tracking.sealed import last_sealed, sealed
from vocl.tracking.shown import digest

CLIENT = (sys.executable, "-m", "wandb", "sync")
UPLOAD_S = 1800.0  # for one folder
WRITE_S = 120.0
TAKEN = ("runtime.root", "runtime.wandb_project", "runtime.wandb_entity")
RETRIES = "3"  # of the client, which else tries for hours: about 15 s


class Failed(Exception):
    """A run could not be uploaded; says why in one line."""


@verb("sync")
@words(
    f"RUN... [{'=] ['.join(TAKEN)}=]",
    f"{RUN} Where to upload to, if not where its config says.",
    keys=("runtime.",),
    takes=defaults.ROOT,
    offers=(RUNS, *(f"{key}=" for key in TAKEN)),
)
@option("--all", "every", is_flag=True, help="All runs that were tracked.")
def main(line: Line, every: bool) -> int:
    """Upload to W&B what it has not seen of runs; returns 0, or 1 when an upload failed."""
    root, runs, given = _runs(line, every)
    failed = 0
    for run in runs:
        try:
            print(f"{run.id}: {sync(run, given)}", flush=True)
        except (Failed, OSError) as error:
            failed += 1
            print(printable(f"{run.id}: {error}"), file=sys.stderr)
    if not runs:
        print(f"no run in {root.runs_path} was tracked (runtime.tracking=offline)")
    return 1 if failed else 0


def sync(run: RunDir, given: Mapping[str, Any]) -> str:
    """Upload `run`; returns what was done. Raises `Failed`. `given`: the `wandb_project` and
    `wandb_entity` to upload it to, where not those of its config."""
    live, online = is_live(run), _online(run)
    if online and not live:
        _mirror(run, "online", given)
        return "brought up to date"
    if not live and _lacks(run):
        _mirror(run, "offline", given)
    waiting = [path for path in sealed_folders(run) if not is_synced(path) and not online]
    for path in waiting:
        _upload(path, given)
    done = f"{len(waiting)} uploaded" if waiting else "nothing new"
    return f"{done}; it is running, the rest when it has ended" if live else done


def sealed_folders(run: RunDir) -> list[Path]:
    """What the client finished offline, oldest first: names are by time, in UTC."""
    return [run.wandb / name for name in sorted(sealed(run)) if name.startswith("offline-")]


def is_synced(path: Path) -> bool:
    """Whether the client has uploaded its folder `path`."""
    return any(path.glob("*.wandb.synced"))


def is_live(run: RunDir) -> bool:
    """Whether a training may be writing: it has no end yet, and beat a moment ago."""
    beat = run.beat()
    if beat is None or not run.is_alive(beat):
        return False
    return all(path.stem.endswith("-start") for path in run.events.glob(f"{beat.attempt:04d}-*.json"))


def _runs(line: Line, every: bool) -> tuple[ResultsRoot, list[RunDir], dict[str, Any]]:
    """The root, the runs that are asked for, and to which project and entity, where the arguments say so."""
    from vocl.config.compose import compose

    runtime, names = line.overrides, line.names
    if unknown := [name for name in names if "=" in name]:
        raise UserError(f"{unknown[0]}: expected RUN, --all or {', '.join(f'{key}=' for key in TAKEN)}")
    if bool(names) == every:
        raise UserError("vocl sync: choose RUN... or --all")
    composed = compose(runtime)["runtime"]
    refuse_project(composed["wandb_project"])
    root = ResultsRoot.of(composed["root"])
    said = {argument.partition("=")[0].removeprefix("runtime.") for argument in runtime}
    given: dict[str, Any] = {key: composed[key] for key in ("wandb_project", "wandb_entity") if key in said}
    if names:
        return root, [RunDir(root.find(name).path.resolve()) for name in names], given
    tracked = (run for run in map(root.run, root.run_ids()) if run.wandb.exists())
    return root, list(tracked), given


def _online(run: RunDir) -> bool:
    """Whether an online attempt was cut off: then the server alone knows what it has."""
    written = {path.name for path in run.wandb.glob("run-*-*")}
    return bool(written - sealed(run).keys())


def _lacks(run: RunDir) -> bool:
    """Whether the records say more than the client's finished folders."""
    done = run.result_or_none()
    if done and not any(_has_scores(entry, done) for entry in sealed(run).values()):
        return True
    path = run.metrics_path
    rows = path.read_bytes().splitlines() if path.is_file() else []
    return _last_step(rows) > last_sealed(run)


def _has_scores(entry: dict[str, Any], done: Result) -> bool:
    """Whether a finished folder has the scores of a result; older ones name the evaluations alone."""
    return entry["evals"] == list(done.evals) and entry.get("scores") in (None, digest(done))


def _last_step(rows: Sequence[bytes]) -> int:
    """Of the last report that is whole; -1 without one."""
    for row in reversed(rows):
        with suppress(ValueError, KeyError, TypeError):
            return int(parse_json(row)["step"])
    return -1


def _mirror(run: RunDir, mode: str, given: Mapping[str, Any]) -> None:
    """Have the client write what is missing, from the records."""
    config = run.config_as_saved().get("runtime")
    if not isinstance(config, dict):
        raise Failed(f"{run.config_path}: cannot be read")
    config |= given
    project, entity = config.get("wandb_project", "vocl"), config.get("wandb_entity")
    checkpoints = bool(config.get("tracking_checkpoints"))
    said = _run(mirror.command(run, mode, project, entity, checkpoints), WRITE_S)
    if said.returncode:
        raise Failed(_reason(said.stdout) or f"the mirror ended with {said.returncode}")


def _upload(path: Path, given: Mapping[str, Any]) -> None:
    """Upload one folder by the client's own command, which marks it as synced."""
    options = [f"--{key.removeprefix('wandb_')}={value}" for key, value in given.items() if value]
    said = _run([*CLIENT, str(path.absolute()), *options], UPLOAD_S)
    if not is_synced(path):  # its exit code is 0 also without an account
        reason = _reason(said.stdout) or f"wandb sync ended with {said.returncode}"
        raise Failed(f"not uploaded, {path.name}: {reason}")


def _run(command: Sequence[str], seconds: float) -> subprocess.CompletedProcess[bytes]:
    environment = mirror.environment() | {"NO_COLOR": "1", "WANDB__GRAPHQL_RETRY_MAX": RETRIES}
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=mirror.REPOSITORY,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{command[0]} has not ended after {seconds:g} s") from None


def _reason(said: bytes) -> str:
    """The first line that speaks of an error, else the last."""
    lines = [line.strip().removeprefix("wandb: ") for line in said.decode(errors="replace").splitlines()]
    lines = [line for line in lines if line]
    return next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "")[:300]
