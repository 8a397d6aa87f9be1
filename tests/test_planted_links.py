"""In a results folder that several people write to, no link of a colleague's leads a write elsewhere."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from launch.agent import Agent
from launch.cli import main
from launch.node.pool import Job, Pool
from launch.node.progress import make_board
from vocl.data.features.store import Store
from vocl.errors import UserError
from vocl.evaluate import names
from vocl.files import TEMPORARY, make_folder, open_plain, share, write_json
from vocl.rundir import claims
from vocl.rundir.lock import hold
from vocl.rundir.run_dir import RunDir
from vocl.tracking.track import Track

SECRET = "my thesis\n"


def in_agent(run: Path) -> None:
    claims.make(RunDir(run), None, "token", "slurm")
    Agent(str(run.parent.parent), "token")._start(RunDir(run), 0, 1, 0)


def in_pool(run: Path) -> None:
    claim = claims.make(RunDir(run), None, "token", "local")
    Pool(1, {}, make_board(1))._start(Job("x", "x", ("true",), RunDir(run), 1, claim))


def in_track(run: Path) -> None:
    track = Track(RunDir(run), 5, progress=False)
    track.step(0, norm=1.0, clip=None)
    track.log(0, {"loss": 1.0})


def in_lock(run: Path) -> None:
    with hold(RunDir(run)):
        pass


def in_evaluation(run: Path) -> None:
    with names._alone(RunDir(run)):
        pass


WRITERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "lock": ("lock", in_lock),
    "lock of evaluations": ("lock", in_evaluation),
    "log of a job": ("log.txt", in_agent),
    "log of a pool": ("log.txt", in_pool),
    "reports": ("metrics.jsonl", in_track),
}


@pytest.fixture
def thesis(tmp_path: Path) -> Path:
    file = tmp_path / "thesis.tex"
    file.write_text(SECRET)
    file.chmod(0o600)
    return file


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "shared" / "runs" / "aaaaaaaaaa"
    folder.mkdir(parents=True)
    folder.chmod(0o2770)
    return folder


@pytest.mark.parametrize("kind", ["link", "hard link"])
@pytest.mark.parametrize("writer", WRITERS)
def test_nothing_is_appended_through_a_link(thesis: Path, run: Path, writer: str, kind: str) -> None:
    name, write = WRITERS[writer]
    if kind == "link":
        (run / name).symlink_to(thesis)
    else:
        os.link(thesis, run / name)
    with pytest.raises((UserError, OSError), match="is a link") as told:
        write(run)
    assert name in str(told.value)
    assert thesis.read_text() == SECRET and stat.S_IMODE(thesis.stat().st_mode) == 0o600


def test_a_pipe_in_the_place_of_a_log_stops_nobody(run: Path) -> None:
    os.mkfifo(run / "lock")
    with pytest.raises(UserError, match="lock: cannot be written"):
        in_lock(run)


@pytest.mark.slow
def test_a_training_refuses_a_planted_lock_in_one_line(thesis: Path, tmp_path: Path) -> None:
    arguments = ["debug=tiny", f"runtime.root={tmp_path}/r"]
    command = [sys.executable, "-m", "vocl.train", *arguments]
    from vocl.config.compose import composed

    folder = tmp_path / "r" / "runs" / composed(arguments).run_id
    folder.mkdir(parents=True)
    (folder / "lock").symlink_to(thesis)
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert f"{folder}/lock: cannot be written (runtime.root): is a link" in done.stderr
    assert thesis.read_text() == SECRET


def test_what_replaces_a_file_meanwhile_keeps_its_permissions(thesis: Path, run: Path) -> None:
    (run / "new").symlink_to(thesis)
    with pytest.raises(OSError, match="symbolic"):
        share(run / "new")
    assert stat.S_IMODE(thesis.stat().st_mode) == 0o600


def test_a_folder_that_is_a_colleagues_link_is_not_entered(run: Path, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "home").mkdir()
    (run / "jobs").symlink_to(tmp_path / "home")
    make_folder(run / "jobs")  # of this user's own: a disk of runs may well be elsewhere
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    os.lchown(run / "jobs", 54322, -1) if os.getuid() == 0 else None
    with pytest.raises(OSError, match="link of another user's"):
        write_json(run / "jobs" / "0001.json", {})
    (run.parent / "bbbbbbbbbb").symlink_to(tmp_path / "home")
    os.lchown(run.parent / "bbbbbbbbbb", 54322, -1) if os.getuid() == 0 else None
    with pytest.raises(OSError, match="link of another user's"):
        claims.make(RunDir(run.parent / "bbbbbbbbbb"), None, "token", "slurm")
    with pytest.raises(UserError, match="link of another user's"):
        in_lock(run.parent / "bbbbbbbbbb")
    assert not list((tmp_path / "home").iterdir())


def test_appended_files_are_the_groups_where_the_folder_is(run: Path) -> None:
    before = os.umask(0o077)
    try:
        open_plain(run / "log.txt").close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((run / "log.txt").stat().st_mode) == 0o660


def test_a_claim_that_cannot_be_written_is_told_in_one_line(run: Path, monkeypatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"jobs/0001\.json: cannot be written .*No space left"):
        in_lock(run)
    assert not list((run / "jobs").iterdir())


def test_a_record_that_cannot_be_written_names_its_file(run: Path, monkeypatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as told:
        write_json(run / "heartbeat.json", json.loads("{}"))
    assert told.value.filename == str(run / "heartbeat.json") and not list(run.iterdir())


@pytest.mark.parametrize("whose", ["a colleague's", "this user's"])
@pytest.mark.parametrize("name", ["snapshots", "ledger", "tables"])
def test_gc_removes_nothing_that_a_link_leads_to(tmp_path, run, monkeypatch, capsys, name, whose) -> None:
    (tmp_path / "home" / "thesis").mkdir(parents=True)
    draft = tmp_path / "home" / f"{TEMPORARY}draft"
    draft.touch()
    root = run.parent.parent
    (root / name).symlink_to(tmp_path / "home")
    for path in (draft, tmp_path / "home" / "thesis", tmp_path / "home"):
        os.utime(path, (0, 0))
    if whose == "a colleague's":
        monkeypatch.setattr(os, "geteuid", lambda: 54321)
        os.lchown(root / name, 54322, -1) if os.getuid() == 0 else None
    assert main(["gc", "--yes", f"runtime.root={root}"]) == (2 if whose == "a colleague's" else 0)
    assert (tmp_path / "home" / "thesis").is_dir()
    if whose == "a colleague's":
        assert draft.exists()
        assert f"{root / name}: is a link of another user's" in capsys.readouterr().err


def test_what_a_link_leads_to_is_not_put_on_record_as_what_a_run_said(thesis, run, capsys) -> None:
    """A colleague may swap a log while its run is going on; all who see the folder read how it ended."""
    swap = f"rm {run}/log.txt; ln -s {thesis} {run}/log.txt; exit 1"
    claim = claims.make(RunDir(run), None, "token", "local")
    Pool(1, {}, make_board(1)).run([Job("x", "x", ("sh", "-c", swap), RunDir(run), 1, claim)])
    end = claims.newest(RunDir(run)).end
    assert (end["outcome"], end["line"]) == ("failed", "no output")
    assert main(["logs", run.name, f"runtime.root={run.parent.parent}"]) == 2
    told = capsys.readouterr()
    assert SECRET not in told.out and "log.txt: is a link, which is not followed" in told.err


def in_claim(root: Path) -> None:
    claims.make(RunDir(root / "runs" / "aaaaaaaaaa"), None, "token", "slurm")


def in_training(root: Path) -> None:
    with hold(RunDir(root / "runs" / "aaaaaaaaaa")):
        pass


def in_submit(root: Path) -> None:
    assert main(["submit", "demo", "cluster=local", f"runtime.root={root}"]) == 2


def in_table(root: Path) -> None:
    assert main(["table", "demo", f"runtime.root={root}"]) == 2


def in_features(root: Path) -> None:
    Store(root / "features" / "digest").write("video", iter(()), 0)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("runs", in_claim),
        ("runs", in_training),
        ("by-name", in_submit),
        ("tables", in_table),
        ("features", in_features),
    ],
)
def test_a_part_of_a_results_folder_that_is_a_colleagues_link_is_not_entered(
    tmp_path, monkeypatch, capsys, name: str, write: Callable[[Path], None]
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / name).symlink_to(tmp_path / "home")
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    os.lchown(tmp_path / "r" / name, 54322, -1) if os.getuid() == 0 else None
    try:
        write(tmp_path / "r")
    except (OSError, UserError) as error:
        told = str(error)
    else:
        told = capsys.readouterr().err
    assert "link of another user's" in told
    assert not list((tmp_path / "home").iterdir())
