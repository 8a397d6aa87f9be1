"""Tiny runs on the test cluster: submitted, watched, disturbed, and compared with undisturbed twins."""

from __future__ import annotations

import itertools
import json
import os
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from cluster import WAIT_S, TestCluster
from running import TINY, child, final, same

from launch import cli
from launch.run_states.states import RunState, look
from launch.selection.plan import Spec, select
from launch.slurm import ledger
from vocl import run
from vocl.rundir import claims
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import RunDir

# What a user's shell may hold for SLURM's commands, and vocl's own calls must not see.
SHELL = {
    **{"SQUEUE_PARTITION": "high", "SQUEUE_USERS": "nobody", "SACCT_FORMAT": "JobID"},
    **{"SCANCEL_STATE": "RUNNING", "SBATCH_PARTITION": "high", "SLURM_CLUSTERS": "nowhere"},
}

# A package of a project: its loss and its evaluation say in a folder that they are reached and wait there
# for `go`, or until their run is asked to stop (unless `stay` lies there), so that a run is disturbed where
# it shall be, however busy the machine is; or they raise. Twins in this process do not wait.
PROBE = '''
import os, signal, time
from pathlib import Path
import torch
from torch import nn
from vocl.interface import Evaluation, Report

VALUE = 0.0

def hold(folder):
    if folder and "PROBE_TWIN" not in os.environ:
        (Path(folder) / "arrived").touch()
        while not (Path(folder) / "go").exists():
            flag = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
            if flag and not (Path(folder) / "stay").exists():
                return
            time.sleep(0.05)


class Probe(nn.Module):
    """A constant. On its third call, waits in `folder`; raises then on the ranks of `fails`."""

    needs = frozenset()

    def __init__(self, *, folder: str | None, fails: list[int]):
        super().__init__()
        self.folder, self.fails, self.calls = folder, fails, 0

    def forward(self, output, clip):
        self.calls += 1
        if self.calls == 3:
            hold(self.folder)
            if int(os.environ.get("RANK", "0")) in self.fails:
                raise ArithmeticError("the probe was asked to fail")
        return torch.full((), VALUE)


class Late(Evaluation):
    """Waits where nothing looks for a signal any more."""

    def __init__(self, *, split: str, folder: str):
        self.split, self.folder = split, folder

    def run(self, subject):
        hold(self.folder)
        return Report(protocol="none", rows=[], metrics={})
'''
LOSS = """# @package loss.probe
_target_: PACKAGE.Probe
weight: 1.0
level: null
folder: null
fails: []
"""
LATE = """# @package eval.late
_target_: PACKAGE.Late
dataset: null
split: validation
folder: /nowhere
"""
PROJECT = {
    "PACKAGE/__init__.py": PROBE,
    "conf/loss/probe.yaml": LOSS,
    "conf/eval/late.yaml": LATE,
}


class Sweeps:
    """One results folder, worked on by way of one cluster."""

    def __init__(self, cluster: TestCluster, folder: Path) -> None:
        self.cluster, self.folder, self.root = cluster, folder, folder / "results"
        self.project = folder / "project"
        self.package = f"probe_{uuid.uuid4().hex}"  # two of one name cannot be imported into one process
        for name, text in PROJECT.items():
            path = self.project / name.replace("PACKAGE", self.package)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("PACKAGE", self.package))
        self._twins: dict[str, dict[str, Any]] = {}

    # ------------------------------------------------------------------------------- submitting

    def words(self, *own: str, steps: int = 12) -> list[str]:
        """What `vocl submit` is given for runs of so many steps."""
        return [
            *TINY[1:],
            f"train.steps={steps}",
            f"project={self.project}",
            "loss=[feature_mse,slot_contrast,probe]",
            f"runtime.root='{self.root}'",
            *("cluster=slurm", "cluster.gpus=0", "cluster.cpus=1", "cluster.partition=low"),
            "cluster.time_min=20",
            *own,
        ]

    def gate(self, name: str) -> Path:
        """A folder in which a run can be held up: `arrived` appears in it, `go` lets it go on."""
        (self.folder / name).mkdir(mode=0o777)
        return self.folder / name

    def arrived(self, *gates: Path) -> None:
        """Wait until a run is held up in each of `gates`."""
        self.wait(lambda: all((gate / "arrived").exists() for gate in gates))

    def let_go(self, spec: Spec, gate: Path) -> None:
        """Once a run that was held up in `gate` has been stopped there: let its next attempt pass."""
        self.wait(lambda: "stopped" in self.ends(spec))
        (gate / "go").touch()

    def specs(self, words: Sequence[str]) -> list[Spec]:
        return select(words).runs

    def submit(self, words: Sequence[str]) -> int:
        """`vocl submit`, in this process."""
        with self.environment():
            return cli.main(["submit", *words])

    def submit_in_child(self, words: Sequence[str], prepare: Callable[[], Any] = lambda: None) -> int:
        """`vocl submit` in a forked process, after `prepare()`; returns its process id."""

        def function() -> int:
            os.environ.update(self.cluster.env | SHELL)
            prepare()
            return cli.main(["submit", *words])

        return child(function, log=self.folder / "child.txt")

    @contextmanager
    def environment(self, **more: str) -> Iterator[None]:
        """This process talks to the cluster."""
        with mock.patch.dict(os.environ, {**self.cluster.env, **SHELL, **more}):
            yield

    # --------------------------------------------------------------------------------- watching

    def look(self, specs: Iterable[Spec]) -> dict[str, RunState]:
        with self.environment():
            return look(ResultsRoot(self.root), [spec.id for spec in specs])[0]

    def state(self, spec: Spec) -> RunState:
        return self.look([spec])[spec.id]

    def run(self, spec: Spec) -> Path:
        """The folder of a run."""
        return self.root / "runs" / spec.id

    def wait(self, true: Callable[[], Any], seconds: float = WAIT_S) -> Any:
        return self.cluster.wait_until(true, seconds)

    def wait_for(self, specs: Sequence[Spec], *names: str) -> dict[str, RunState]:
        """Until the state of each of `specs` is among `names` (by default: done)."""
        names = names or ("done",)
        with self._telling(specs):
            self.wait(lambda: all(s.name in names for s in self.look(specs).values()))
        return self.look(specs)

    def settled(self, *specs: Spec) -> None:
        """Wait until the runs are done and their jobs have said so."""
        self.wait_for(specs)
        with self._telling(specs):
            self.wait(lambda: all(self.claims(spec)[-1].end for spec in specs))

    @contextmanager
    def _telling(self, specs: Sequence[Spec]) -> Iterator[None]:
        """An error within the block also tells what the runs and their jobs have said."""
        try:
            yield
        except Exception as error:
            found = {key: (s.name, s.reason) for key, s in self.look(specs).items()}
            logs = [path for spec in specs for path in sorted(self.run(spec).glob("log*.txt"))]
            logs += sorted((self.root / "ledger").glob("*/*_log.out"))
            tails = [f"{path}: {path.read_text()[-1500:]}" for path in logs]
            raise AssertionError("\n".join([f"{found}", *tails])) from error

    def claims(self, spec: Spec) -> list[claims.Claim]:
        return claims.history(RunDir(self.run(spec)))

    def starts(self, spec: Spec) -> list[dict[str, Any]]:
        return [json.loads(p.read_text()) for p in sorted((self.run(spec) / "events").glob("*-start.json"))]

    def ends(self, spec: Spec) -> list[str]:
        """How the attempts ended, in their order."""
        names = sorted(p.stem for p in (self.run(spec) / "events").glob("[0-9]*.json"))
        return [name.partition("-")[2] for name in names if not name.endswith("-start")]

    def event(self, spec: Spec, name: str) -> dict[str, Any]:
        return json.loads((self.run(spec) / "events" / f"{name}.json").read_text())

    def result(self, spec: Spec) -> dict[str, Any]:
        return json.loads((self.run(spec) / "result.json").read_text())

    def job(self, spec: Spec) -> str:
        """The element that the newest claim on the run is about, as SLURM's commands name it."""
        submission = ledger.read(ResultsRoot(self.root), self.claims(spec)[-1].token)
        assert submission is not None and submission.job is not None
        single = len(submission.elements) == 1
        return submission.job if single else f"{submission.job}_{submission.index(spec.id)}"

    def now(self, spec: Spec) -> None:
        """Let a job begin that was submitted for later."""
        self.cluster.run("scontrol", "update", f"JobId={self.job(spec)}", "StartTime=now", check=True)

    def sacct(self, job: str, count: int = 1) -> list[tuple[str, str]]:
        """(state, exit code) of the executions of an element, once `count` of them are over."""
        rows = self.wait(lambda: self.cluster.ended(job, count))
        return [(row["State"].split()[0], row["ExitCode"]) for row in rows]

    # --------------------------------------------------------------------------------- the truth

    def twin(self, spec: Spec) -> dict[str, Any]:
        """The final state of the same run that nothing disturbed, trained in this process alone."""
        if spec.id not in self._twins:
            runtime = replace(spec.config.runtime, root=str(self.folder / "twins"), workers=0)
            config = replace(spec.config, runtime=runtime)
            with mock.patch.dict(os.environ, {"PROBE_TWIN": "1"}):
                assert run.run(config) == 0
            self._twins[spec.id] = final(config)
        return self._twins[spec.id]

    def assert_whole(self, *specs: Spec) -> None:
        """Each run is done, once, and its weights are those of its twin, bit for bit."""
        for spec in specs:
            assert self.ends(spec)[-1] == "done" and self.ends(spec).count("done") == 1
            same(final(spec.config), self.twin(spec))
            self.assert_never_twice(spec)

    def assert_never_twice(self, spec: Spec) -> None:
        """No attempt began before the one before it had ended, and none was left out."""
        starts = self.starts(spec)
        assert [start["attempt"] for start in starts] == list(range(1, len(starts) + 1))
        for earlier, later in itertools.pairwise(starts):
            events = (self.run(spec) / "events").glob(f"{earlier['attempt']:04d}-*.json")
            ends = [path for path in events if not path.stem.endswith("-start")]
            assert ends and all(json.loads(e.read_text())["time"] <= later["time"] for e in ends), spec.id


@contextmanager
def shared_folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike those of pytest."""
    with tempfile.TemporaryDirectory(prefix="sweeps-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)
