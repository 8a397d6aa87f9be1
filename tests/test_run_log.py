"""What a run says of itself: what it is, then what befalls it, on stderr and in its log.txt."""

from __future__ import annotations

import io
import json
import os
import re
import signal

import pytest
from running import TINY, at_step, child, on_ranks, run_folder, send, tiny, told, wait

from launch.node.log_tail import last_line
from launch.run_states.states import look
from vocl import run, train
from vocl.data.feed import Feed
from vocl.errors import UserError
from vocl.rundir.lock import hold
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import RunDir
from vocl.tracking.log import STAMP, unstamped


def log_of(config):
    return (run_folder(config) / "log.txt").read_text()


def test_it_says_first_what_it_is(tmp_path, capfd):
    config = tiny(tmp_path)
    folder = run_folder(config)
    assert train.main([*TINY, f"runtime.root={tmp_path}"]) == 0
    err = capfd.readouterr().err
    first, second, *_ = [unstamped(line) for line in err.splitlines()]
    assert first == f"run {folder.name} in {folder}"
    facts = "steps 0 to 12 on cpu", "6 for training", "2 held out", "2,177 trained, 0 frozen"
    assert all(fact in second for fact in facts), second
    assert log_of(config) == err and all(STAMP.match(line) for line in err.splitlines())


def test_attempts_follow_each_other_in_one_log(tmp_path, monkeypatch):
    config = tiny(tmp_path)
    with monkeypatch.context() as patch:
        at_step(patch, 6, send(signal.SIGTERM))
        assert run.run(config) == 75
    assert run.run(config) == 0
    assert re.findall(r"steps (\d+) to 12", log_of(config)) == ["0", "7"]
    assert told(log_of(config))[0] == "stopped at step 7 of 12; the same command goes on"
    before = log_of(config)
    assert run.run(config) == 0  # done already
    assert log_of(config) == before


def test_a_log_that_takes_its_output_anyhow_has_each_line_once(tmp_path, monkeypatch):
    config = tiny(tmp_path)
    folder = run_folder(config)
    folder.mkdir(parents=True)

    def stopped():
        at_step(monkeypatch, 6, send(signal.SIGTERM))
        return run.run(config)

    assert wait(child(stopped, log=folder / "log.txt")) == 75
    assert len(log_of(config).splitlines()) == 3
    assert last_line(folder / "log.txt") == "stopped at step 7 of 12; the same command goes on"


def test_ranks_say_it_once(tmp_path):
    config, log = tiny(tmp_path), tmp_path / "log"
    assert on_ranks(2, lambda rank: run.run(config), log) == [0, 0], log.read_text()
    assert log.read_text().count("INFO run ") == log_of(config).count("INFO run ") == 1
    assert "2 processes" in log_of(config)


def test_on_a_terminal_lines_are_short(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal, config = Terminal(), tiny(tmp_path)
    monkeypatch.setattr("sys.stderr", terminal)
    assert run.run(config) == 0
    (run_folder(config) / "result.json").write_text("{")
    assert run.run(config) == 0
    lines = terminal.getvalue().splitlines()
    assert lines[0].startswith("run ") and not any(map(STAMP.match, lines))
    assert next(line for line in lines if "damaged" in line).startswith("note: ")


def test_a_crash_names_the_line_of_our_code_that_it_came_from(tmp_path, monkeypatch, capfd):
    config = tiny(tmp_path)

    def crash():
        json.loads("{")  # in a library

    with monkeypatch.context() as patch:
        at_step(patch, 7, crash)
        assert run.run(config) == 1
    (said,) = told(capfd.readouterr().err)
    record = json.loads((run_folder(config) / "events" / "0001-failed.json").read_text())
    path, line = record["where"].split(":")
    assert path == "vocl/trainer.py" and f'trainer.py", line {line}, in launch' in record["traceback"]
    assert said.startswith("failed: JSONDecodeError: ") and f" (vocl/trainer.py:{line}); record: " in said
    assert last_line(run_folder(config) / "log.txt") == said


def test_a_users_mistake_is_in_the_log_and_on_stderr_a_plain_line(tmp_path, monkeypatch, capfd):
    def bad(self, step):
        raise UserError("data/x/0001.jpg: does not decode")

    monkeypatch.setattr(Feed, "batch", bad)
    assert train.main([*TINY, f"runtime.root={tmp_path}"]) == 2
    assert capfd.readouterr().err.splitlines()[2:] == ["data/x/0001.jpg: does not decode"]
    assert told(log_of(tiny(tmp_path))) == ["data/x/0001.jpg: does not decode"]


@pytest.mark.parametrize("line", ["failed: it broke", "2026-11-28 10:00 it broke", "", "INFO x"])
def test_lines_of_older_logs_are_left_as_they_are(line):
    assert unstamped(line) == line


def test_a_log_cannot_be_made_to_lead_elsewhere(tmp_path, capfd):
    folder = run_folder(tiny(tmp_path))
    folder.mkdir(parents=True)
    (tmp_path / "mine").write_text("of mine")
    os.symlink(tmp_path / "mine", folder / "log.txt")
    assert train.main([*TINY, f"runtime.root={tmp_path}"]) == 2
    (said,) = capfd.readouterr().err.splitlines()
    assert "log.txt" in said and "is a link" in said
    assert (tmp_path / "mine").read_text() == "of mine"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_a_run_that_cannot_write_its_log_has_never_run(tmp_path, make):
    config = tiny(tmp_path)
    folder = run_folder(config)
    folder.mkdir(parents=True)
    make(folder / "log.txt")
    with pytest.raises(UserError, match=r"log\.txt: cannot be written"):
        run.run(config)
    states, _ = look(ResultsRoot(tmp_path), [folder.name])
    assert states[folder.name].name == "absent" and "log.txt" in states[folder.name].reason
    (folder / "log.txt").unlink() if make is os.mkfifo else (folder / "log.txt").rmdir()
    assert run.run(config) == 0


def test_whoever_holds_a_run_and_fails_leaves_the_reason(tmp_path):
    held = RunDir(tmp_path / "runs" / "0123456789")
    with pytest.raises(KeyError), hold(held):
        raise KeyError("why")
    states, _ = look(ResultsRoot(tmp_path), [held.id])
    assert (states[held.id].name, states[held.id].reason) == ("failed", "KeyError: 'why'")
