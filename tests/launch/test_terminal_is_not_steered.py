"""What other people's records say is shown, and does not steer the terminal: no title, clipboard, cursor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import run_records
import yaml

from launch.cli import main
from vocl.errors import UserError
from vocl.evaluate import score_table
from vocl.rundir import claims
from vocl.rundir.run_dir import RunDir

RUN = "aaaaaaaaaa"
STEERS = "\x1b]52;c;Y3VybCBldmlsfHNo\x07\x9b2J\x1b[2Jname\u202e"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / RUN
    entry = {"eval_id": "0", "protocol": STEERS, "num_videos": 1, "rows": "x", "metrics": {STEERS: 0.5}}
    found = {"run_id": RUN, "metrics": {}, "evals": {STEERS: entry}, "failed": {"x": STEERS}}
    run_records.put(folder / "result.json", found)
    run_records.start(folder, host=STEERS, code=STEERS)
    (folder / "config.yaml").write_text(yaml.safe_dump({"project": None, STEERS: STEERS}))
    return tmp_path


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """All that was printed; nothing of it steers."""
    out, error = capsys.readouterr()
    both = out + error
    assert "name" in both and not set("\x1b\x07\x9b\u202e") & set(both), repr(both)
    return both


@pytest.mark.parametrize("verb", ["show", "eval"])
def test_a_mistake_in_a_config(root: Path, verb: str, capsys) -> None:
    assert main([verb, RUN, f"runtime.root={root}"]) == 2
    said(capsys)


def test_a_mistake_is_one_line_whatever_it_names() -> None:
    assert str(UserError(f"a\n{STEERS}: b")) == "a ]52;c;Y3VybCBldmlsfHNo 2J [2Jname : b"


def test_scores_and_differences(root: Path, capsys) -> None:
    score_table.show(RunDir(root / "runs" / RUN))
    said(capsys)
    (root / "runs" / "bbbbbbbbbb").mkdir()
    (root / "runs" / "bbbbbbbbbb" / "config.yaml").write_text("project: null\nloss: {a: 1}\n")
    assert main(["diff", RUN, "bbbbbbbbbb", f"runtime.root={root}"]) == 0
    said(capsys)


def test_names_of_files_and_people(root: Path, tmp_path: Path, capsys) -> None:
    there = tmp_path / "there" / "runs"
    for name in (STEERS, RUN):
        (there / name).mkdir(parents=True)
        (there / name / "config.yaml").write_text("{}")
    assert main(["pull", f"{tmp_path}/there", f"runtime.root={tmp_path}/mine"]) == 0
    assert "its name is no run id" in said(capsys)
    made = claims.make(RunDir(root / "runs" / RUN), None, "token", "local")
    assert made is not None
    (root / "runs" / RUN / "result.json").unlink()
    made.path.write_text(json.dumps({**json.loads(made.path.read_text()), "host": STEERS}))
    run_records.beat(root / "runs" / RUN, 5)
    assert main(["cancel", RUN, f"runtime.root={root}"]) == 1
    said(capsys)


def test_a_log_keeps_its_colours_and_its_lines(root: Path, capsys) -> None:
    log = f"\x1b[31mred\x1b[0m\t10%\r20%\n{STEERS}\n"
    (root / "runs" / RUN / "log.txt").write_text(log)
    assert main(["logs", RUN, f"runtime.root={root}"]) == 0
    first, second = capsys.readouterr().out.rstrip("\n").split("\n")
    assert first == "\x1b[31mred\x1b[0m\t10%\r20%"
    assert second == "\ufffd]52;c;Y3VybCBldmlsfHNo\ufffd\ufffd2J\ufffd[2Jname\ufffd"
