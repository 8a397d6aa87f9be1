"""A result.json that is damaged is no result: the run has failed, and a retry evaluates it again."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from run_records import result

from launch.cli import main
from launch.commands import fill
from launch.selection.plan import select
from launch.submission import local
from vocl.rundir import claims
from vocl.rundir.checkpoint_files import digest_of, name_of
from vocl.rundir.run_dir import RunDir

DAMAGED = [
    "",
    "[]",
    "{}",
    '{"evals": 3}',
    '{"evals": {}}',
    '{"run_id": "a", "metrics": {}, "evals": {"discovery": 3}}',
    '{"run_id": "a", "metrics": [], "evals": {}}',
]


@pytest.fixture
def pair(tmp_path: Path, declare: Callable[..., str]) -> tuple[Path, list[str], list[Path]]:
    """A table of two runs that are done: root, arguments that select them, their folders."""
    text = "rows: {none: {loss: [feature_mse]}, batch: {}}\nseeds: [0]\nmetrics: [video_mbo]"
    root = tmp_path / "results"
    arguments = ["pair", declare(text, "pair"), f"runtime.root={root}", "cluster=local"]
    selection = select(arguments)
    folders = [root / "runs" / spec.id for spec in selection.runs]
    for spec, folder in zip(selection.runs, folders, strict=True):
        claim = claims.make(RunDir(folder), None, "token", "local")
        assert claim is not None
        claims.over(claim, "done", code=0)
        (folder / "config.yaml").write_text(yaml.safe_dump(spec.content))
        (folder / "result.json").write_text(json.dumps(result(spec.id, video_mbo=0.5)))
    rows = [
        {"row": s.row, "column": s.column, "seed": s.seed, "id": s.id, "after": None} for s in selection.runs
    ]
    place = root / "by-name" / "pair" / "selection.json"
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps({"arguments": arguments, "runs": rows}))
    return root, arguments, folders


@pytest.fixture
def evaluates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training stands still, and its evaluation writes a result unless there is one."""
    script = tmp_path / "evaluates.py"
    script.write_text(
        "import json, pathlib, sys\n"
        "path = pathlib.Path(sys.argv[1]).with_name('result.json')\n"
        "assert not path.exists()\n"
        f"path.write_text(json.dumps({result('x', video_mbo=0.25)!r}))\n"
    )
    monkeypatch.setattr(local, "TRAIN", (sys.executable, "-S", str(script)))


def _said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert main(list(arguments)) == code
    out, error = capsys.readouterr()
    assert error.count("\n") == (1 if code == 2 else 0), error
    return out + error


@pytest.mark.slow
@pytest.mark.parametrize("content", DAMAGED)
def test_every_verb_takes_the_run_for_failed(pair, tmp_path, monkeypatch, capsys, content: str) -> None:
    root, arguments, (folder, other) = pair
    (folder / "result.json").write_text(content)
    place = f"runtime.root={root}"
    for verb in ("status", "why"):
        assert "result.json damaged" in _said(capsys, verb, "pair", place)
    assert "1 done, 1 failed" in _said(capsys, "status", "pair", place)
    for verb in ("ls", "diff", "gc"):
        _said(capsys, verb, *{"ls": (), "diff": (folder.name, other.name), "gc": ()}[verb], place)
    assert "1 of 2 runs missing (1 failed)" in _said(capsys, "table", *arguments)
    assert "result.json: damaged" in _said(capsys, "export", folder.name, f"{tmp_path}/out", place, code=2)
    assert not (tmp_path / "out").exists()
    assert fill.missing_evaluations(RunDir(folder), select(arguments).runs[0]) == {}
    assert "2 runs: 1 done already, 1 failed already, 0 to do" in _said(capsys, "submit", *arguments)


@pytest.mark.parametrize("content", DAMAGED)
def test_retry_sets_it_aside_and_has_the_run_evaluated(pair, evaluates, capsys, content: str) -> None:
    root, _, (folder, other) = pair
    before = (other / "result.json").read_text()
    (folder / "result.json").write_text(content)
    assert main(["retry", "pair", f"runtime.root={root}"]) == 0
    assert json.loads((folder / "result.json").read_text())["metrics"] == {"video_mbo": 0.25}
    assert (folder / "result.json.damaged").read_text() == content
    assert (other / "result.json").read_text() == before and not (other / "result.json.damaged").exists()
    capsys.readouterr()
    assert "2 done" in _said(capsys, "status", "pair", f"runtime.root={root}")


def test_fill_has_the_run_evaluated(pair, evaluates, monkeypatch) -> None:
    _, arguments, (folder, _) = pair
    monkeypatch.setattr(fill, "EVAL", (sys.executable, "-S", "-c", ""))
    (folder / "result.json").write_text("")
    assert main(["fill", *arguments]) == 0
    assert json.loads((folder / "result.json").read_text())["metrics"] == {"video_mbo": 0.25}


def test_tend_leaves_it_to_a_person(sweep, capsys) -> None:
    it = sweep()
    run, other = it.ids[:2]
    it.done(run)
    it.lost(other, "PREEMPTED")
    (it.folder(run) / "result.json").write_text("{}")
    assert main(["tend", "duo", f"runtime.root={it.root}"]) == 0
    assert f"queued {other} (" in capsys.readouterr().out
    assert (it.state(run).name, it.state(run).reason) == ("failed", "result.json damaged")
    assert main(["retry", run, f"runtime.root={it.root}"]) == 0
    assert it.state(run).name == "queued" and not (it.folder(run) / "result.json").exists()


def test_pull_takes_the_sound_result_for_a_damaged_one_and_never_the_reverse(pair, tmp_path, capsys) -> None:
    root, _, (folder, other) = pair
    for entry in (folder, other):
        (entry / "x").touch()  # its rows
        (entry / "checkpoints").mkdir()
        (entry / "checkpoints" / name_of(9, digest_of(b"weights"))).write_bytes(b"weights")
    there = tmp_path / "there"
    shutil.copytree(root, there)
    (folder / "result.json").write_text("{}")
    (there / "runs" / other.name / "result.json").write_text("{}")
    assert main(["pull", str(there), f"runtime.root={root}"]) == 0
    assert "1 done here already, 1 pulled" in capsys.readouterr().out
    (folder / "result.json").unlink()
    (there / "runs" / folder.name / "result.json").write_text("[]")
    assert main(["pull", str(there), f"runtime.root={root}"]) == 0
    assert f"not pulled: {folder.name}: its result.json is damaged" in capsys.readouterr().out


def test_what_cannot_be_opened_is_not_called_damaged(pair, capsys) -> None:
    """As where a file system fails for a moment: the run is not trained again."""
    root, _, (folder, _) = pair
    (folder / "result.json").unlink()
    (folder / "result.json").symlink_to("result.json")
    assert "2 done" in _said(capsys, "status", "pair", f"runtime.root={root}")
