"""What is asked of SLURM reaches it as it was meant, or is refused before anything is written."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from acting import Sweep, tend_duo
from fake_slurm import FakeSlurm

from launch.cli import main
from launch.commands.submit import submit_one
from launch.selection.plan import select
from vocl.config.compose import composed
from vocl.errors import UserError
from vocl.rundir import claims
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import RunDir

SLURM = ("cluster=slurm", "cluster.gpus=0")


def script(it: Sweep, run: str) -> list[str]:
    (path,) = it.entry(run).folder.glob("*submission.sh")
    return path.read_text().splitlines()


def fails(it: Sweep, run: str) -> None:
    it.starts(run)
    it.ends(run, "FAILED")
    claims.over(claims.newest(RunDir(it.folder(run))), "failed", code=1, line="ValueError: no")


# ------------------------------------------------------------------------------------------ limits


@pytest.mark.parametrize("own", [("cluster.time_min=2",), ("cluster.time_min=1", "cluster.signal_s=60")])
def test_a_warning_as_long_as_the_job_is_refused(tmp_path: Path, capsys, own) -> None:
    for verb in ("plan", "submit"):
        assert main([verb, f"runtime.root={tmp_path}/r", *SLURM, *own]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "cluster.signal_s=" in error and "cluster.time_min=" in error
    with pytest.raises(UserError, match=r"cluster\.signal_s"):
        submit_one(composed([f"runtime.root={tmp_path}/r", *SLURM, *own]))
    assert not (tmp_path / "r").exists()


def test_a_warning_within_the_job_is_taken_and_others_have_no_limit(tmp_path: Path) -> None:
    root = f"runtime.root={tmp_path}/r"
    assert select([root, *SLURM, "cluster.time_min=2", "cluster.signal_s=119"]).runs
    assert select([root, "cluster=local"]).runs


def test_a_retry_is_held_to_the_limit_too(sweep, capsys) -> None:
    it = sweep()
    fails(it, it.ids[0])
    assert main(["retry", it.ids[0], f"runtime.root={it.root}", "cluster.time_min=1"]) == 2
    assert "cluster.signal_s=120" in capsys.readouterr().err
    assert len(claims.history(RunDir(it.folder(it.ids[0])))) == 1


# ----------------------------------------------------------------------------------------- retries


@pytest.mark.parametrize("selector", ["id", "table"])
def test_what_a_retry_adds_is_honoured(sweep, selector: str) -> None:
    it = sweep("+cluster.sbatch.reservation=mine")
    run = it.ids[0]
    fails(it, run)
    chosen = run[:6] if selector == "id" else "duo"
    begin = "+cluster.sbatch.begin=2099-01-01"
    assert main(["retry", chosen, f"runtime.root={it.root}", begin]) == 0
    lines = script(it, run)
    assert "#SBATCH --begin=2099-01-01" in lines and "#SBATCH --reservation=mine" in lines


@pytest.mark.parametrize("selector", ["id", "table", "overrides"])
@pytest.mark.parametrize("sign", ["", "++"])
def test_what_a_retry_says_of_the_runtime_is_honoured(sweep, selector: str, sign: str) -> None:
    it = sweep()
    run = it.ids[0]
    fails(it, run)
    root = f"runtime.root={it.root}"
    chosen = {"id": [run[:6], root], "table": ["duo", root], "overrides": it.arguments}[selector]
    assert main(["retry", *chosen, f"{sign}runtime.workers=3"]) == 0
    assert "workers: 3" in (it.folder(run) / "config.yaml").read_text()


@pytest.mark.parametrize(
    "word", ["+cluster.no_such_key=1", "~cluster.sbatch", "++cluster.time_min=soon", "cluster.nodes=0"]
)
def test_what_a_retry_cannot_ask_for_is_refused(sweep, capsys, word: str) -> None:
    it = sweep()
    fails(it, it.ids[0])
    assert main(["retry", it.ids[0], f"runtime.root={it.root}", word]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "cluster." in error
    assert len(claims.history(RunDir(it.folder(it.ids[0])))) == 1


# ---------------------------------------------------------------------------------------- env_file


def test_a_relative_env_file_is_found_from_anywhere(sweep, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "here").mkdir()
    file = tmp_path / "here" / "my secrets.env"
    file.write_text("KEY=value\n")
    file.chmod(0o600)
    monkeypatch.chdir(tmp_path / "here")
    it = sweep("cluster.env_file='my secrets.env'")
    run = it.ids[0]
    assert it.entry(run).cluster.env_file == str(file)
    fails(it, run)
    monkeypatch.chdir(tmp_path)
    assert main(["retry", run, f"runtime.root={it.root}"]) == 0
    begin, *_, end = (i for i, line in enumerate(script(it, run)) if line in ("set -a", "set +a"))
    lines = [*script(it, run)[begin : end + 1], "echo trains with $KEY"]
    done = subprocess.run(["bash", "-c", "\n".join(lines)], cwd="/", capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "trains with value\n")
    file.unlink()
    done = subprocess.run(["bash", "-c", "\n".join(lines)], cwd="/", capture_output=True, text=True)
    assert done.returncode != 0 and f"cluster.env_file={file}: cannot be read" in done.stdout
    assert "trains" not in done.stdout


# ------------------------------------------------------------------------------------------- paths


@pytest.mark.parametrize("name", ["run%j_%x", "a\\=0", "x%A", "%5n", "100%%", "two\tlines"])
def test_a_folder_that_slurm_or_submitit_would_misread_is_refused(tmp_path: Path, capsys, name) -> None:
    quoted = name.replace("\\", "\\\\")
    assert main(["plan", f"runtime.root='{tmp_path}/{quoted}'", *SLURM]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "runtime.root=" in error
    assert select([f"runtime.root='{tmp_path}/{quoted}'"]).runs  # of a run of this process it is just a name


def test_other_signs_are_just_a_name(slurm: FakeSlurm, tmp_path: Path) -> None:
    root = tmp_path / "50%_jobs é$x" / "60% (2)%"
    assert main(["submit", f"runtime.root='{root}'", *SLURM, "seed=0,1"]) == 0
    assert len(list(root.glob("ledger/*/*_submitted.pkl"))) == 2
    assert [path.name for path in tmp_path.iterdir() if path.name != "slurm"] == ["50%_jobs é$x"]


@pytest.mark.parametrize("largest", [0, 1])
def test_a_slurm_without_arrays_gets_a_job_for_each_run(slurm: FakeSlurm, tmp_path: Path, largest) -> None:
    slurm.is_now(max_array_size=largest)
    assert main(["plan", f"runtime.root={tmp_path}/r", *SLURM, "seed=0,1,2"]) == 0
    assert main(["submit", f"runtime.root={tmp_path}/r", *SLURM, "seed=0,1,2"]) == 0
    assert len(slurm.jobs) == 3 and {job["index"] for job in slurm.jobs} == {0}
    scripts = (tmp_path / "r").glob("ledger/*/*submission.sh")
    assert not any("--array" in path.read_text() for path in scripts)


# ------------------------------------------------------------------------------------------- tend


@pytest.mark.parametrize("code", ["9:0", "0:9", "137:0", "15:0", "0:15"])
def test_a_run_whose_srun_was_killed_comes_back(sweep, code: str) -> None:
    it = sweep()
    run = it.ids[0]
    it.starts(run)
    it.saves(run, 850)
    entry = it.entry(run)
    it.slurm.ended(entry.name, str(entry.job), entry.index(run), "FAILED", code)
    assert it.state(run).name == "interrupted"
    assert tend_duo(it) == 0
    assert it.state(run).name == "queued"


def test_a_run_that_failed_by_itself_does_not(sweep) -> None:
    it = sweep()
    run = it.ids[0]
    it.starts(run)
    it.saves(run, 850)
    end = {"time": 1e12, "outcome": "failed", "kind": "ValueError", "message": "no", "wall_s": 1.0}
    (it.folder(run) / "events" / "0001-failed.json").write_text(json.dumps(end))
    entry = it.entry(run)
    it.slurm.ended(entry.name, str(entry.job), entry.index(run), "FAILED", "9:0")
    assert tend_duo(it) == 0
    assert it.state(run).name == "failed"


@pytest.mark.parametrize(
    ("refusal", "later"),
    [
        ("Batch job submission failed: QOSMaxWallDurationPerJobLimit", False),
        ("invalid partition specified: none", False),
        ("Unable to contact slurm controller (connect failure)", True),
    ],
)
def test_later_is_said_of_what_tend_will_do(slurm: FakeSlurm, sweep, capsys, refusal, later) -> None:
    slurm.fault("sbatch", refusal)
    sweep()
    error = capsys.readouterr().err
    assert "not queued" in error and ("later: vocl tend" in error) == later


# ------------------------------------------------------------------------------------------ tables


def test_a_table_of_any_place_keeps_its_links_under_the_root(tmp_path: Path, declare) -> None:
    declare("rows: {batch: {}}\nseeds: [0]\nmetrics: [video_mbo]", "any")
    path = next((tmp_path / "project").rglob("any.yaml")).with_suffix("")
    before = sorted(path.parent.iterdir())
    arguments = [f"ablation={path}", f"runtime.root={tmp_path}/r"]
    chosen = select([*arguments, "cluster=slurm"])
    from launch.commands.submit import link

    link(chosen, chosen.ablation, ResultsRoot(tmp_path / "r"))
    main(["table", *arguments])
    assert sorted(path.parent.iterdir()) == before
    assert sum(place.is_symlink() for place in (tmp_path / "r" / "by-name").rglob("*")) == 1
    assert len(list((tmp_path / "r" / "tables").rglob("table.md"))) == 1
    assert main(["status", f"ablation={path}", f"runtime.root={tmp_path}/r"]) == 0


def test_a_table_above_the_folder_of_tables_is_refused(tmp_path: Path, declare, capsys) -> None:
    project = declare("rows: {batch: {}}\nseeds: [0]\nmetrics: [video_mbo]", "../any")
    assert main(["plan", "ablation=../any", project, f"runtime.root={tmp_path}/r"]) == 2
    assert "'..'" in capsys.readouterr().err


# ----------------------------------------------------------------------------------------- the code


def test_a_checkout_that_git_will_not_speak_of_is_told(tmp_path: Path, monkeypatch, caplog) -> None:
    from vocl.rundir import provenance

    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(provenance, "REPOSITORY", tmp_path)
    assert provenance.commit() is None
    (error,) = caplog.messages
    assert f"{tmp_path}: git does not answer: " in error and "no commit" in error
    assert "\n" not in error


def test_the_submission_folder_is_nobody_elses(slurm: FakeSlurm, tmp_path: Path, monkeypatch) -> None:
    from launch.slurm import ledger

    there = tmp_path / "there"
    there.mkdir()
    real = ledger.write

    def planted(*arguments, **named):
        entry = real(*arguments, **named)
        os.symlink(there, entry.folder)
        return entry

    monkeypatch.setattr(ledger, "write", planted)
    assert main(["submit", f"runtime.root={tmp_path}/r", *SLURM]) == 2
    assert not slurm.jobs and not list(there.iterdir())
