from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from launch.node.pool import Job, Pool
from launch.node.progress import PoolBars, PoolProgress, steps_done
from vocl.rundir import claims
from vocl.rundir.run_dir import RunDir

WAIT = """import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
open('up', 'w')
time.sleep(30)"""
WORK = """import time
open('began', 'w').write(str(time.time()))
time.sleep(.4)
open('ended', 'w').write(str(time.time()))"""


def job(folder: Path, code: str) -> Job:
    folder.mkdir(parents=True, exist_ok=True)
    return Job(
        folder.name,
        f"job {folder.name}",
        (sys.executable, "-S", "-c", f"import os; os.chdir({str(folder)!r})\n{code}"),
        RunDir(folder),
        5,
        claims.make(RunDir(folder), None, "token", "local"),
    )


def test_a_failing_child_does_not_stop_the_others(tmp_path: Path) -> None:
    jobs = [
        job(tmp_path / "bad", "import sys; print('it broke', file=sys.stderr); sys.exit(1)"),
        job(tmp_path / "good", "print('fine')"),
        job(tmp_path / "user", "import sys; sys.exit(2)"),
        job(tmp_path / "late", "print('fine too')"),
    ]
    outcomes = {o.job.id: o for o in Pool(1, {}, PoolProgress(4)).run(jobs)}
    assert {name: (o.code, o.state) for name, o in outcomes.items()} == {
        "bad": (1, "failed"),
        "good": (0, "done"),
        "user": (2, "failed"),
        "late": (0, "done"),
    }
    assert outcomes["bad"].last_line == "it broke"
    assert (tmp_path / "good" / "log.txt").read_text() == "fine\n"


def test_a_log_is_added_to_and_the_last_line_is_of_this_attempt(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "log.txt").write_text("of an earlier attempt\n")
    (outcome,) = Pool(1, {}, PoolProgress(1)).run([job(tmp_path / "a", "import sys; sys.exit(1)")])
    assert outcome.last_line == "no output"
    assert (tmp_path / "a" / "log.txt").read_text().startswith("of an earlier attempt")


def test_no_more_than_the_slots_at_a_time(tmp_path: Path) -> None:
    jobs = [job(tmp_path / str(i), WORK) for i in range(4)]
    Pool(2, {}, PoolProgress(4)).run(jobs)
    began, ended = ([float((j.run.path / n).read_text()) for j in jobs] for n in ("began", "ended"))
    at_once = [sum(b <= t < e for b, e in zip(began, ended, strict=True)) for t in began]
    assert max(at_once) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_all_and_starts_no_more(number: int, tmp_path: Path) -> None:
    jobs = [job(tmp_path / name, WAIT) for name in ("a", "b", "never")]

    def interrupt() -> None:
        while not all((tmp_path / name / "up").exists() for name in ("a", "b")):
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    threading.Thread(target=interrupt, daemon=True).start()
    pool = Pool(2, {}, PoolProgress(3))
    outcomes = pool.run(jobs)
    assert pool.stopped
    assert [(o.job.id, o.code, o.state) for o in outcomes] == [("a", 75, "stopped"), ("b", 75, "stopped")]
    assert not (tmp_path / "never" / "log.txt").exists()
    assert signal.getsignal(number) == before


def test_a_second_ctrl_c_kills_a_child_that_does_not_listen(tmp_path: Path) -> None:
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open('up', 'w'); time.sleep(30)"
    )

    def interrupt() -> None:
        while not (tmp_path / "a" / "up").exists():
            time.sleep(0.02)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)

    threading.Thread(target=interrupt, daemon=True).start()
    (outcome,) = Pool(1, {}, PoolProgress(1)).run([job(tmp_path / "a", deaf)])
    assert (outcome.code, outcome.state) == (-signal.SIGKILL, "stopped")


@pytest.mark.slow
def test_a_terminals_ctrl_c_reaches_children_once(tmp_path: Path) -> None:
    """The whole process group gets SIGINT, as from a terminal: children must not see it."""
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).resolve().parents[2])!r})
from pathlib import Path
from vocl.rundir import claims
from vocl.rundir.run_dir import RunDir
from launch.node.pool import Job, Pool
from launch.node.progress import PoolProgress
code = '''import os, signal, sys, time
os.chdir({str(tmp_path)!r})
seen = []
signal.signal(signal.SIGINT, lambda n, f: seen.append(n))
signal.signal(signal.SIGTERM, lambda n, f: (seen.append(n), print(seen), sys.exit(75)))
open("up", "w")
time.sleep(30)'''
pool = Pool(1, {{}}, PoolProgress(1))
run = RunDir(Path({str(tmp_path)!r}))
claim = claims.make(run, None, "token", "local")
pool.run([Job("a", "a", (sys.executable, "-S", "-c", code), run, 1, claim)])
"""
    parent = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    for _ in range(500):
        if (tmp_path / "up").exists():
            break
        time.sleep(0.02)
    os.killpg(parent.pid, signal.SIGINT)
    parent.wait(10)
    assert (tmp_path / "log.txt").read_text() == f"[{signal.SIGTERM!r}]\n".replace(
        "<Signals.SIGTERM: 15>", "15"
    )


def test_steps_come_from_the_log_or_the_heartbeat(tmp_path: Path) -> None:
    assert steps_done(RunDir(tmp_path)) == 0
    beat = {"attempt": 1, "step": 20, "steps": 100, "time": 0, "pid": 1, "host": "x"}
    (tmp_path / "heartbeat.json").write_text(json.dumps(beat))
    assert steps_done(RunDir(tmp_path)) == 20
    (tmp_path / "metrics.jsonl").write_text('{"step": 49, "loss": 1}\n{"step": 99')
    assert steps_done(RunDir(tmp_path)) == 50


def test_bars_follow_runs(tmp_path: Path) -> None:
    with PoolBars(2) as board:
        board.started("a", "row, seed 0", 100)
        (tmp_path / "metrics.jsonl").write_text('{"step": 49}\n')
        board.update("a", RunDir(tmp_path))
        assert board.progress.tasks[1].completed == 50
        board.ended("a", "failed", 3.0)
    assert board.summary().startswith("0 of 2 done, 1 failed")
