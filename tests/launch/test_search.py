"""`vocl search`: trials are ordinary runs, begun, scored at rungs and let go on, whatever interrupts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_slurm import FakeSlurm

import launch.submission.local
from launch.cli import main
from launch.commands import search
from launch.search import declared
from launch.search.records import SearchRecords, Trial
from launch.search.standing import Standing, promoted
from launch.slurm import ledger
from vocl.rundir import claims
from vocl.rundir.causes import Cause
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import RunDir

pytest.importorskip("optuna")
SEARCH = """
title: Rate
base: {train.steps: 9}
space:
  optim.lr: {low: 1.0e-4, high: 1.0e-2, log: true}
metric: video_fg_ari
direction: maximize
split: dev
seeds: [0]
trials: 6
at_once: 2
rungs: [1, 3]
reduction_factor: 3
sampler: {_target_: optuna.samplers.RandomSampler}
sampler_seed: 1
"""
# stands in for `python -m vocl.train --config`: its score is the rate, times the steps
TRAINER = """
import json, re, sys
from pathlib import Path
folder = Path(sys.argv[1]).parent
text = Path(sys.argv[1]).read_text()
rate, stop = float(re.search(r"^  lr: (.*)", text, re.M)[1]), re.search(r"^  stop_at: (\\d+)", text, re.M)
step = int(stop[1]) if stop else 9
with open(folder / "steps", "a") as steps:
    print(step, file=steps)
entry = {"eval_id": f"{step:010d}", "protocol": "vocl", "num_videos": 2, "rows": "x"}
entry["metrics"] = {"video_fg_ari": rate * step}
report = entry | {"eval": {"split": re.search(r"split: (.*)", text)[1]}, "checkpoint": "x"}
(folder / "eval" / entry["eval_id"]).mkdir(parents=True, exist_ok=True)
(folder / "eval" / entry["eval_id"] / "report.json").write_text(json.dumps(report))
(folder / "rungs").mkdir(exist_ok=True)
evals = {"discovery": entry}
if stop:
    rung = {"step": step, "evals": evals, "failed": {}}
    (folder / "rungs" / f"{step:09d}.json").write_text(json.dumps(rung))
    sys.exit(75)
result = {"run_id": folder.name, "metrics": entry["metrics"], "evals": evals}
(folder / "result.json").write_text(json.dumps(result))
"""


@pytest.fixture
def words(declare: Callable[..., str], tmp_path: Path) -> list[str]:
    project = declare()
    path = tmp_path / "project" / "conf" / "search" / "rate.yaml"
    path.parent.mkdir()
    path.write_text(SEARCH)
    return ["rate", project, f"runtime.root={tmp_path}/results"]


@pytest.fixture
def records(words: list[str], tmp_path: Path) -> SearchRecords:
    return SearchRecords(ResultsRoot(tmp_path / "results"), "rate")


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    script = tmp_path / "trainer.py"
    script.write_text(TRAINER)
    monkeypatch.setattr(launch.submission.local, "TRAIN", (sys.executable, "-S", str(script)))
    return script


def steps_of(records: SearchRecords) -> dict[int, list[int]]:
    """Up to which steps the run of each trial was trained, in turn."""
    found = {}
    for trial in records.trials():
        (run,) = trial.run_ids.values()
        path = records.root.run(run).path / "steps"
        found[trial.number] = [int(line) for line in path.read_text().split()] if path.exists() else []
    return found


# ------------------------------------------------------------------------------------------ who goes on


def standing(number: int, rung: int, *values: float, failure: str = "") -> Standing:
    trial = Trial(number, {}, [], {"0": f"run{number}"}, rung)
    return Standing(trial, dict(enumerate(values)), failure, [])


def search_of(words: list[str], **changes: Any) -> declared.Search:
    found = declared.read("rate", words[1].partition("=")[2])
    return declared.Search(**{**vars(found), **changes})


def next_of(search: declared.Search, *found: Standing) -> int | None:
    each = promoted(search, 3, found)
    return each.trial.number if each else None


def test_one_in_three_goes_on_as_soon_as_it_is_known(words: list[str]) -> None:
    search = search_of(words, trials=9)
    a, b, c = standing(1, 0, 0.1), standing(2, 0, 0.3), standing(3, 0, 0.2)
    assert next_of(search, a, b) is None  # others come yet
    assert next_of(search, a, b, c) == 2
    assert next_of(search, a, standing(2, 1, 0.3), c) is None
    assert next_of(search, a, standing(2, 1, 0.3), c, *(standing(n, 0, 0.25) for n in (4, 5, 6))) == 4
    assert next_of(search_of(words, trials=9, direction="minimize"), a, b, c) == 1


def test_a_higher_rung_goes_first_and_what_failed_does_not_count(words: list[str]) -> None:
    search = search_of(words, trials=20)
    high = [standing(n, 1, 0.1 * n, 0.1 * n) for n in (1, 2, 3)]
    low = [standing(n, 0, 0.01 * n) for n in range(4, 16)]
    assert next_of(search, *high, *low) == 3
    dead = standing(3, 1, 0.3, 0.3, failure="broke")
    assert next_of(search, *high[:2], dead, *low) == 15


def test_at_the_end_one_of_each_rung_goes_on(words: list[str]) -> None:
    search = search_of(words, trials=2)
    assert next_of(search, standing(1, 0, 0.1), standing(2, 0, 0.3)) == 2
    assert next_of(search, standing(1, 0, 0.1), standing(2, 1, 0.3)) is None  # it is on its way
    assert next_of(search, standing(1, 0, 0.1), standing(2, 1, 0.3, 0.4)) == 2
    assert next_of(search, standing(1, 0, 0.1), standing(2, 2, 0.3, 0.4, 0.5)) is None


# ------------------------------------------------------------------------------------- on this machine


def test_trials_are_scored_at_rungs_and_the_best_are_trained_to_the_end(
    words: list[str], records: SearchRecords, trainer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", *words, "cluster=local"]) == 0
    steps, trials = steps_of(records), {trial.number: trial for trial in records.trials()}
    assert len(steps) == 6 and all(each[0] == 1 for each in steps.values())
    best = max(trials.values(), key=lambda trial: trial.params["optim.lr"])
    assert steps[best.number] == [1, 3, 9]
    assert sum(len(each) > 1 for each in steps.values()) in (2, 3)
    said = capsys.readouterr().out
    assert f"best: trial {best.number}, video_fg_ari" in said and "on dev after 9 steps" in said
    assert f"train.steps=9 project={trainer.parent}/project optim.lr={best.params['optim.lr']}" in said
    before = [path.stat().st_mtime_ns for path in sorted(records.root.path.rglob("steps"))]
    assert main(["search", "rate", words[2]]) == 0  # by its name: nothing is left to do
    assert main(["search", "rate", words[2], "--table"]) == 0
    assert [path.stat().st_mtime_ns for path in sorted(records.root.path.rglob("steps"))] == before
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.split()[1:2] == ["pruned"] for line in lines) == 6 - steps_count(steps, 9)
    assert main(["status", "search/rate", words[2]]) == 0
    assert best.run_ids["0"] in capsys.readouterr().out


def steps_count(steps: dict[int, list[int]], last: int) -> int:
    return sum(each[-1] == last for each in steps.values())


def test_more_trials_may_be_asked_for_and_nothing_else_may_change(
    words: list[str],
    records: SearchRecords,
    trainer: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "project" / "conf" / "search" / "rate.yaml"
    path.write_text(SEARCH.replace("trials: 6", "trials: 2"))
    assert main(["search", *words, "cluster=local"]) == 0
    path.write_text(SEARCH.replace("trials: 6", "trials: 3"))
    assert main(["search", *words, "cluster=local"]) == 0
    assert len(steps_of(records)) == 3
    path.write_text(SEARCH.replace("rungs: [1, 3]", "rungs: [2, 3]"))
    assert main(["search", *words, "cluster=local"]) == 2
    assert "rungs: not as the search began" in capsys.readouterr().err
    path.write_text(SEARCH)
    assert main(["search", *words, "cluster=local", "model.num_slots=3"]) == 2
    assert "model.num_slots=3: not as the search began" in capsys.readouterr().err


def test_after_a_kill_nothing_is_doubled_and_nothing_is_lost(
    words: list[str], records: SearchRecords, trainer: Path
) -> None:
    trainer.write_text(TRAINER.replace("step = int", "__import__('time').sleep(0.5)\nstep = int"))
    script = trainer.with_name("killed.py")
    command = ["search", *words, "cluster=local"]
    script.write_text(
        "import sys, launch.submission.local as local\nfrom launch.cli import main\n"
        f"local.TRAIN = (sys.executable, '-S', {str(trainer)!r})\nsys.exit(main({command!r}))\n"
    )
    for _ in range(2):
        process = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL)
        known, until = len(list(records.folder.glob("trials/*"))), time.monotonic() + 60
        while len(list(records.folder.glob("trials/*"))) == known and time.monotonic() < until:
            assert process.poll() is None
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert main(command) == 0
    steps = steps_of(records)
    assert len(steps) == 6
    assert all(each == sorted(each) and each[0] == 1 for each in steps.values())
    again = sum(len(each) - len(set(each)) for each in steps.values())
    assert again <= 4, (
        "two kills, two at once: a rung that was killed in its midst is trained again, no other"
    )
    assert steps_count(steps, 9) >= 1


def test_two_at_a_time_do_not_decide(
    words: list[str], records: SearchRecords, trainer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = (
        "import sys, pathlib\nfrom launch.search.records import SearchRecords\n"
        "from vocl.rundir.results_root import ResultsRoot\n"
        f"with SearchRecords(ResultsRoot(pathlib.Path({str(records.root)!r})), 'rate').held():\n"
        "    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None and other.stdin is not None
        assert other.stdout.readline() == b"held\n"
        assert main(["search", *words, "cluster=local"]) == 2
        other.stdin.close()
    assert f"worked on already, by process {other.pid}" in capsys.readouterr().err


def test_a_failed_trial_is_left_and_the_others_go_on(
    words: list[str], records: SearchRecords, trainer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = "print('it broke', file=sys.stderr)\n    sys.exit(1)\n"
    trainer.write_text(TRAINER.replace("step = int", f"if rate > 0.001:\n    {broken}step = int"))
    assert main(["search", *words, "cluster=local"]) == 1
    assert main(["search", "rate", words[2], "--table"]) == 0
    table = capsys.readouterr().out
    bad = [trial for trial in records.trials() if trial.params["optim.lr"] > 0.001]
    assert bad and f"{len(bad)} failed" in table and "it broke" in table


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("direction: maximize", "direction: up", "choose from maximize, minimize"),
        ("rungs: [1, 3]", "rungs: [3, 1]", "expected rising steps"),
        ("rungs: [1, 3]", "rungs: [1, 9]", "not before the end, train.steps=9"),
        ("low: 1.0e-4", "low: 1.0", "the lower first"),
        ("optuna.samplers.RandomSampler", "optuna.samplers.Random", "no sampler"),
        ("optuna.samplers.RandomSampler", "os.system", "expected a class of optuna.samplers"),
        ("RandomSampler}", "RandomSampler, n: 3}", "unexpected keyword argument 'n'"),
        ("metric: video_fg_ari", "metric: video_fg", "no evaluation gives 'video_fg'"),
        ("trials: 6", "trails: 6", "unknown key"),
        ("  optim.lr:", "  cluster.slots:", "not part of what a run trains on"),
        ("  optim.lr:", "  optim.rate:", "optim.rate"),
    ],
)
def test_mistakes_are_one_line(
    old: str, new: str, told: str, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "project" / "conf" / "search" / "rate.yaml"
    path.write_text(SEARCH.replace(old, new))
    assert main(["search", *words, "cluster=local"]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


# ------------------------------------------------------------------------------------------- on SLURM


def ends_its_slice(slurm: FakeSlurm, records: SearchRecords, run: RunDir, trainer: Path) -> None:
    """The job of a run begins, does what its config says, and leaves as the agent does."""
    claim = claims.newest(run)
    assert claim is not None and claim.end is None
    claims.began(claim, job="1_0")
    code = subprocess.run([sys.executable, "-S", str(trainer), str(run.config_path)]).returncode
    cause = None if code == 0 else Cause.STOPPED
    claims.over(claim, "done" if code == 0 else "stopped", cause, code=code)
    entry = ledger.read(records.root, claim.token)
    assert entry is not None and entry.job is not None
    slurm.ended(entry.name, entry.job, entry.index(run.id), "COMPLETED")


def test_on_slurm_a_call_is_a_pass_and_promotions_keep_their_code(
    words: list[str],
    records: SearchRecords,
    trainer: Path,
    slurm: FakeSlurm,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["search", *words, "cluster=slurm"]
    assert main(command) == 0
    first = records.root.run(records.trials()[0].run_ids["0"])
    assert "queued job" in capsys.readouterr().out
    assert main(["search", "rate", words[2]]) == 0  # both are queued, two at once: nothing more
    assert len(records.trials()) == 2 and len(claims.history(first)) == 1
    ends_its_slice(slurm, records, first, trainer)
    assert main(["search", "rate", words[2]]) == 0
    assert len(records.trials()) == 3 and len(claims.history(first)) == 1  # it waits, nobody queues it
    assert main(["tend", "search/rate", words[2]]) == 0
    assert len(claims.history(first)) == 1 and claims.newest(first).end["outcome"] == "stopped"
    said, until = "", time.monotonic() + 200
    while "going" in said or not said:
        assert time.monotonic() < until, said
        for trial in records.trials():
            run = records.root.run(trial.run_ids["0"])
            claim = claims.newest(run)
            if claim is not None and claim.end is None:
                ends_its_slice(slurm, records, run, trainer)
        assert main(["search", "rate", words[2]]) == 0
        said = capsys.readouterr().out
    steps = steps_of(records)
    assert len(steps) == 6 and steps_count(steps, 9) >= 1
    assert all(each == sorted(set(each)) for each in steps.values())
    assert "6 of 6 trials" in said


def test_a_job_of_one_core_calls_it_again_when_a_run_is_over(
    words: list[str], records: SearchRecords, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(records.root.path.parent)
    relative = ["rate", "project=project", "runtime.root=results", "cluster=slurm"]
    assert main(["search", *relative, "--arm"]) == 0
    (call,) = [c for c in slurm.calls if c[0] == "sbatch" and "--parsable" in c and c[-1].endswith(".sh")]
    assert any(word.startswith("--dependency=afterany:") and "?afterany:" in word for word in call)
    script = Path(call[-1]).read_text()
    assert f"-m launch.cli search rate runtime.root={records.root} --arm" in script
    begun = records.begun()
    assert begun is not None and f"project={records.root.path.parent}/project" in begun[0]
    assert main(["search", "rate", "runtime.root=results", "--arm"]) == 0  # it waits already
    assert len([c for c in slurm.calls if c[-1] == call[-1]]) == 1


def test_a_job_that_slurm_lost_is_queued_again_up_to_the_same_rung(
    words: list[str], records: SearchRecords, slurm: FakeSlurm
) -> None:
    assert main(["search", *words, "cluster=slurm"]) == 0
    run = records.root.run(records.trials()[0].run_ids["0"])
    claim = claims.newest(run)
    assert claim is not None
    claims.began(claim, job="100_0")
    (run.path / "events").mkdir()
    start = {"attempt": 1, "time": time.time(), "step": 0, "world": 1, "device": "cpu"}
    (run.path / "events" / "0001-start.json").write_text(json.dumps(start))
    (run.path / "checkpoints").mkdir()
    (run.path / "checkpoints" / f"{1:09d}-{'0' * 16}.pt").write_bytes(b"")
    job = next(job for job in slurm.jobs if job["name"] == f"vocl-{claim.token}")
    slurm.ended(job["name"], job["job"], job["index"], "PREEMPTED")
    assert main(["search", "rate", words[2]]) == 0
    newest = claims.newest(run)
    assert newest is not None and newest.number == 2 and newest.end is None
    assert run.config_as_saved()["runtime"]["stop_at"] == 1


def test_a_watch_outlasts_an_outage_and_a_neighbour(
    words: list[str],
    records: SearchRecords,
    slurm: FakeSlurm,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """SLURM that does not answer, a disk and another pass are waited for; a refusal for good is not."""
    met = iter(
        [
            search.Pass([], answered=False),
            OSError(5, "Input/output error"),
            search.SearchIsTaken("taken"),
            search.Pass([], True, True),
        ]
    )

    def once(progress: object) -> search.Pass:
        found = next(met)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(search, "_pass", once)
    monkeypatch.setattr(search, "WATCH_S", 0)
    assert main(["search", *words, "cluster=slurm", "--watch"]) == 1
    assert next(met, None) is None
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and all(line.endswith("tried again") for line in said)
