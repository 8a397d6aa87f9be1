"""What a table shows of runs that lack, in every format; and templates of LaTeX tables."""

from __future__ import annotations

import csv
import html
import re
from collections.abc import Callable
from pathlib import Path

import latex_engine
import pytest
import run_records

from launch import escape
from launch.cli import main
from launch.selection.plan import select

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tables.md"
HOLES = """
title: Holes & more
rows:
  whole: {}
  absent: {train.steps: 8}
  failed: {train.steps: 9}
  unscored: {train.steps: 10, eval: [discovery, tracking]}
  undefined: {train.steps: 11}
  mixed: {train.steps: 12}
  partly: {train.steps: 13}
seeds: [0, 1]
metrics: [video_fg_ari, tracking/idf1]
"""
TOLD = {
    "whole": "50.0 ± 0.0 (2)",
    "absent": "-- absent",
    "failed": "-- failed",
    "unscored": "50.0 ± 0.0 (2)",
    "undefined": "-- undefined",
    "mixed": "50.0 ± 0.0 (2)‡",
    "partly": "50.0 (1/2)† 1 failed",
}
TEMPLATE = r"""\begin{tabular}{l\VAR{ "c" * columns | length }}
\COMMENT{ no vertical lines }
\toprule
Method
\BLOCK{ for column in columns }
  & \VAR{ column.metric or column.name }
\BLOCK{ endfor }
\\ \midrule
\BLOCK{ for line in groups | sum(start=[]) }
\VAR{ line.label }
  \BLOCK{ for cell in line.cells }
  & \VAR{ "\\textbf{" ~ cell.mean ~ "}" if cell.best else cell.mean }\VAR{ cell.mark ~ cell.gaps }
  \BLOCK{ endfor }
\\
\BLOCK{ endfor }
\bottomrule
\end{tabular}

\BLOCK{ for note in notes }
\footnotesize \VAR{ note }\par
\BLOCK{ endfor }
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def holes(declare: Callable[..., str], finish: Callable[..., None], root: Path) -> list[str]:
    """A table with a hole of each kind."""
    arguments = ["holes", declare(HOLES, "holes"), f"runtime.root={root}"]
    for spec in select(arguments).specs:
        if spec.row == "failed" or (spec.row, spec.seed) == ("partly", 1):
            folder = root / "runs" / spec.id
            run_records.start(folder)
            run_records.end(folder, "failed", kind="ValueError", message="no")
        elif spec.row != "absent":
            code = "def" if (spec.row, spec.seed) == ("mixed", 1) else "abc"
            score = None if spec.row == "undefined" else 0.5
            finish(spec, root, code=code, video_fg_ari=score)
    return arguments


def test_every_format_says_what_each_place_lacks(holes: list[str], root: Path, capsys) -> None:
    assert main(["table", *holes]) == 0
    place = root / "tables" / "holes"
    table, tex, page = ((place / f"table.{kind}").read_text() for kind in ("md", "tex", "html"))
    plain = html.unescape(re.sub(r"<[^>]*>", "", page))
    for row, told in TOLD.items():
        (line,) = [line for line in table.splitlines() if line.startswith(f"| {row} ")]
        assert line.split("|")[2].strip().replace("*", "") == told
        (line,) = [line for line in tex.splitlines() if line.startswith(f"{row} & ")]
        first = line.split(" & ")[1]
        assert re.sub(r"\\textbf\{(.*?)\}", r"\1", first) == escape.latex(told).replace("-{}-", "--")
        assert f"{row}{told}" in plain
    (line,) = [line for line in table.splitlines() if line.startswith("| unscored ")]
    assert line.split("|")[3].strip() == "-- unscored"
    with (place / "table.csv").open() as file:
        cells = {line["row"]: line for line in csv.DictReader(file) if line["metric"] == "video_fg_ari"}
    gaps = {"absent": "absent", "failed": "failed", "undefined": "undefined", "partly": "1 failed"}
    assert {row: cell["gaps"] for row, cell in cells.items() if cell["gaps"]} == gaps
    assert [row for row, cell in cells.items() if cell["other_code"] == "True"] == ["mixed"]


NOTE = "50% of *it* <b>x</b> $y$ a_b |"


@pytest.mark.parametrize("engine", latex_engine.ENGINES)
def test_tags_and_notes_stand_in_every_format(engine, holes: list[str], root: Path, tmp_path, capsys) -> None:
    runs = {(spec.row, spec.seed): spec.id for spec in select(holes).specs}
    there = f"runtime.root={root}"
    assert main(["tag", runs["whole", 0], runs["failed", 1], "keep", there]) == 0
    assert main(["tag", runs["mixed", 1], "--note", NOTE, there]) == 0
    capsys.readouterr()
    assert main(["table", *holes]) == 0
    place = root / "tables" / "holes"
    table, tex, page = ((place / f"table.{kind}").read_text() for kind in ("md", "tex", "html"))
    runs_with = f"run {runs['whole', 0]} (whole, all, seed 0), run {runs['failed', 1]} (failed, all, seed 1)"
    assert f"- § tag keep: {runs_with}" in table and f"% § tag keep: {runs_with}" in tex
    assert f"- § {escape.markdown(NOTE)}: run {runs['mixed', 1]} (mixed, all, seed 1)" in table
    assert f"§ tag keep: {runs_with}" in page and html.escape(NOTE) in page
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    assert [line.split()[1] for line in lines if "§" in line] == ["whole", "failed", "mixed"]
    assert r"--\S{} failed" in tex and r"$^\ddagger$\S{}" in tex
    latex_engine.compile_table(engine, tex, tmp_path)
    with (place / "runs.csv").open() as file:
        said = {(line["run"], line["tags"], line["note"]) for line in csv.DictReader(file)}
    assert {(runs["whole", 0], "keep", ""), (runs["mixed", 1], "", NOTE)} <= said
    with (place / "table.csv").open() as file:
        marked = [line["row"] for line in csv.DictReader(file) if line["remarked"] == "True"]
    assert list(dict.fromkeys(marked)) == ["whole", "failed", "mixed"]
    assert main(["report", *holes, "--videos", "0"]) == 0
    assert html.escape(NOTE) in (place / "report.html").read_text()


@pytest.mark.parametrize("engine", latex_engine.ENGINES)
def test_a_template_makes_the_table(engine: str, holes: list[str], root: Path, tmp_path, capsys) -> None:
    template = tmp_path / "own.tex.j2"
    template.write_text(TEMPLATE)
    assert main(["table", *holes, f"table.template={template}"]) == 0
    tex = (root / "tables" / "holes" / "table.tex").read_text()
    assert tex.startswith("\\begin{tabular}{lcc}\n\\toprule\nMethod\n  & video\\_fg\\_ari\n")
    assert "\nundefined\n  & --undefined\n" in tex and "2 versions of the code" in tex
    latex_engine.compile_table(engine, tex, tmp_path)


@pytest.mark.parametrize("engine", latex_engine.ENGINES)
def test_the_template_of_the_page_makes_a_table(engine, holes, root: Path, tmp_path: Path, capsys) -> None:
    blocks = re.findall(r"^```latex\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    template = tmp_path / "paper.tex.j2"
    template.write_text(next(block for block in blocks if r"\BLOCK{" in block))
    assert main(["table", *holes, f"table.template={template}"]) == 0
    tex = (root / "tables" / "holes" / "table.tex").read_text()
    assert "2 versions of the code" in tex and "50.0$^\\dagger$ 1 failed" in tex
    latex_engine.compile_table(engine, tex, tmp_path)


def test_a_template_named_in_the_file_lies_beside_it(declare, root: Path, tmp_path: Path, capsys) -> None:
    text = "title: 中\nrows: {a: {}}\nseeds: [0]\nmetrics: [video_mbo]\ntable: {template: own.tex.j2}\n"
    arguments = ["own", declare(text, "own"), f"runtime.root={root}"]
    (tmp_path / "project" / "conf" / "ablation" / "own.tex.j2").write_text(
        r"\VAR{title}: \VAR{tabular | trim}"
    )
    assert main(["table", *arguments]) == 0
    tex = (root / "tables" / "own" / "table.tex").read_text()
    assert tex.splitlines()[0] == r"\providecommand{\vocltext}[2]{#2}%"
    assert tex.splitlines()[1] == r"\vocltext{中}{U+4E2D}: \begin{tabular}{lr}"
    assert main(["table", *arguments, "table.template=null"]) == 0
    assert (root / "tables" / "own" / "table.tex").read_text().startswith("% 中\n")


@pytest.mark.parametrize(
    ("template", "told"),
    {
        "a\n\\VAR{ titel }": "own.tex.j2:2: 'titel' is undefined",
        "\\BLOCK{ for x in notes }\n": "own.tex.j2:1: Unexpected end of template.",
        "a\nb\n\\VAR{ title.__class__.__mro__ }": "own.tex.j2:3: access to attribute '__class__' of 'str'",
        "\\VAR{ ''.__class__ }": "own.tex.j2:1: access to attribute '__class__'",
        "\\VAR{ notes.append(1) }": "own.tex.j2:1: access to attribute 'append' of 'list' object is unsafe",
        "\n\\VAR{ 1 / 0 }": "own.tex.j2:2: division by zero",
        "\\VAR{ '\\ud800' }": "surrogates not allowed",
        "\\BLOCK{ include '/etc/passwd' }": "own.tex.j2:1: no loader for this environment specified",
        None: "No such file or directory",
        b"\xff": "not a text in UTF-8",
    }.items(),
)
def test_a_mistake_in_a_template_is_a_line(template, told: str, declare, root, tmp_path, capsys) -> None:
    path = tmp_path / "own.tex.j2"
    if template is not None:
        path.write_bytes(template if isinstance(template, bytes) else template.encode())
    assert main(["table", "trio", declare(), f"runtime.root={root}", f"table.template={path}"]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
    assert not (root / "tables").exists()
