"""A record that a disk or a bad copy damaged hides no other run, and is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launch.cli import main
from vocl import claims


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for run in ("aaaaaaaaaa", "bbbbbbbbbb"):
        folder = tmp_path / "runs" / run
        claim = claims.make(folder, None, "token", "local")
        claims.began(claim)
        claims.over(claim, "failed", line="it broke")
        (folder / "config.yaml").write_text("seed: 0\n")
    return tmp_path


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
@pytest.mark.parametrize("name", ["0001.json", "0001-start.json", "0001-end.json"])
def test_a_damaged_claim(root: Path, name: str, content: str, capsys) -> None:
    path = root / "runs" / "aaaaaaaaaa" / "jobs" / name
    path.write_text(content)
    for verb in ("status", "ls", "why"):
        assert main([verb, f"runtime.root={root}"]) == 0
        out = capsys.readouterr().out
        assert "aaaaaaaaaa" in out and "bbbbbbbbbb" in out
    assert claims.make(path.parents[1], claims.newest(path.parents[1]), "next", "local").number == 2


def test_the_damaged_file_is_named(root: Path, capsys) -> None:
    path = root / "runs" / "aaaaaaaaaa" / "jobs" / "0001.json"
    path.write_text("")
    main(["status", f"runtime.root={root}"])
    assert "damaged record: jobs/0001.json" in capsys.readouterr().out


def test_a_damaged_result_is_one_line(root: Path, capsys) -> None:
    path = root / "runs" / "aaaaaaaaaa" / "result.json"
    path.write_text(json.dumps([]))
    assert main(["export", "aaaaaaaaaa", str(root / "out"), f"runtime.root={root}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (root / "out").exists()


def test_a_quoted_root_is_the_same_root(root: Path, capsys) -> None:
    assert main(["status", f"runtime.root='{root}'"]) == 0
    assert "aaaaaaaaaa" in capsys.readouterr().out
