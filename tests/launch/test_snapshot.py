"""The copy of the code that jobs import."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch.submission import snapshot
from vocl.rundir.results_root import ResultsRoot


@pytest.fixture
def umask_027() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def _modes(folder: Path) -> dict[bool, set[int]]:
    """Permissions in a snapshot: of its folders (True), of its files (False)."""
    found: dict[bool, set[int]] = {True: set(), False: set()}
    for path in (folder, *folder.rglob("*")):
        found[path.is_dir()].add(stat.S_IMODE(path.stat().st_mode))
    return found


@pytest.mark.parametrize(("root_mode", "folders"), [(0o750, 0o750), (0o2770, 0o2770)])
def test_a_snapshot_has_the_permissions_of_its_place(tmp_path, umask_027, root_mode, folders) -> None:
    root = tmp_path / "results"
    root.mkdir()
    root.chmod(root_mode)
    taken = snapshot.take(ResultsRoot(root), None)
    assert _modes(taken) == {True: {folders}, False: {0o440}}
    assert [path.name for path in (root / "snapshots").iterdir()] == [taken.name]


def test_a_snapshot_is_on_disk_before_it_has_its_name(tmp_path, monkeypatch) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino))
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        inodes = {path.stat().st_ino for path in (self, *self.rglob("*"))}
        assert len(inodes) > 100 and inodes <= set(synced)
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    taken = snapshot.take(ResultsRoot(tmp_path), None)
    assert synced[-1] == taken.parent.stat().st_ino


def test_a_snapshot_that_fails_leaves_nothing(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(snapshot, "commit", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        snapshot.take(ResultsRoot(tmp_path), None)
    assert not list((tmp_path / "snapshots").iterdir())
