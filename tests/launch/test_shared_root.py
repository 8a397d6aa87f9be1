"""Two Unix users in one results folder: umask 027, a setgid folder of their common group."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from run_records import cluster

from launch.slurm import ledger
from vocl.files import write_json
from vocl.rundir import claims
from vocl.rundir.lock import hold
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import RunDir

GROUP, USERS = 54321, (54322, 54323)  # numbers that need no account
RUNS = [f"{number:010x}" for number in range(40)]

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can act as two users")


@pytest.fixture
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # pytest's own may only be entered by its user
        os.chmod(folder, 0o755)
        shared = Path(folder) / "shared"
        shared.mkdir()
        os.chown(shared, USERS[0], GROUP)
        shared.chmod(0o2770)
        yield shared


def as_user(user: int, work: Callable[[], int]) -> int:
    """Id of a child process that does `work` as `user`; it ends with what that returns."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.umask(0o027)
        os.setgroups([GROUP])
        os.setgid(user)
        os.setuid(user)
        code = work()
    except BaseException as error:
        print(repr(error))
        code = 255
    os._exit(code)


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_each_run_is_claimed_by_one_of_them(root: Path, monkeypatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: str(os.getuid()))

    def claim() -> int:
        entry = ledger.write(ResultsRoot(root), cluster("slurm"), [[run] for run in RUNS], None, [])
        won = [claims.make(RunDir(root / "runs" / run), None, entry.token, "slurm") for run in RUNS]
        return sum(one is not None for one in won)

    assert sum(map(ended, [as_user(user, claim) for user in USERS])) == len(RUNS)
    assert {claims.newest(RunDir(root / "runs" / run)).number for run in RUNS} == {1}
    assert not list((root / "runs").rglob(".tmp-*"))


def test_one_goes_on_where_the_other_stopped(root: Path, monkeypatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: str(os.getuid()))
    run = root / "runs" / RUNS[0]

    def work() -> int:
        with hold(RunDir(run)) as outcome:
            write_json(run / "heartbeat.json", {"user": os.getuid()})
            with (run / "metrics.jsonl").open("a") if (run / "metrics.jsonl").exists() else open(os.devnull):
                outcome.append("stopped")
        return 0

    for number, user in enumerate(USERS, start=1):
        assert ended(as_user(user, work)) == 0
        assert claims.newest(RunDir(run)).number == number
    assert (run / "heartbeat.json").stat().st_uid == USERS[1]
    mode = stat.S_IMODE(run.stat().st_mode)
    assert mode == 0o2770 and run.stat().st_gid == GROUP
