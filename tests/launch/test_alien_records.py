"""Records that are none (nested without end, a pipe, half a letter, a word for a number), and folders that
cannot be read, are named; the other runs are shown as ever."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import run_records

from launch.cli import main
from vocl.errors import UserError
from vocl.files import holds, json_or_none, parse_json, read_bytes
from vocl.rundir.run_dir import RunDir

pytestmark = pytest.mark.usefixtures("no_hanging")

RUN, OTHER = run_records.PAIR
VERBS = ("status", "why", "ls", "gc")
RECORDS = [
    "jobs/0001.json",
    "jobs/0001-start.json",
    "jobs/0001-end.json",
    "heartbeat.json",
    "events/0001-start.json",
    "events/0001-failed.json",
    "result.json",
    "metrics.jsonl",
    "config.yaml",
    "log.txt",
]
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two runs of one table that failed alike, with what a training says of itself beside the records."""
    for folder in run_records.failed_pair(tmp_path):
        run_records.reports(folder, [1.0] * 12)
        (folder / "config.yaml").write_text("seed: 0\nmodel:\n  num_slots: 5\n")
        (folder / "log.txt").write_text("it broke\n")
    return tmp_path


def _pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def _holding(text: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(text) and None


ALIENS = {
    "deep": _holding(DEEP + "\n"),
    "deep mapping": _holding('{"a": ' * 100_000),
    "pipe": _pipe,
    "folder": _folder,
    "half a letter": _holding('{"step": "\\ud800", "token": "\\ud800", "outcome": "\\udfff"}\n'),
    "words": _holding('{"step": 7, "slots_used": "many", "mask_entropy": [], "steps_per_s": "fast"}\n'),
    "long number": _holding('{"step": ' + "9" * 5000 + ', "loss": ' + "9" * 5000 + "}\n"),
    "endless": _holding('{"step": 1e999, "time": NaN, "wall_s": Infinity, "steps": -1e999}\n'),
    "bytes": lambda path: path.write_bytes(b"\xff\xfe\x00\x80{") and None,
}


def _told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert main(list(arguments)) == code
    out, error = capsys.readouterr()
    assert "Traceback" not in error and error.count("\n") <= 1, error
    return out + error


@pytest.mark.parametrize("alien", ALIENS)
@pytest.mark.parametrize("name", RECORDS)
def test_boards_show_the_other_run(root: Path, name: str, alien: str, capsys) -> None:
    ALIENS[alien](root / "runs" / RUN / name)
    for verb in VERBS:
        out = _told(capsys, verb, f"runtime.root={root}")
        assert verb == "gc" or (RUN in out and OTHER in out)
    if name in RECORDS[:7]:
        assert "damaged" in _told(capsys, "status", f"runtime.root={root}")
    _told(capsys, "tend", "pair", f"runtime.root={root}")


@pytest.mark.parametrize("content", ['"7"', "[7]", "true", "NaN", "1e999", "9" * 30])
def test_what_is_no_number_is_damage(root: Path, content: str, capsys) -> None:
    for name in ("events/0001-failed.json", "heartbeat.json"):
        path = root / "runs" / RUN / name
        text = json.dumps({**(json_or_none(path) or {}), "time": 1})
        assert text.count('"time": 1') == 1
        path.write_text(text.replace('"time": 1', f'"time": {content}'))
        assert name in _told(capsys, "why", f"runtime.root={root}")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("place", ["", "/jobs", "/events", "/checkpoints"])
def test_what_cannot_be_read_is_told_and_taken_by_nobody(
    root: Path, place, number, monkeypatch, capsys
) -> None:
    """As of another user (whom a test that runs as root cannot be), or on a disk that has gone."""
    (root / "runs" / RUN / "checkpoints").mkdir()
    closed, listdir = f"{root}/runs/{RUN}{place}", os.listdir

    def refusing(path: str = ".") -> list[str]:
        if str(path) == closed:
            raise OSError(number, os.strerror(number), closed)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refusing)
    board = _told(capsys, "status", f"runtime.root={root}")
    assert "1 failed, 1 unknown" in board and "cannot be read: " in board
    assert os.strerror(number) in _told(capsys, "why", f"runtime.root={root}")
    out = _told(capsys, "ls", f"runtime.root={root}")
    assert RUN in out and OTHER in out
    assert f"left alone, a job may have {RUN}" in _told(capsys, "tend", "pair", f"runtime.root={root}")
    out = _told(capsys, "gc", f"runtime.root={root}")
    assert place != "/jobs" or f"warning: {RUN}: " in out


def test_a_results_folder_that_cannot_be_read_is_not_empty(root: Path, monkeypatch, capsys) -> None:
    scandir = os.scandir

    def refusing(path: str | Path = ".") -> Iterator[os.DirEntry[str]]:
        if str(path) == str(root / "runs"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    for verb in VERBS:
        said = _told(capsys, verb, f"runtime.root={root}", code=2)
        assert said == f"{root}/runs: Permission denied\n"


def test_a_folder_of_tables_that_cannot_be_read_is_named(root: Path, monkeypatch, capsys) -> None:
    hidden, scandir = root / "by-name" / "mine", os.scandir
    hidden.mkdir()

    def refusing(path: str | Path = ".") -> Iterator[os.DirEntry[str]]:
        if str(path) == str(hidden):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert RUN in _told(capsys, "status", f"runtime.root={root}")


@pytest.mark.parametrize("run", ["../../etc", "a/b", "", ".", "\ud800", "a\0b", "-\n"])
def test_a_table_names_runs_and_no_paths(root: Path, run: str, capsys) -> None:
    rows = [{"row": "x", "column": "all", "seed": 0, "id": run, "after": None}]
    run_records.put(root / "by-name" / "pair" / "selection.json", {"arguments": [], "runs": rows})
    out = _told(capsys, "status", f"runtime.root={root}")
    assert "damaged record: by-name/pair/selection.json" in out and RUN in out
    assert _told(capsys, "why", "pair", f"runtime.root={root}", code=2).count("\n") == 1


@pytest.mark.parametrize("words", [[1], [None], [["a"]]])
def test_a_table_whose_arguments_are_no_words_is_damaged(root: Path, words: list, capsys) -> None:
    run_records.put(root / "by-name" / "pair" / "selection.json", {"arguments": words, "runs": []})
    assert "selection.json: damaged" in _told(capsys, "status", "pair", f"runtime.root={root}", code=2)


def test_the_readers_that_all_share(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    _pipe(path)
    with pytest.raises(UserError, match="not a regular file"):
        read_bytes(path)
    assert json_or_none(path) is None
    with pytest.raises(ValueError, match="too deep"):
        parse_json(DEEP)
    assert holds({"a": 1, "b": None}, {"a": int, "b": (bool, type(None))})
    assert not any(holds({"a": value}, {"a": (int, float)}) for value in (True, float("nan"), 2**63, "1"))
    (tmp_path / "result.json").mkdir()
    assert not RunDir(tmp_path).is_done()


@pytest.mark.parametrize("text", [DEEP, "a: 2026-99-99", "\udcff", "a: [", "- a", "{a: b"])
def test_a_config_that_is_none_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError) as raised:
        RunDir(tmp_path).config()
    assert str(raised.value).startswith(f"{tmp_path}/config.yaml:")
