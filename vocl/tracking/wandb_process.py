"""Shows one run's records on W&B: python -m vocl.tracking.wandb_process FOLDER MODE PROJECT ENTITY TRAINING

A run of vocl is one run of W&B for ever: the same id through all attempts. W&B is a view: this reads
`metrics.jsonl` and never writes it. Which rows a finished folder of the client holds stands in
`<run>/wandb/sealed.json`. An attempt goes on after the last sealed row (offline) or after the last
row that the server has (online), so no step appears twice. An offline folder that was not sealed,
because its writer was killed or wrote rows that a resume may cut back, is dropped and written again.

It ends when the process TRAINING says so or is gone. With 0 it shows what there is, seals it and ends.
Imports no torch.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import select
import shutil
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NoReturn, cast

from vocl.config import schema
from vocl.config.safe_yaml import read_saved
from vocl.config.wandb_names import fitting
from vocl.files import Kinds, holds, json_or_none, make_folder, open_plain, write_json
from vocl.rundir.of_config import cell_of
from vocl.rundir.result import Result
from vocl.rundir.results_root import root_of
from vocl.rundir.run_dir import RunDir
from vocl.stop import ignore_signals
from vocl.tracking.wandb_mirror import END_MESSAGE, command, environment, wait_for_second

Mode = Literal["offline", "online"]
SEALED: Kinds = {"step": int, "evals": (list, NoneType), "scores": (str, NoneType)}
POLL_S = 1.0
LOCK_S = 45.0  # how long to wait for the mirror of an attempt that was killed to end
LAST_S = 30.0  # how long this process may outlive the training's
# Nothing about the machine, its environment or the checkout leaves through the client.
ALWAYS: dict[str, Any] = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "save_code": False,
    "host": "",
    "program": "",
    "silent": True,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_executable": "",
    "x_save_requirements": False,
    "init_timeout": 20.0,
    "finish_timeout": LAST_S,
}


def main(arguments: list[str]) -> int:
    """The process; returns 0, or 1 after saying in one line what is wrong."""
    # Meant for the training, but SLURM sends them to all. The client's own process leaves at SIGTERM
    # nevertheless; then nothing is sealed, and the next attempt writes the rows again.
    ignore_signals()
    voice = os.dup(1)  # the client prints; only our lines may come out
    os.dup2(2, 1)
    folder, mode, project, entity, training = arguments
    try:
        Shown(RunDir(Path(folder)), project, entity or None, voice).follow(cast(Mode, mode), int(training))
        return 0
    except BaseException as error:
        _say(voice, error)
        return 1


class Shown:
    """The run `run` as W&B shows it."""

    def __init__(self, run: RunDir, project: str, entity: str | None, voice: int) -> None:
        self.run, self.project, self.entity, self.voice = run, project, entity, voice
        self.place = run.wandb
        self.offset, self.last, self.is_complete = 0, -1, False

    def follow(self, mode: Mode, training: int) -> None:
        """Show the run until the process `training` has ended; 0: as it is now."""
        if training:
            threading.Thread(target=_die_after, args=(training,), daemon=True).start()
        make_folder(self.place)
        with open_plain(self.place / "lock") as lock:
            _take(lock)
            self._drop_unsealed("offline-run-*")
            run = self._open(mode, training)
            while training and not self._ended(POLL_S) and os.getppid() == training:
                self._log(run)
            if self.is_complete or not training:  # of one that was killed the last rows may not hold
                self._log(run)
            self._finish(run, mode, seal=not training)

    # ------------------------------------------------------------------------------ opening it

    def _open(self, mode: Mode, training: int) -> Any:
        """Open the run with W&B, for a training offline where the server cannot be reached."""
        before = set(self.place.glob("run-*"))
        try:
            run = self._init(mode)
        except Exception as error:
            if mode != "online" or not training:
                raise
            _say(self.voice, error, "kept offline: ")
            for path in set(self.place.glob("run-*")) - before:
                shutil.rmtree(path, ignore_errors=True)  # no row is in it
            self._start_again("offline", training)
        self.last = run.step - 1 if mode == "online" else last_sealed(self.run)
        return run

    def _start_again(self, mode: str, training: int) -> NoReturn:
        """As a fresh program in this process: a client that has failed to open a run holds its id."""
        os.dup2(self.voice, 1)
        again = command(self.run, mode, self.project, self.entity, training)
        os.execve(again[0], again, environment())

    def _init(self, mode: Mode) -> Any:
        import wandb

        wait_for_second()
        settings = {key: value for key, value in ALWAYS.items() if key in wandb.Settings.model_fields}
        config = read_saved(self.run.config_path)
        run = wandb.init(
            mode=mode,
            dir=str(self.run),
            id=self.run.id,
            resume="allow",
            project=self.project,
            entity=self.entity,
            group=cell_of(config),
            name=self._name(config),
            config=shown(config) | self._code(),
            allow_val_change=True,
            settings=wandb.Settings(**settings),
        )
        run.define_metric("step")
        run.define_metric("*", step_metric="step")
        return run

    def _name(self, config: schema.Config) -> str:
        """ablation/row/column/seed as `vocl submit` has linked it, else model, data and seed."""
        root = root_of(self.run).by_name
        for link in sorted(root.rglob("s*")):  # the name of an ablation may have slashes
            if link.is_symlink() and Path(os.readlink(link)).name == self.run.id:
                return fitting(link.relative_to(root).as_posix())
        model = config["model"]["_target_"].rpartition(".")[2]
        return fitting(f"{model} {config['dataset']['name']} s{config['seed']}")

    def _code(self) -> dict[str, Any]:
        """Versions of the newest attempt."""
        start: dict[str, Any] = next(reversed(self.run.starts()), {})
        return {"version": {key: start.get(key) for key in ("code", "commit", "libraries", "device")}}

    # ------------------------------------------------------------------------------ following it

    def _ended(self, seconds: float) -> bool:
        """Whether, within some seconds, the training says that it ends, or vanishes."""
        if not select.select([0], [], [], seconds)[0]:
            return False
        said = os.read(0, len(END_MESSAGE))
        self.is_complete = said == END_MESSAGE
        return True

    def _log(self, run: Any) -> None:
        """Show the lines that have come since."""
        path = self.run.metrics_path
        if not path.is_file():
            return
        with path.open("rb") as lines:
            lines.seek(self.offset)
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                self.offset += len(line)
                row = json.loads(line)
                if row["step"] > self.last:
                    run.log(row, step=row["step"], commit=True)
                    self.last = row["step"]

    # ------------------------------------------------------------------------------ closing it

    def _finish(self, run: Any, mode: str, seal: bool) -> None:
        """Close it, with scores if there are; seal it if asked or where its rows are sure to hold."""
        done = self.run.result_or_none()
        if done:
            run.summary.update(scores(done))
        outcome = self._outcome()
        run.summary["outcome"] = outcome
        if outcome == "stopped":
            run.mark_preempting()
        name = Path(run.dir).parent.name
        run.finish(exit_code=0 if done else 1)
        if seal or (self.is_complete and self.last < (self.run.newest_step() or 0)):
            evals = list(done.evals) if done else None
            entry = {"step": self.last, "evals": evals, "scores": digest(done) if done else None}
            write_json(self.place / "sealed.json", sealed(self.run) | {name: entry})
            if mode == "online":  # the server has all that is on disk
                self._drop_unsealed("run-*")
                for path in self.place.glob("offline-run-*/*.wandb"):
                    path.with_suffix(".wandb.synced").touch()

    def _outcome(self) -> str:
        ends = [p for p in self.run.events.glob("*.json") if not p.stem.endswith("start")]
        return max(ends).stem.split("-")[1] if ends else "killed"

    def _drop_unsealed(self, pattern: str) -> None:
        """What was never sealed is written again, from the records."""
        known = sealed(self.run)
        for path in self.place.glob(pattern):
            if path.name not in known and not any(path.glob("*.synced")):
                shutil.rmtree(path, ignore_errors=True)


def sealed(run: RunDir) -> dict[str, dict[str, Any]]:
    """Finished folders of the client for `run`: {name: {step of its last row, names of evals,
    digest of the scores}}.

    Where that is damaged none counts as finished: all of it is written again, from the records."""
    found = json_or_none(run.wandb / "sealed.json") or {}
    return found if all(holds(entry, SEALED) for entry in found.values()) else {}


def last_sealed(run: RunDir) -> int:
    """The last step that a finished folder of the client holds; -1 for none."""
    return max((entry["step"] for entry in sealed(run).values()), default=-1)


def shown(config: schema.Config) -> dict[str, Any]:
    """What identifies the run and how it is evaluated; places stay at home."""
    return {key: config.get(key) for key in (*schema.HASHED, "eval")}


def scores(result: Result) -> dict[str, Any]:
    """{<evaluation>/<metric>: score} of every evaluation, the names of those that failed, and what the run
    took."""
    named = {f"{n}/{k}": v for n, entry in result.evals.items() for k, v in entry["metrics"].items()}
    failed = {"failed_evaluations": ", ".join(result.failed)} if result.failed else {}
    return named | failed | {key: getattr(result, key) for key in ("attempts", "wall_s", "gpu_hours")}


def digest(result: Result) -> str:
    """Names a state of all the scores of a result, which `vocl eval` may change later."""
    content = [{name: entry["metrics"] for name, entry in result.evals.items()}, result.failed or None]
    text = json.dumps(content, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _take(lock: Any) -> None:
    until = time.monotonic() + LOCK_S
    while True:
        try:
            return fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise RuntimeError("another mirror of this run is at work") from None
            time.sleep(0.2)


def _die_after(training: int) -> None:
    """No client may keep this process for ever."""
    while os.getppid() == training:
        time.sleep(POLL_S)
    time.sleep(LAST_S)
    os._exit(1)


def _say(voice: int, error: BaseException, before: str = "") -> None:
    """Tell the training, if it is still there, in one line."""
    with suppress(OSError):
        text = " ".join(f"{before}{type(error).__name__}: {error}".split())
        os.write(voice, f"{text[:300]}\n".encode())


if __name__ == "__main__":
    code = main(sys.argv[1:])
    os._exit(code)  # the client's exit hooks may wait for the network
