"""`vocl sync RUN... | --all [runtime.root=PATH]`: upload what W&B has not seen of runs, with
runtime.wandb_project=NAME (or wandb_entity) to another place than their configs say, once to each. Of a
run with runtime.tracking=trackio, or with that typed: bring what trackio has of it up to date.
`vocl sync --table NAME`: the files that `vocl table NAME` wrote, as a run of their own.

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

from launch.selection.submitted import read_table
from vocl.command_line import defaults
from vocl.command_line.verb import RUN, RUNS, Line, option, verb, words
from vocl.config.wandb_names import refuse_project
from vocl.errors import UserError, printable
from vocl.files import parse_json
from vocl.rundir.result import Result
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import RunDir
from vocl.tracking import media, mirror, sent, table_process
from vocl.tracking.sealed import known, last_sealed, sealed
from vocl.tracking.shown import digest

CLIENT = (sys.executable, "-m", "wandb", "sync")
UPLOAD_S = 1800.0  # for one folder
WRITE_S = 120.0
PLACES = ("wandb_project", "wandb_entity")
OTHERS = ("tracking", "tracking_checkpoints")  # settings of a run that may be set anew
TAKEN = ("runtime.root", *(f"runtime.{key}" for key in (*PLACES, *OTHERS)))
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
@option("--table", metavar="NAME", help="The table that vocl table NAME wrote, instead of runs.")
def main(line: Line, every: bool, table: str | None) -> int:
    """Upload to W&B what it has not seen of runs; returns 0, or 1 when an upload failed."""
    if table is not None:
        return _table(line, every, table)
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
    """Upload `run`; returns what was done. Raises `Failed`. `given`: settings of its config that are to
    be others, such as the `wandb_project` and `wandb_entity` to upload it to."""
    live, place = is_live(run), {key: given[key] for key in PLACES if key in given}
    settings = _settings(run) | dict(given)
    if settings.get("tracking") == "trackio":
        if not live:
            _mirror(run, "trackio", settings)
        return "it is running, later" if live else "brought up to date"
    online = _online(run, moved=bool(place))
    if online and not live:
        _mirror(run, "online", settings)
        return "brought up to date"
    if not live and _lacks(run, bool(settings.get("tracking_checkpoints"))):
        _mirror(run, "offline", settings)
    waiting = [path for path in sealed_folders(run) if not (online or sent.is_sent(run, path, place))]
    for path in waiting:
        _upload(path, place)
        sent.write(run, path, place)
    done = f"{len(waiting)} uploaded" if waiting else "nothing new"
    return f"{done}; it is running, the rest when it has ended" if live else done


def sealed_folders(run: RunDir) -> list[Path]:
    """What the client finished offline, oldest first: names are by time, in UTC."""
    return [run.wandb / name for name in sorted(sealed(run)) if name.startswith("offline-")]


def is_live(run: RunDir) -> bool:
    """Whether a training may be writing: it has no end yet, and beat a moment ago."""
    beat = run.beat()
    if beat is None or not run.is_alive(beat):
        return False
    return all(path.stem.endswith("-start") for path in run.events.glob(f"{beat.attempt:04d}-*.json"))


def _runs(line: Line, every: bool) -> tuple[ResultsRoot, list[RunDir], dict[str, Any]]:
    """The root, the runs that are asked for, and to which project and entity, where the arguments say so."""
    runtime, names = line.overrides, line.names
    if unknown := [name for name in names if "=" in name]:
        raise UserError(f"{unknown[0]}: expected RUN, --all or {', '.join(f'{key}=' for key in TAKEN)}")
    if bool(names) == every:
        raise UserError("vocl sync: choose RUN... or --all")
    composed = _composed(runtime)
    root = ResultsRoot.of(composed["root"])
    given = _said(runtime, composed)
    if names:
        return root, [RunDir(root.find(name).path.resolve()) for name in names], given
    tracked = (run for run in map(root.run, root.run_ids()) if run.wandb.exists())
    return root, list(tracked), given


def _composed(overrides: Sequence[str]) -> dict[str, Any]:
    """The section `runtime` of `overrides`, checked, with names that the tracker takes."""
    from vocl.config.compose import composed

    return vars(composed(list(overrides)).runtime)


def _said(overrides: Sequence[str], composed: Mapping[str, Any]) -> dict[str, Any]:
    """Those settings of runs that `overrides` set, from their composed section."""
    keys = {override.partition("=")[0].removeprefix("runtime.") for override in overrides}
    return {key: composed[key] for key in (*PLACES, *OTHERS) if key in keys}


def _table(line: Line, every: bool, name: str) -> int:
    """Upload the table `name` to where its runs are shown, unless the arguments say another place."""
    if line.names or every:
        raise UserError("vocl sync: choose RUN..., --all or --table NAME")
    composed = _composed(line.overrides)
    root = ResultsRoot.of(composed["root"])
    folder = root.tables / name
    if not folder.resolve().is_relative_to(root.tables.resolve()) or not (folder / "table.csv").is_file():
        raise UserError(f"--table {name}: no table in {root.tables}; to write it: vocl table {name}")
    stored = read_table(root, name)
    of_runs = (_settings(root.run(entry.id)) for entry in (stored.entries if stored else ()))
    settings = composed | next(filter(None, of_runs), {}) | _said(line.overrides, composed)
    project, entity = settings["wandb_project"], settings["wandb_entity"]
    refuse_project(project)
    mode = "trackio" if settings["tracking"] == "trackio" else "online"
    try:
        said = _run(table_process.command(root, name, mode, project, entity), WRITE_S)
    except Failed as error:
        print(printable(f"{name}: {error}"), file=sys.stderr)
        return 1
    if said.returncode:
        print(printable(f"{name}: {_reason(said.stdout)}"), file=sys.stderr)
        return 1
    print(f"{name}: uploaded, in project {project}")
    return 0


def _online(run: RunDir, moved: bool) -> bool:
    """Whether an online attempt was cut off: then the server alone knows what it has. `moved`: or whether
    one was not, and another place is to have it."""
    written = {path.name for path in run.wandb.glob("run-*-*")}
    return bool(written if moved else written - sealed(run).keys())


def _lacks(run: RunDir, checkpoints: bool) -> bool:
    """Whether the records say more than the client's finished folders."""
    done, shown = run.result_or_none(), known(run)
    if done and not shown.pictures and media.read(run.media):
        return True
    if done and checkpoints and not {file.path.name for file in run.checkpoint_files()[:1]} <= shown.files:
        return True
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


def _settings(run: RunDir) -> dict[str, Any]:
    """The section `runtime` of its config; empty where that cannot be read."""
    config = run.config_as_saved().get("runtime")
    return config if isinstance(config, dict) else {}


def _mirror(run: RunDir, mode: str, settings: Mapping[str, Any]) -> None:
    """Have the client write what is missing, from the records."""
    if not isinstance(run.config_as_saved().get("runtime"), dict):
        raise Failed(f"{run.config_path}: cannot be read")
    project, entity = settings.get("wandb_project", "vocl"), settings.get("wandb_entity")
    checkpoints = bool(settings.get("tracking_checkpoints"))
    said = _run(mirror.command(run, mode, project, entity, checkpoints), WRITE_S)
    if said.returncode:
        raise Failed(_reason(said.stdout) or f"the mirror ended with {said.returncode}")


def _upload(path: Path, place: Mapping[str, Any]) -> None:
    """Upload one folder by the client's own command, which marks it as synced."""
    options = [f"--{key.removeprefix('wandb_')}={value}" for key, value in place.items() if value]
    marks = list(path.glob("*.wandb.synced"))  # of an upload to another place
    for mark in marks:
        mark.unlink()
    said = _run([*CLIENT, str(path.absolute()), *options], UPLOAD_S)
    if not sent.is_synced(path):  # its exit code is 0 also without an account
        for mark in marks:
            mark.touch()
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
    """The first line that speaks of an error, not of where to read about it, else the last."""
    lines = [line.strip().removeprefix("wandb: ") for line in said.decode(errors="replace").splitlines()]
    lines = [line for line in lines if line and "error logs at" not in line]
    return next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "")[:300]
