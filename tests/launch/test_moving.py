"""gc, export and pull."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from run_records import cluster

from launch.cli import main
from launch.commands.sharing import pull
from launch.selection.plan import select
from launch.slurm import ledger
from launch.slurm.ledger import By
from vocl.config.run_config import values
from vocl.files import TEMPORARY
from vocl.rundir import claims
from vocl.rundir.checkpoint import Checkpoints
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import RunDir


@pytest.fixture
def make_run():
    """A run under a results folder: nothing but its config, unless it is done."""

    def make(root: Path, seed: int, done: bool = True, step: int = 6) -> Path:
        spec = select([f"seed={seed}", f"runtime.root={root}", "debug=tiny"]).specs[0]
        folder = root / "runs" / spec.id
        (folder / "checkpoints").mkdir(parents=True)
        content = f"weights {seed} {step}".encode()
        digest = hashlib.blake2b(content, digest_size=8).hexdigest()
        (folder / "checkpoints" / f"{step:09d}-{digest}.pt").write_bytes(content)
        config = spec.config.content | {"cluster": values(cluster("slurm", account="my_lab"))}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        if done:
            rows = folder / "eval" / "abc" / "rows.json"
            rows.parent.mkdir(parents=True)
            rows.write_text("[]")
            entry = {"eval_id": "abc", "protocol": "vocl", "num_videos": 2, "rows": "eval/abc/rows.json"}
            entry |= {"metrics": {"video_mbo": 0.5, "image_mbo": None}}
            result = {
                "run_id": spec.id,
                "metrics": entry["metrics"],
                "steps": step,
                "wall_s": 3.0,
                "device": "cpu",
                "code": "abc",
            }
            (folder / "result.json").write_text(json.dumps(result | {"evals": {"discovery": entry}}))
        return folder

    return make


def _old(path: Path) -> Path:
    before = time.time() - 7200
    os.utime(path, (before, before), follow_symlinks=False)
    return path


def _names(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_gc_lists_first_and_removes_what_nothing_needs(tmp_path, make_run, capsys) -> None:
    root = tmp_path / "r"
    folder = make_run(root, 0)
    (root / "weights").mkdir()
    (root / "by-name" / "t").mkdir(parents=True)
    waste = [root / "snapshots" / "0123456789abcdef", root / "ledger" / "aabbccddee"]
    for place in waste:
        (place / "inner").mkdir(parents=True)
    waste += [root / "weights" / "frozen-00.safetensors", folder / f"{TEMPORARY}x.json"]
    for place in waste[2:]:
        place.write_text("x" * 1000)
    (root / "by-name" / "t" / "s0").symlink_to("../../runs/gone")
    (root / "by-name" / "t" / "s1").symlink_to(f"../../runs/{folder.name}")
    (root / "weights" / "frozen-11.safetensors").touch()
    (folder / "checkpoints" / "frozen-11.safetensors").touch()
    waste.append(root / "by-name" / "t" / "s0")
    place = f"runtime.root={root}"
    assert main(["gc", place]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("0.0 MB")  # all of it is recent
    for path in root.rglob("*"):
        _old(path)
    before = _names(root)
    assert main(["gc", place]) == 0
    listed = {line.partition(":")[0] for line in capsys.readouterr().out.splitlines()[:-1]}
    assert listed == {str(path.relative_to(root)) for path in waste}
    assert _names(root) == before
    assert main(["gc", "--yes", place]) == 0
    gone = listed | {str(path.relative_to(root) / "inner") for path in waste[:2]}
    assert _names(root) == before - gone
    assert main(["gc", "everything", place]) == 2


def test_gc_leaves_what_submitted_runs_need(sweep, capsys) -> None:
    it = sweep()
    entry = it.entry(it.ids[0])
    for path in it.root.rglob("*"):
        _old(path)
    assert main(["gc", "--yes", f"runtime.root={it.root}"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "0.0 MB removed"
    it.lost(it.ids[0], "PREEMPTED")
    for run in it.ids[1:]:
        it.done(run)
    main(["tend", "duo", f"runtime.root={it.root}"])
    again = it.entry(it.ids[0])
    for path in it.root.rglob("*"):
        _old(path)
    main(["gc", "--yes", f"runtime.root={it.root}"])
    assert again.folder.is_dir() and not entry.folder.is_dir()
    assert (it.root / "snapshots" / str(entry.snapshot)).is_dir()
    assert (it.root / "ledger" / f"{entry.token}.json").is_file()
    it.done(it.ids[0])
    for path in it.root.rglob("*"):
        _old(path)
    main(["gc", "--yes", f"runtime.root={it.root}"])
    assert not (it.root / "snapshots" / str(entry.snapshot)).is_dir()
    assert all((it.folder(run) / "result.json").is_file() for run in it.ids)


def test_export_stands_alone_and_tells_nothing_of_this_machine(tmp_path, make_run, capsys) -> None:
    folder = make_run(tmp_path / "r", 3)
    out = tmp_path / "out"
    place = f"runtime.root={tmp_path}/r"
    assert main(["export", folder.name[:6], str(out), place]) == 0
    card = (out / "README.md").read_text()
    assert "| video_mbo | 0.5000 |" in card and folder.name in card and "seed 3" in card
    assert "the run was trained with abc, which is not kept" in card
    assert (out / "code" / "vocl" / "loading.py").is_file() and (out / "LICENSE").is_file()
    assert [p.name for p in (out / "checkpoints").iterdir()] == [
        p.name for p in (folder / "checkpoints").iterdir()
    ]
    texts = (out / "config.yaml").read_text() + card
    assert str(tmp_path) not in texts and "my_lab" not in texts
    assert main(["export", folder.name, str(out), place]) == 2
    assert "exists already" in capsys.readouterr().err


def test_the_card_names_the_submission_that_asked_for_the_run(tmp_path, make_run) -> None:
    root = tmp_path / "r"
    folder, before = make_run(root, 3), None
    asked = [["duo"], ["duo", f"runtime.root={root}", "seed=3"], [folder.name[:6]]]
    for arguments, by in zip(asked, (By.TEND, By.USER, By.USER), strict=True):
        entry = ledger.write(ResultsRoot(root), cluster("slurm"), [[folder.name]], None, arguments, by=by)
        before = claims.make(RunDir(folder), before, entry.token, "slurm")
    assert main(["export", folder.name, f"{tmp_path}/out", f"runtime.root={root}"]) == 0
    assert "Trained by `vocl submit duo seed=3`." in (tmp_path / "out" / "README.md").read_text()


def test_export_refuses_a_damaged_checkpoint_and_leaves_nothing(tmp_path, make_run, capsys) -> None:
    folder = make_run(tmp_path / "r", 0)
    next((folder / "checkpoints").iterdir()).write_bytes(b"torn")
    assert main(["export", folder.name, f"{tmp_path}/out", f"runtime.root={tmp_path}/r"]) == 2
    assert "has no valid checkpoint" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"r"}


@pytest.mark.parametrize("content", [b"a: [", b"a: \xff\xfe\n", b"- 1\n", b"project: null\n"])
def test_export_of_a_run_with_a_damaged_config(tmp_path, make_run, capsys, content: bytes) -> None:
    root = tmp_path / "r"
    folder = make_run(root, 0)
    (folder / "config.yaml").write_bytes(content)
    assert main(["export", folder.name, f"{tmp_path}/out", f"runtime.root={root}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"{folder}" in error and "config.yaml" in error
    assert {path.name for path in tmp_path.iterdir()} == {"r"}


@pytest.mark.parametrize("content", ["", "[]", "{}"])
def test_pull_of_a_run_with_a_damaged_heartbeat_or_claim(tmp_path, make_run, capsys, content: str) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    silent, lost = make_run(there, 0, done=False), make_run(there, 1, done=False)
    (silent / "heartbeat.json").write_text(content)
    claims.make(RunDir(lost), None, "abc", "slurm")
    (lost / "jobs" / "0001.json").write_text(content)
    assert main(["pull", str(there), f"runtime.root={here}"]) == 0
    out = capsys.readouterr().out
    assert f"not pulled: {lost.name}: unfinished, and nobody knows who has it" in out and "1 pulled" in out


def test_export_of_an_unfinished_run(tmp_path, make_run, capsys) -> None:
    folder = make_run(tmp_path / "r", 0, done=False)
    assert main(["export", folder.name, f"{tmp_path}/out", f"runtime.root={tmp_path}/r"]) == 2
    assert "has not finished" in capsys.readouterr().err


@pytest.mark.slow
def test_an_exported_run_loads(tmp_path) -> None:
    arguments = ["debug=tiny", f"runtime.root={tmp_path}/r"]
    subprocess.run([sys.executable, "-m", "vocl.train", *arguments], check=True, timeout=120)
    (run,) = (tmp_path / "r" / "runs").iterdir()
    assert main(["export", run.name, f"{tmp_path}/out", f"runtime.root={tmp_path}/r"]) == 0
    (tmp_path / "r").rename(tmp_path / "elsewhere")
    from vocl.loading import load

    assert load(f"{tmp_path}/out").checkpoint.step == 6
    code = f"import sys; sys.path.insert(0, '{tmp_path}/out/code'); import vocl.loading; print(vocl.__path__)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert "out/code" in shown.stdout


def test_pull_takes_plain_files_alone_and_goes_on_after_a_run_that_has_others(
    tmp_path, make_run, monkeypatch, capsys
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    piped, linked, closed = (make_run(there, seed) for seed in range(3))
    os.mkfifo(piped / "pipe")
    (linked / "config.yaml").rename(tmp_path / "mine.yaml")
    (linked / "config.yaml").symlink_to(tmp_path / "mine.yaml")
    (closed / "events").mkdir()
    listed = os.scandir

    def refusing(path: str = ".") -> object:
        if not isinstance(path, int) and os.fspath(path) == str(
            closed / "events"
        ):  # as another user's, whom root cannot be
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert main(["pull", str(there), f"runtime.root={here}"]) == 0
    out = capsys.readouterr().out
    assert f"not pulled: {linked.name}: its config.yaml is no plain file" in out
    assert f"not pulled: {closed.name}: cannot be read: " in out and "1 pulled" in out
    assert [path.name for path in (here / "runs").iterdir()] == [piped.name]
    assert not (here / "runs" / piped.name / "pipe").exists()


def test_pull_merges_by_run_id(tmp_path, make_run, capsys) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    both, beaten = make_run(here, 0), make_run(here, 1, done=False)
    unfinished = make_run(here, 2, done=False, step=3)
    for seed, done in ((0, True), (1, True), (2, False), (3, True), (4, False)):
        make_run(there, seed, done=done)
    (both / "mine").touch()
    assert main(["pull", str(there), f"runtime.root={here}"]) == 0
    out = capsys.readouterr().out
    assert f"not pulled: {unfinished.name}: unfinished there, and interrupted here" in out
    assert f"{there}: 1 done here already, 1 not pulled, 3 pulled" in out
    assert (both / "mine").exists()
    assert (beaten / "result.json").is_file()
    assert not (unfinished / "result.json").exists()
    assert {p.name for p in (here / "runs").iterdir()} == {p.name for p in (there / "runs").iterdir()}
    assert not list(here.glob(f"{TEMPORARY}*"))
    saved = yaml.safe_load((beaten / "config.yaml").read_text())
    assert saved["runtime"]["root"] == str(here)
    assert main(["pull", str(there), f"runtime.root={here}"]) == 0
    assert "3 done here already, 2 not pulled" in capsys.readouterr().out


def test_pull_leaves_what_is_or_may_be_worked_on(tmp_path, make_run, capsys) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    beating, queued = make_run(there, 0, done=False), make_run(there, 1, done=False)
    beat = {"attempt": 1, "step": 1, "steps": 6, "pid": 1, "host": "else"}
    (beating / "heartbeat.json").write_text(json.dumps(beat | {"time": time.time()}))
    claims.make(RunDir(queued), None, "abc", "slurm")
    assert main(["pull", str(there), f"runtime.root={here}"]) == 0
    out = capsys.readouterr().out
    assert f"{beating.name}: is running there" in out
    assert f"{queued.name}: unfinished, and its job there has not said that it is over" in out
    assert not list((here / "runs").iterdir())


def test_pull_takes_no_damaged_or_renamed_run_and_no_links(tmp_path, make_run, capsys) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    torn, renamed, linked = (make_run(there, seed) for seed in range(3))
    next((torn / "checkpoints").iterdir()).write_bytes(b"torn")
    renamed.rename(renamed.with_name("0123456789"))
    (linked / "passwd").symlink_to("/etc/passwd")
    assert main(["pull", str(there), f"runtime.root={here}"]) == 0
    out = capsys.readouterr().out
    assert f"{torn.name}: incomplete" in out
    assert "0123456789: its config.yaml describes another run" in out
    assert [path.name for path in (here / "runs").iterdir()] == [linked.name]
    assert not (here / "runs" / linked.name / "passwd").exists()


def test_pull_takes_a_finished_run_once_its_weights_are_whole(tmp_path, make_run, capsys) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    without, damaged = (make_run(there, seed) for seed in range(2))
    kept = [(path, path.read_bytes()) for path in (without / "checkpoints").iterdir()]
    shutil.rmtree(without / "checkpoints")
    Checkpoints(damaged / "checkpoints").save_frozen({"weight": torch.ones(2)}, there / "weights")
    (path,) = (damaged / "checkpoints").glob("frozen-*")
    kept.append((path, path.read_bytes()))
    path.unlink()  # it is linked from the folder of all runs
    path.write_bytes(b"torn")
    assert main(["pull", str(there), f"runtime.root={here}"]) == 0
    out = capsys.readouterr().out
    assert f"not pulled: {without.name}: incomplete: no checkpoint" in out
    assert f"not pulled: {damaged.name}: incomplete: {path.name} is damaged" in out
    assert f"{there}: 2 not pulled" in out and not list((here / "runs").iterdir())
    for path, content in kept:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    assert main(["pull", str(there), f"runtime.root={here}"]) == 0
    assert f"{there}: 2 pulled" in capsys.readouterr().out


@pytest.mark.parametrize("tool", ["rsync", "scp"])
def test_pull_from_another_machine(tmp_path, make_run, monkeypatch, tool, capsys) -> None:
    """The tools are made up: they copy what lies on this machine and note their arguments."""
    here, there = tmp_path / "here", tmp_path / "there"
    make_run(here, 0), make_run(there, 0), make_run(there, 1)
    shim = tmp_path / "bin" / tool
    shim.parent.mkdir()
    shim.write_text(
        f"#!{sys.executable} -S\nimport sys, shutil\n"
        f"open({str(tmp_path / 'calls')!r}, 'a').write(repr(sys.argv[1:]))\n"
        "assert sys.argv[-3] == '--'\n"
        "shutil.copytree(sys.argv[-2].partition(':')[2], sys.argv[-1])\n"
    )
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(shim.parent))
    assert main(["pull", f"me@far:{there}", f"runtime.root={here}"]) == 0
    assert f"me@far:{there}: 1 done here already, 1 pulled" in capsys.readouterr().out
    shim.write_text(f"#!{sys.executable} -S\nimport sys\nsys.exit('no route to host')\n")
    assert main(["pull", f"me@far:{there}", f"runtime.root={here}"]) == 2
    error = capsys.readouterr().err
    assert "no route to host" in error and error.count("\n") == 1


def test_pull_of_nonsense(tmp_path, capsys) -> None:
    for word in (str(tmp_path), "--delete", "-oProxyCommand=x:y"):
        assert main(["pull", word, f"runtime.root={tmp_path}/r"]) == 2
    assert capsys.readouterr().err.count("\n") == 3
    assert pull.REMOTE.fullmatch("-oProxyCommand=x:y") is None
