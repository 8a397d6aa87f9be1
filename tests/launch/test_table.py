from __future__ import annotations

import csv
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import latex_engine
import pytest
from run_records import TRIO

from launch.cli import main
from launch.selection.plan import select
from launch.tables import pictures
from vocl.tracking import media

SCORES = {"none": (0.10, 0.30), "video": (0.52, 0.50), "batch": (0.40, 0.64)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def fill(finish: Callable[..., None], root: Path) -> Callable[..., None]:
    """Records for all runs but those of `leave_out` (row, seed)."""

    def write(arguments: list[str], leave_out: tuple[tuple[str, int], ...] = (), **facts: str) -> None:
        for spec in select(arguments).specs:
            if (spec.row, spec.seed) not in leave_out:
                score = SCORES[spec.row][spec.seed]
                finish(spec, root, video_fg_ari=score, video_mbo=score / 2, image_mbo=None, **facts)

    return write


def lines_of(root: Path, name: str) -> list[dict[str, str]]:
    with (root / "tables" / "trio" / name).open() as file:
        return list(csv.DictReader(file))


def test_numbers(declare, fill, root: Path, capsys) -> None:
    arguments = ["trio", declare(), f"runtime.root={root}"]
    fill(arguments)
    assert main(["table", *arguments]) == 0
    out = capsys.readouterr().out
    assert "20.0 ± 14.1 (2)" in out
    assert "51.0 ± 1.4 (2)" in out
    assert "**52.0** ± 17.0 (2)" in out
    assert (root / "tables" / "trio" / "table.md").read_text() in out
    cells = {(line["row"], line["metric"]): line for line in lines_of(root, "table.csv")}
    for row, scores in SCORES.items():
        cell = cells[row, "video_fg_ari"]
        assert float(cell["mean"]) == pytest.approx(100 * statistics.fmean(scores))
        assert float(cell["std"]) == pytest.approx(100 * statistics.stdev(scores))
        assert (cell["n"], cell["wanted"], cell["best"]) == ("2", "2", str(row == "batch"))
    runs = lines_of(root, "runs.csv")
    assert [(r["row"], r["seed"], float(r["video_mbo"])) for r in runs[:3]] == [
        ("none", "0", 0.05),
        ("none", "1", 0.15),
        ("video", "0", 0.26),
    ]
    assert {(r["state"], r["wall_s"], r["code"]) for r in runs} == {("done", "3.5", "abc")}


def test_scale_and_digits(declare, fill, root: Path, capsys) -> None:
    arguments = ["trio", declare(), f"runtime.root={root}"]
    fill(arguments)
    assert main(["table", *arguments, "table.scale=1", "table.digits=3"]) == 0
    assert "0.510 ± 0.014 (2)" in capsys.readouterr().out


def test_equal_as_shown_is_equally_best(declare, fill, root: Path, capsys) -> None:
    arguments = ["trio", declare(), f"runtime.root={root}"]
    fill(arguments)
    main(["table", *arguments, "table.digits=0", "table.scale=10"])
    assert capsys.readouterr().out.count("**5**") == 2


def test_missing_runs_are_marked_and_counted(declare, fill, root: Path, capsys) -> None:
    arguments = ["trio", declare(), f"runtime.root={root}"]
    fill(arguments, leave_out=(("none", 0), ("none", 1), ("batch", 1)))
    failed = next(s for s in select(arguments).specs if (s.row, s.seed) == ("batch", 1))
    events = root / "runs" / failed.id / "events"
    events.mkdir(parents=True)
    (events / "0001-start.json").touch()
    (events / "0001-failed.json").write_text(json.dumps({"outcome": "failed", "kind": "E", "message": "m"}))
    assert main(["table", *arguments]) == 0
    out = capsys.readouterr().out
    cells = {
        parts[1]: parts[2:-1]
        for parts in ([p.strip() for p in line.split("|")] for line in out.splitlines() if "|" in line)
    }
    assert cells["none"] == ["-- absent", "-- absent"]
    assert "40.0 (1/2)† 1 failed" in out
    assert "**51.0** ± 1.4 (2)" in out  # one lucky seed is no best
    assert (
        f"3 of 6 runs missing (2 absent, 1 failed); vocl submit {' '.join(arguments)} and vocl retry" in out
    )
    assert "--" in (root / "tables" / "trio" / "table.tex").read_text()
    assert [r["state"] for r in lines_of(root, "runs.csv")] == [
        "absent",
        "absent",
        "done",
        "done",
        "done",
        "failed",
    ]


def test_an_empty_table_is_a_table(declare, root: Path, capsys) -> None:
    assert main(["table", "trio", declare(), f"runtime.root={root}"]) == 0
    assert "6 of 6 runs missing (6 absent)" in capsys.readouterr().out


def test_a_table_that_was_submitted_otherwise_is_named(declare, root: Path, capsys) -> None:
    words = ["trio", declare(), f"runtime.root={root}"]
    ids = [spec.id for spec in select([*words, "train.steps=9"]).specs]
    place = root / "by-name" / "trio"
    place.mkdir(parents=True)
    rows = [{"row": "none", "column": "all", "seed": 0, "id": run} for run in ids]
    content = {"arguments": ["trio", "train.steps=9"], "runs": rows}
    (place / "selection.json").write_text(json.dumps(content))
    assert main(["table", *words]) == 0
    note = "note: submitted last was another table: vocl table trio train.steps=9\n"
    assert capsys.readouterr().err == note
    assert main(["table", *words, "train.steps=9"]) == 0
    assert capsys.readouterr().err == ""


def test_protocols_do_not_mix(declare, fill, finish, root: Path, capsys) -> None:
    arguments = ["trio", declare(), f"runtime.root={root}"]
    fill(arguments)
    finish(select(arguments).specs[0], root, protocol="other", video_fg_ari=0.9, video_mbo=0.9)
    assert main(["table", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "mixes protocols (row 'none' by other, row 'none' by vocl)" in error
    assert main(["table", *arguments, "table.protocol=vocl"]) == 2
    assert "scored by protocol other, the table wants vocl" in capsys.readouterr().err
    assert main(["table", *arguments, "table.protocol=null"]) == 0
    told = "mixes protocols, whose numbers do not compare (other: none; vocl: none, "
    assert f"video_fg_ari {told}" in capsys.readouterr().out
    assert told in (root / "tables" / "trio" / "table.tex").read_text()


def test_mixed_code_is_told(declare, fill, finish, root: Path, capsys) -> None:
    arguments = ["trio", declare(), f"runtime.root={root}"]
    fill(arguments)
    finish(select(arguments).specs[0], root, code="def", video_fg_ari=0.9, video_mbo=0.9)
    main(["table", *arguments])
    assert "2 versions of the code: abc (5), def (1)" in capsys.readouterr().out


def test_baseline_groups_and_published(declare, fill, root: Path, tmp_path: Path, capsys) -> None:
    project = declare()
    published = tmp_path / "project" / "conf" / "published" / "paper.yaml"
    published.parent.mkdir()
    published.write_text("rows: {Theirs: {synthetic: {video_mbo: 0.327}}}")
    arguments = ["trio", project, f"runtime.root={root}"]
    fill(arguments)
    settings = ["table.baseline=none", "table.groups=[[batch],[video]]", "table.published=paper"]
    assert main(["table", *arguments, *settings]) == 0
    out = capsys.readouterr().out
    order = [line.split("|")[1].strip() for line in out.splitlines() if line.startswith("| ")][1:]
    assert order[1:] == ["batch", "video", "none", "published: Theirs"]
    assert "+32.0 |" in out  # 0.4 - 0.1 and 0.64 - 0.3: beyond noise
    assert "32.7" in out
    assert (root / "tables" / "trio" / "table.tex").read_text().count(r"\midrule") == 4
    assert "published: by protocol" not in out
    for name, told in (("slotcurri", "slotcontrast, rows by vocl do not compare with it"), ("vocl", None)):
        published.write_text(f"protocol: {name}\n{published.read_text().splitlines()[-1]}")
        assert main(["table", *arguments, *settings]) == 0
        out = capsys.readouterr().out
        assert f"published: by protocol {told}" in out if told else "published: by" not in out


def test_a_published_number_says_what_is_known_of_it(declare, fill, root: Path, tmp_path, capsys) -> None:
    project = declare()
    published = tmp_path / "project" / "conf" / "published" / "paper.yaml"
    published.parent.mkdir()
    published.write_text("""
source: Somebody 2024
rows:
  Theirs:
    synthetic:
      video_fg_ari: {value: 0.5, n: 3}
      video_mbo: {value: 0.327, std: 0.004, n: 5, method: Other, level: image, comparable: "no: few videos"}
""")
    arguments = ["trio", project, f"runtime.root={root}"]
    fill(arguments)
    assert main(["table", *arguments, "table.published=paper"]) == 0
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if line.startswith("| published: Theirs")]
    assert [cell.strip() for cell in line.split("|")[2:-1]] == ["50.0 (3)", "32.7 ± 0.4 (5)≠"]
    assert (
        "- ≠ published, but do not compare with ours (few videos): Theirs on synthetic (video_mbo)\n" in out
    )
    assert "- published: Somebody 2024: Theirs; Theirs (method Other, video_mbo of each image)\n" in out
    assert r"32.7 $\pm$ 0.4 (5)$\neq$" in (root / "tables" / "trio" / "table.tex").read_text()


ODD = r"""
title: 100 % of {x} & y_z
rows:
  "50 % & more_than #1 $x$ {a} ~b ^c \\d": {}
  "a|b <c> ±": {train.steps: 8}
seeds: [0, 1]
metrics: [video_fg_ari]
"""


def test_latex_is_escaped_and_compiles(declare, finish, root: Path, tmp_path: Path, capsys) -> None:
    arguments = ["trio", declare(ODD), f"runtime.root={root}"]
    for index, spec in enumerate(select(arguments).specs):
        finish(spec, root, video_fg_ari=0.1 * index - 0.15)
    assert main(["table", *arguments, "table.groups=[['a|b <c> ±']]"]) == 0
    assert r"a\|b \<c> ±" in capsys.readouterr().out
    path = root / "tables" / "trio" / "table.tex"
    text = path.read_text()
    label = r"50 \% \& more\_than \#1 \$x\$ \{a\} \textasciitilde{}b \textasciicircum{}c \textbackslash{}d"
    assert label in text
    assert r"video\_fg\_ari" in text
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    assert [lines[0], lines[1], lines[-2], lines[-1]] == [
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    assert "$-$10.0" in text


@pytest.mark.parametrize("engine", latex_engine.ENGINES)
def test_latex_compiles(engine: str, declare, finish, root: Path, tmp_path: Path) -> None:
    arguments = ["trio", declare(ODD), f"runtime.root={root}"]
    for spec in select(arguments).specs[1:]:
        finish(spec, root, video_fg_ari=0.1)
    assert main(["table", *arguments]) == 0
    latex_engine.compile_table(engine, (root / "tables" / "trio" / "table.tex").read_text(), tmp_path)


def test_pictures_of_rows_that_left_are_removed(declare, fill, root: Path, monkeypatch) -> None:
    drawing = "import sys; from PIL import Image; Image.new('RGB', (8, 8)).save(sys.argv[3][4:])"
    monkeypatch.setattr(pictures, "SHOW", (sys.executable, "-c", drawing))
    arguments = ["trio", declare(), f"runtime.root={root}"]
    fill(arguments)
    place = root / "tables" / "trio"
    assert main(["table", *arguments, "--pictures"]) == 0
    (place / "mine.png").touch()
    assert {path.name for path in place.glob("*.png")} == {"none.png", "video.png", "batch.png", "mine.png"}
    declare(TRIO.replace("  video: {loss.slot_contrast.group: 1}\n", ""))
    assert main(["table", *arguments]) == 0
    assert {path.name for path in place.glob("*.png")} == {"none.png", "batch.png", "mine.png"}
    assert [picture.path.name for picture in media.read(place)] == ["none.png", "batch.png"]


def test_mistakes(declare, fill, root: Path, capsys) -> None:
    arguments = ["trio", declare(), f"runtime.root={root}"]
    fill(arguments)
    for extra, told in {
        "table.digit=2": "table: digit: unknown key, choose from protocol",
        "table.digits=[": "not an override",
        "table.published=nope": "published=nope: no such choice, choose from ",
        f"runtime.root={root}/runs/x": "",
    }.items():
        code = main(["table", *arguments, extra])
        assert code == (2 if told else 0)
        assert told in capsys.readouterr().err
    assert main(["table", "seed=0"]) == 2
    (root / "runs" / select(arguments).specs[0].id / "result.json").write_text("{}")
    assert main(["table", *arguments]) == 0
    assert "1 of 6 runs missing (1 failed)" in capsys.readouterr().out


def test_a_row_that_differs_in_its_evaluation_is_a_hole_until_scored_so(declare, finish, tmp_path, capsys):
    """Both rows are the same runs."""
    text = """
rows: {forward: {}, cyclic: {eval.discovery.options.cyclic: true}}
seeds: [0]
metrics: [video_mbo]
"""
    arguments = ["twice", declare(text, "twice"), f"runtime.root={tmp_path}/results"]
    forward, cyclic = select(arguments).specs
    assert forward.id == cyclic.id
    finish(forward, tmp_path / "results", video_mbo=0.25)
    report = tmp_path / "results" / "runs" / forward.id / "eval" / ("0" * 10) / "report.json"
    report.parent.mkdir(parents=True)
    entry = {"eval_id": "0" * 10, "protocol": "vocl", "num_videos": 2, "metrics": {}, "rows": "x"}
    report.write_text(json.dumps(entry | {"eval": forward.config.eval["discovery"].content}))
    assert main(["table", *arguments]) == 0
    out = capsys.readouterr().out
    row = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in out.splitlines() if "|" in line}
    assert row["forward"].strip("*").startswith("25.0") or row["forward"].strip("*").startswith("0.25")
    assert row["cyclic"] == "-- unscored"
    assert "1 runs not scored as their row asks yet (discovery); vocl fill " in out
