"""What is made in a folder that a group shares is the group's too, whatever the umask."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from vocl.errors import UserError
from vocl.files import make_folder, write_text
from vocl.rundir.new_folder import new_folder

GROUP = 54321  # a number that needs no account
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to any group")


@pytest.fixture(params=[0o022, 0o027, 0o077])
def umask(request) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    folder = tmp_path / "shared"
    folder.mkdir()
    os.chown(folder, -1, GROUP)
    folder.chmod(0o2770)
    return folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@as_root
def test_a_whole_folder_keeps_group_and_mode(shared: Path, umask: int) -> None:
    with new_folder(shared / "above" / "out", "OUT") as folder:
        make_folder(folder / "inner")
        write_text(folder / "inner" / "file.txt", "x")
    made = [shared / "above", shared / "above" / "out", shared / "above" / "out" / "inner"]
    assert [mode(path) & 0o2770 for path in made] == [0o2770] * 3
    file = made[-1] / "file.txt"
    assert mode(file) & 0o660 == 0o660
    assert {path.stat().st_gid for path in (*made, file)} == {GROUP}


def test_a_whole_folder_of_ones_own_has_the_mode_of_the_umask(tmp_path: Path, umask: int) -> None:
    with new_folder(tmp_path / "out", "OUT") as folder:
        write_text(folder / "file.txt", "x")
    assert mode(tmp_path / "out") == 0o777 & ~umask
    assert mode(tmp_path / "out" / "file.txt") == 0o666 & ~umask


def test_a_folder_that_is_not_finished_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write there"), new_folder(tmp_path / "out", "OUT"):
        raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())
