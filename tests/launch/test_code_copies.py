"""What a copy of the code holds, to whom, and what is said of the rest."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch.cli import main
from launch.submission import codebase, snapshot
from vocl.errors import UserError
from vocl.rundir import git
from vocl.rundir.provenance import code_digest
from vocl.rundir.results_root import ResultsRoot

MARK = "the-content-of-a-private-file"


@pytest.fixture(autouse=True)
def umask_022() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of a project, with what people keep beside their code."""
    folder = tmp_path / "project" / f"mine_{uuid.uuid4().hex}"
    (folder / "nn").mkdir(parents=True)
    (folder / "bigdata").mkdir()
    (folder / "__init__.py").touch()
    (folder / "nn" / "__init__.py").touch()
    (folder / "nn" / "model.py").write_text("WIDTH = 3\n")
    (folder / "classes.json").write_text('["cat"]')
    own = folder.parent / "conf" / "loss" / "own.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("weight: 1\n")
    for name in (".env", "id_rsa", "secrets.json", "server.pem", "credentials.yaml", "prod.env"):
        (folder / name).write_text(MARK)
        (folder / name).chmod(0o600)
    outside = tmp_path / "system_file"
    outside.write_text(MARK)
    (folder / "shadow.txt").symlink_to(outside)
    (folder / "elsewhere").symlink_to(tmp_path)
    with (folder / "bigdata" / "x.npy").open("wb") as file:
        file.truncate(30_000_000)
    return folder


def _git(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=me", "-c", "user.email=me@example.org")
    subprocess.run(["git", *who, "-C", str(folder), *words], check=True, capture_output=True)


def _own_files(folder: Path) -> set[str]:
    """Names of all that the copy of a project holds, with the package's own name left out."""
    base = folder / "project"
    names = (path.relative_to(base).as_posix() for path in base.rglob("*") if not path.is_dir())
    return {"/".join("mine" if part.startswith("mine_") else part for part in n.split("/")) for n in names}


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


SOURCE = {"mine/__init__.py", "mine/nn/__init__.py", "mine/nn/model.py", "conf/loss/own.yaml"}


def test_a_submission_keeps_the_source_and_says_what_it_leaves(tmp_path, package, slurm, capsys) -> None:
    root = tmp_path / "results"
    assert (
        main(["submit", "seed=0", f"project={package.parent}", f"runtime.root={root}", "cluster=slurm"]) == 0
    )
    (taken,) = (root / "snapshots").iterdir()
    assert _own_files(taken) == SOURCE
    for path in root.rglob("*"):
        assert not path.is_file() or MARK.encode() not in path.read_bytes(), path
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert MARK not in line
    for name, why in (
        (".env", "hidden"),
        ("id_rsa", "named like a secret"),
        ("secrets.json", "named like a secret"),
        ("shadow.txt", "a link"),
        ("elsewhere", "a link"),
        ("bigdata/x.npy", "neither source nor tracked by git"),
    ):
        assert f"{package.name}/{name} ({why})" in line


def test_what_git_tracks_is_kept_unless_it_is_private_or_large(tmp_path, package, capsys) -> None:
    project = package.parent
    with (package / "large.npz").open("wb") as file:
        file.truncate(2_000_000)
    (package / "later.json").write_text("[]")
    _git(project, "init", "-q")
    for name in ("classes.json", "large.npz", "server.pem", ".env", "shadow.txt", "nn/model.py"):
        _git(project, "add", "-f", str(package / name))
    taken = snapshot.take(ResultsRoot(tmp_path / "results"), str(project))
    assert _own_files(taken) == SOURCE | {"mine/classes.json"}
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    for name, why in (("large.npz", "more than 1 MB"), ("later.json", "neither source nor tracked by git")):
        assert f"{package.name}/{name} ({why})" in error
    named = codebase.collect(str(project)).left_out
    assert {it.name.rpartition("/")[2] for it in named} >= {"server.pem", ".env", "shadow.txt", "x.npy"}


def test_a_copy_is_nobody_s_who_may_not_read_the_original(tmp_path, package) -> None:
    (package / "nn" / "model.py").chmod(0o600)
    (package / "tool.py").write_text("#!/usr/bin/env python\n")
    (package / "tool.py").chmod(0o755)
    (package / "closed").mkdir(mode=0o700)
    (package / "closed" / "__init__.py").touch(mode=0o644)
    taken = snapshot.take(ResultsRoot(tmp_path / "results"), str(package.parent))
    copy = taken / "project" / package.name
    assert _mode(copy / "nn" / "model.py") == 0o400
    assert _mode(copy / "tool.py") == 0o555
    assert _mode(copy / "__init__.py") == 0o444
    assert (_mode(copy / "closed"), _mode(copy / "nn")) == (0o700, 0o755)
    (package / "__init__.py").chmod(0o600)
    again = snapshot.take(ResultsRoot(tmp_path / "results"), str(package.parent))
    assert again != taken and _mode(again / "project" / package.name / "__init__.py") == 0o400


def test_nobody_reads_a_private_file_while_it_is_copied(tmp_path, package, monkeypatch) -> None:
    (package / "nn" / "model.py").chmod(0o600)
    seen: list[int] = []
    fchmod = os.fchmod

    def spy(handle: int, mode: int) -> None:
        seen.append(stat.S_IMODE(os.fstat(handle).st_mode))
        fchmod(handle, mode)

    monkeypatch.setattr(os, "fchmod", spy)
    snapshot.take(ResultsRoot(tmp_path / "results"), str(package.parent))
    assert len(seen) > 100 and set(seen) == {0o600}


@pytest.mark.parametrize("kind", ["module", "package", "inner package", "large", "all"])
def test_a_copy_that_python_would_miss_something_in_is_refused(tmp_path, package, kind) -> None:
    project, outside = package.parent, tmp_path / "outside"
    outside.mkdir()
    (outside / "__init__.py").touch()
    culprit = package / "helpers.py"
    if kind == "module":
        culprit.symlink_to(outside / "__init__.py")
    elif kind == "package":
        culprit = project / "linked"
        culprit.symlink_to(outside)
    elif kind == "inner package":
        culprit = package / "linked"
        culprit.symlink_to(outside)
    for number in range({"large": 1, "all": 25}.get(kind, 0)):
        with (package / (f"part{number}.yaml" if kind == "all" else "helpers.py")).open("wb") as file:
            file.truncate(1_000_000 if kind == "all" else 1_000_001)
    with pytest.raises(UserError) as error:
        snapshot.take(ResultsRoot(tmp_path / "results"), str(project))
    said = str(error.value)
    assert "more than 20 MB" in said and "part" in said if kind == "all" else said.startswith(f"{culprit}: ")
    assert not (tmp_path / "results").exists()


def test_the_copy_has_the_digest_of_what_it_is_a_copy_of(tmp_path, package) -> None:
    (package / "secrets.py").write_text(f"KEY = '{MARK}'\n")
    (package / ".checkpoints").mkdir()
    (package / ".checkpoints" / "model.py").touch()
    (package / "nn" / "__pycache__").mkdir()
    (package / "nn" / "__pycache__" / "model.py").touch()
    taken = snapshot.take(ResultsRoot(tmp_path / "results"), str(package.parent))
    code = f"from vocl.rundir.provenance import code_digest; print(code_digest({str(taken / 'project')!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(taken), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == code_digest(str(package.parent))
    assert not (taken / "project" / package.name / "secrets.py").exists()


def test_the_digest_follows_the_modules_and_no_private_file(tmp_path, package) -> None:
    digest = code_digest.__wrapped__
    before = digest(str(package.parent))
    (package / ".hidden.py").touch()
    (package / "secrets.py").touch()
    assert digest(str(package.parent)) == before
    (tmp_path / "shared.py").write_text("A = 1\n")
    (package / "linked.py").symlink_to(tmp_path / "shared.py")
    linked = digest(str(package.parent))
    (tmp_path / "shared.py").write_text("A = 2\n")
    assert len({before, linked, digest(str(package.parent))}) == 3


def test_all_source_of_the_checkout_is_in_the_copy() -> None:
    code = codebase.collect(None)
    places = [snapshot.REPOSITORY / part for part in ("vocl", "launch", "conf", "hydra_plugins")]
    found = [path for place in places for end in ("*.py", "*.yaml") for path in place.rglob(end)]
    shipped = {
        path.relative_to(snapshot.REPOSITORY).as_posix() for path in found if path.parent.name != "cluster"
    }
    assert shipped | set(codebase.SHIPPED) | {"pyproject.toml"} <= set(code.files)


def test_a_cluster_file_that_spells_a_secret_is_left_out(tmp_path, package, capsys) -> None:
    folder = package.parent / "conf" / "cluster"
    folder.mkdir()
    (folder / "good.yaml").write_text("defaults: [slurm]\nsetup: ['export WANDB_API_KEY=$(cat ~/key)']\n")
    (folder / "bad.yaml").write_text(f"defaults: [slurm]\nsetup:\n  - export WANDB_API_KEY={MARK}-0\n")
    taken = snapshot.take(ResultsRoot(tmp_path / "results"), str(package.parent))
    assert {name for name in _own_files(taken) if "cluster" in name} == {"conf/cluster/good.yaml"}
    error = capsys.readouterr().err
    assert "conf/cluster/bad.yaml (holds a secret)" in error and MARK not in error


def test_a_copy_of_a_copy_is_the_same(tmp_path, package) -> None:
    project = package.parent
    _git(project, "init", "-q")
    _git(project, "add", str(package / "classes.json"))
    taken = snapshot.take(ResultsRoot(tmp_path / "results"), str(project))
    code, again = codebase.collect(str(project)), codebase.collect_copy(taken)
    assert {name: file.content for name, file in code.files.items()} == {
        name: file.content for name, file in again.files.items()
    }
    assert again.lines() == []


# -------------------------------------------------------------------------------------------- git


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file to another user")
def test_a_checkout_of_another_user_is_told_of(tmp_path, package, monkeypatch, capsys) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    project = package.parent
    _git(project, "init", "-q")
    _git(project, "add", str(package / "classes.json"))
    for path in (project, *project.rglob("*")):
        os.chown(path, 54321, 54321, follow_symlinks=False)
    try:
        git.tracked(project)
    except git.GitError:
        pass
    else:
        pytest.skip("this machine's git trusts every owner")
    taken = snapshot.take(ResultsRoot(tmp_path / "results"), str(project))
    assert _own_files(taken) == SOURCE
    assert f"note: {project}: git does not answer: fatal: " in capsys.readouterr().err


def test_git_starts_no_program_of_the_repository_and_looks_nowhere_else(
    tmp_path, package, monkeypatch
) -> None:
    project = package.parent
    _git(project, "init", "-q")
    _git(project, "add", str(package / "classes.json"))
    _git(project, "commit", "-q", "-m", "first")
    (package / "classes.json").write_text("[]")
    trap, sprung = tmp_path / "trap", tmp_path / "sprung"
    trap.write_text(f"#!/bin/sh\ntouch {sprung}\n")
    trap.chmod(0o755)
    for key in ("core.fsmonitor", "diff.external", "diff.json.textconv"):
        _git(project, "config", key, str(trap))
    (project / ".gitattributes").write_text("*.json diff=json\n")
    (project / ".git" / "hooks" / "post-index-change").write_bytes(trap.read_bytes())
    (project / ".git" / "hooks" / "post-index-change").chmod(0o755)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", str(trap))
    name = f"{package.name}/classes.json"
    assert git.tracked(project) == {name}
    assert git.changed(project, package.name) == [name]
    assert "+[]" in git.diff(project, name)
    assert not sprung.exists()
