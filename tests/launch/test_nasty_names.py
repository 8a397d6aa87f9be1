"""Names that mean something to a terminal, a shell, LaTeX, a spreadsheet or a file system go through every
verb: they are shown as they are, and break nothing."""

from __future__ import annotations

import csv
import html
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import latex_engine
import pytest
import run_records
import yaml
from rich.text import Text
from running import TINY

from launch import escape
from launch.ablations.overrides import slug
from launch.cli import main
from launch.commands.submit import link
from launch.selection.plan import select
from launch.tables import pictures
from vocl.config import wandb_names
from vocl.errors import UserError
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import RunDir
from vocl.tracking import shown

NAMES = [
    "[a] one",
    "two [/b]",
    "three [red]x",
    "*starred",
    "50% of $x_1$ & #2 {a} ~ ^ \\ | <k>",
    "quotes \"x\" 'y' `z` ''",
    "é ü ß ñ ç",
    "β=0.5 → λ ≤ 3 × ∞",
    "β=0.5 ← λ ≤ 3 × ∞",
    "-- minus −5 – en — em",
    "基线",
    "对比",
    "हिन्दी",
    "\N{GRINNING FACE}",
    "two\nlines\r\tand a tab",
    "a bell \x07 and \x1b[31mred",
    "half a pair \ud800",
    "=1+2",
    "+3",
    "@sum",
    "-1e-4",
    "?*",
    "***",
    "..",
    "a/../../b",
    "!x $(id) ${y}",
    "%j_%A",
    "__init__",
    "](x) &amp;",
    "x" * 330,
    "\N{CJK UNIFIED IDEOGRAPH-4E2D}" * 120,
]
FORMULA = ("=", "+", "-", "@")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "results"


class _Quoting(yaml.SafeDumper):
    """Every text in quotes: some of the names are numbers otherwise."""


_Quoting.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, '"')
)


@pytest.fixture
def arguments(declare, root: Path) -> list[str]:
    """An ablation whose rows and columns have these names and are all the same tiny run."""
    content = {
        "title": "All of it\nis [b]one[/b] run | ~",
        "rows": {name: {} for name in NAMES},
        "columns": {name: {} for name in NAMES[:3]},
        "seeds": [0],
        "metrics": ["video_fg_ari", "discovery/video_mbo"],
        "table": {"baseline": NAMES[3], "groups": [NAMES[5:7]]},
    }
    return [
        "nasty/表",
        declare(yaml.dump(content, Dumper=_Quoting), "nasty/表"),
        *TINY,
        f"runtime.root={root}",
    ]


def _said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """What a verb prints; no traceback, one line of error at most, nothing that steers the terminal."""
    capsys.readouterr()
    assert main(list(arguments)) == code, capsys.readouterr().err
    out, error = capsys.readouterr()
    assert "Traceback" not in error
    assert all(line.isprintable() for line in out.splitlines()), out
    return out


@pytest.mark.slow
def test_every_verb_takes_them(arguments: list[str], root: Path, tmp_path: Path, capsys) -> None:
    plan = _said(capsys, "plan", *arguments)
    for name in NAMES:
        assert escape.one_line(name) in plan
    submitted = [*arguments, "cluster=local"]
    _said(capsys, "submit", *submitted)
    (run,) = {spec.id for spec in select(arguments).specs}
    folders = [path for path in (root / "by-name").rglob("s0") if path.is_symlink()]
    assert len(folders) == len(NAMES) * 3
    assert all((path / "result.json").is_file() for path in folders)
    there = f"runtime.root={root}"
    for verb in (["status"], ["why"], ["tend", *submitted], ["status", "nasty/表"], ["why", "nasty/表"]):
        out = _said(capsys, *verb, *([there] if len(verb) < 3 else []))
        assert verb[0] != "status" or all(escape.one_line(name) in out for name in NAMES)
    assert escape.one_line(NAMES[0]) in _said(capsys, "ls", there)
    for verb in (["ls", "nasty/表", "seed=0"], ["gc"], ["diff", run, run]):
        _said(capsys, *verb, there)
    assert main(["logs", run, there]) == 0
    for verb in ("retry", "fill", "cancel"):
        _said(capsys, verb, *submitted)
    place = tmp_path / "out [b] 表"
    _said(capsys, "show", run, there, f"out={place}.png")
    _said(capsys, "export", run, str(place), there)
    _said(capsys, "table", *arguments)
    table = root / "tables" / "nasty" / "表"
    lines = (table / "table.md").read_text().splitlines()
    assert sum(line.startswith("| ") for line in lines) == len(NAMES) + 2


def test_boards_show_failed_and_broken_runs_of_such_names(root: Path, capsys) -> None:
    rows = []
    for index, name in enumerate(NAMES):
        run = f"{index:010x}"
        folder = root / "runs" / run
        run_records.start(folder)
        run_records.end(folder, "failed", kind="ValueError", message=f"video {name} is empty\x1b[2J")
        (folder / "log.txt").write_text(f"reading {name.encode(errors='replace').decode()}\n")
        (folder / "config.yaml").write_text(yaml.safe_dump({"seed": 0, "dataset": {"name": name}}))
        rows.append({"row": name, "column": name, "seed": 0, "id": run, "after": None})
    run_records.put(root / "by-name" / "表 [b]" / "selection.json", {"arguments": [], "runs": rows})
    there = f"runtime.root={root}"
    for verb in ("status", "why", "ls", "gc"):
        out = _said(capsys, verb, there)
        assert verb == "gc" or all(row["id"] in out for row in rows)
    assert main(["logs", rows[0]["id"], there]) == 0
    for name in NAMES:
        if name.isprintable():
            quoted = f'dataset.name="{name}"' if ":" in name or "#" in name else f"dataset.name={name}"
            assert " of 31" in _said(capsys, "ls", quoted, there)
    assert "1 of 31" in _said(capsys, "ls", "dataset.name=[a] one", there)


def test_the_rows_of_every_format_say_the_names(arguments: list[str], root: Path, finish, capsys) -> None:
    spec = select(arguments).specs[0]
    finish(spec, root, video_fg_ari=-0.25, video_mbo=0.5)
    _said(capsys, "table", *arguments)
    place = root / "tables" / "nasty" / "表"
    for name in ("table.csv", "runs.csv"):
        rows = list(csv.DictReader(io.StringIO((place / name).read_text())))
        named = {row["row"] for row in rows}
        assert {escape.csv(each) for each in NAMES} == named
        assert not any(each.startswith(FORMULA) for each in named)
    markdown = [line for line in (place / "table.md").read_text().splitlines() if line.startswith("| ")]
    cells = {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in markdown}
    assert cells == {len(NAMES[:3]) * 4 + 2}
    tex = (place / "table.tex").read_text()
    body = [line for line in tex.splitlines() if not line.startswith("%")]
    assert len([line for line in body if line.endswith(r"\\")]) == len(NAMES) + 2
    assert not any(line.startswith(("[", "*")) for line in body)
    assert r"$\beta$=0.5 $\rightarrow$ $\lambda$ $\leq$ 3 $\times$ $\infty$" in tex
    assert r"\vocltext{基线}{U+57FA U+7EBF}" in tex
    run_records.reports(root / "runs" / spec.id, [2.0, 1.0])
    _said(capsys, "report", *arguments, "--videos", "0")
    for name in ("table.html", "report.html"):
        page = (place / name).read_text()
        assert all(line.isprintable() for line in page.splitlines())
        assert all(html.escape(escape.one_line(each), quote=False) in _plain(page) for each in NAMES)


def _plain(page: str) -> str:
    """The page with quotes as they are."""
    return page.replace("&#39;", "'").replace("&#34;", '"')


@pytest.mark.parametrize("engine", latex_engine.ENGINES)
def test_the_table_compiles(engine: str, arguments: list[str], root: Path, finish, tmp_path, capsys) -> None:
    finish(select(arguments).specs[0], root, video_fg_ari=-0.25, video_mbo=0.5)
    for settings in ([], ["table.transpose=true", "table.fit=true"]):
        _said(capsys, "table", *arguments, *settings)
        tex = (root / "tables" / "nasty" / "表" / "table.tex").read_text()
        latex_engine.compile_table(engine, tex, tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    {
        "[a]": "{[}a]",
        "*": "{*}",
        "--x": "-{}-x",
        "''": "'{}'",
        ",,": ",{},",
        'a "b"': r"a {\char34}b{\char34}",
        "é": "é",
        "Ω α µ": r"$\Omega$ $\alpha$ $\mu$",
        "5 °": r"5 $^\circ$",
        "…": r"\ldots{}",
        "中x": r"\vocltext{中}{U+4E2D}x",
        "e\u0301": "é",
    }.items(),
)
def test_a_text_in_latex(text: str, said: str) -> None:
    assert escape.latex(text) == said


def test_slugs_of_ordinary_names_stay_and_no_others_meet() -> None:
    before = {
        "no contrast": "no-contrast",
        "A_b, lr=-1e-4": "a-b-lr-minus-1e-4",
        "num_slots=7, loss=a+b": "num-slots-7-loss-a-b",
        "": "unnamed",
        "x" * 150: "x" * 150,
    }
    assert {name: slug(name) for name in before} == before
    slugs = [slug(name) for name in NAMES]
    assert len(set(slugs)) == len(slugs)
    assert all(0 < len(each.encode()) < 200 and "/" not in each for each in slugs)
    assert slug("基线") == "基线"


def test_pictures_of_rows_have_files(root: Path, monkeypatch, arguments, capsys) -> None:
    monkeypatch.setattr(pictures, "SHOW", (sys.executable, "-c", "import sys; open(sys.argv[3][4:], 'w')"))
    specs = select(arguments).specs
    record = {spec.row: type("Done", (), {"state": "done", "spec": spec}) for spec in specs}
    root.mkdir()
    drawn = pictures.draw(list(record.values()), ResultsRoot(root), root)
    assert len(drawn) == len(NAMES)
    assert len(list(root.glob("*.png"))) == len(NAMES)


def test_names_that_the_tracker_refuses_are_told_in_time(capsys) -> None:
    assert main(["plan", "runtime.wandb_project=a:b/c"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("runtime.wandb_project=a:b/c: ") and error.count("\n") == 1
    assert main(["plan", f"runtime.wandb_project={'x' * 129}"]) == 2
    wandb_names.refuse_project("x" * 128)
    with pytest.raises(UserError, match="wandb_project"):
        wandb_names.refuse_project("")


def test_the_tracker_gets_a_name_that_it_takes_whatever_the_depth(arguments, root: Path) -> None:

    selection = select(arguments)
    (root / "runs" / selection.specs[0].id).mkdir(parents=True)
    link(selection, selection.ablation, ResultsRoot(root))
    name = shown.name(RunDir(root / "runs" / selection.specs[0].id), selection.specs[0].content)
    assert name.startswith("nasty/表/") and len(name) <= 128
    names = {wandb_names.fitting(f"nasty/{slug(each)}/{slug(each)}/s0") for each in NAMES}
    assert len(names) == len(NAMES) and max(map(len, names)) <= 128


def test_a_sync_takes_another_project_from_its_command_line(tmp_path: Path, monkeypatch, capsys) -> None:
    from launch.commands.sharing import sync

    folder = tmp_path / "runs" / "aaaaaaaaaa"
    place = folder / "wandb" / "offline-run-20261101_000000-aaaaaaaaaa"
    place.mkdir(parents=True)
    (place / "run.wandb").touch()
    run_records.put(
        folder / "wandb" / "sealed.json", {place.name: {"step": 3, "evals": None, "scores": None}}
    )
    (folder / "config.yaml").write_text("runtime: {wandb_project: 'a:b/c'}\n")
    calls: list[list[str]] = []

    def client(command: list[str], seconds: float) -> Any:
        calls.append(list(command))
        (place / "run.wandb.synced").touch()
        return subprocess.CompletedProcess(command, 0, stdout=b"")

    monkeypatch.setattr(sync, "_run", client)
    asked = ["runtime.wandb_project=good", "runtime.wandb_entity=me", f"runtime.root={tmp_path}"]
    assert main(["sync", "aaaaaaaaaa", *asked]) == 0
    assert calls[0][-3:] == [str(place), "--project=good", "--entity=me"]
    (folder / "metrics.jsonl").write_text('{"step": 9}\n')  # the client's folder lacks it
    assert main(["sync", "aaaaaaaaaa", *asked]) == 0
    assert "good" in calls[1] and "me" in calls[1] and "a:b/c" not in calls[1]
    assert main(["sync", "aaaaaaaaaa", "runtime.wandb_project=a:b", f"runtime.root={tmp_path}"]) == 2


def test_output_that_knows_ascii_alone_shows_escapes(arguments: list[str], root: Path) -> None:
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment |= {"PYTHONIOENCODING": "ascii"}
    rows = [{"row": name, "column": "all", "seed": 0, "id": "0" * 10, "after": None} for name in NAMES]
    run_records.put(root / "by-name" / "nasty" / "selection.json", {"arguments": [], "runs": rows})
    command = [sys.executable, "-m", "launch.cli", "status", f"runtime.root={root}"]
    done = subprocess.run(command, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert rb"\u57fa\u7ebf" in done.stdout


def test_the_progress_bars_show_names_as_they_are() -> None:
    from launch.node.progress import PoolBars

    board = PoolBars(1)
    board.started("run", "two [/b]", 10)
    column = board.progress.columns[0]
    assert Text.from_markup("x") and column.render(board.progress.tasks[-1]).plain == "two [/b]"


def test_json_of_a_table_keeps_the_names(arguments: list[str], root: Path) -> None:
    selection = select(arguments)
    link(selection, selection.ablation, ResultsRoot(root))
    stored = json.loads((root / "by-name" / "nasty" / "表" / "selection.json").read_text())
    assert {row["row"] for row in stored["runs"]} == set(NAMES)
