"""Published scores: what a file says, what a table shows of it, and what is wrong with a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.cli import main
from launch.tables.published import PublishedScore, scores
from vocl.config.compose import group_choices

FILE = """
source: Their paper
protocol: slotcontrast
n: 3
rows:
  Loose: {synthetic: {video_mbo: 0.25}}
tables:
  2:
    comparable: "no: other videos"
    method: Theirs
    rows:
      theirs:
        synthetic:
          video_mbo: {value: 0.327, std: 0.01, n: 5}
          video_fg_ari: 0.5
      theirs, rerun:
        source: A fork
        comparable: yes
        level: image
        synthetic: {single_object/single_oracle_j: 0.4}
  main:
    rows: {Others: {synthetic: {video_mbo: 0.5}}}
"""


@pytest.fixture
def publish(tmp_path: Path):
    """Writes conf/published/paper.yaml of a project; returns the folder."""

    def write(text: str) -> Path:
        path = tmp_path / "project" / "conf" / "published" / "paper.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return tmp_path / "project"

    return write


def complaint(capsys) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_words_hold_below_until_another_one(publish) -> None:
    project = str(publish(FILE))
    loose, mbo, ari, rerun, other = scores("paper", project)
    assert mbo == PublishedScore(
        row="theirs",
        dataset="synthetic",
        metric="video_mbo",
        value=0.327,
        std=0.01,
        n=5,
        method="Theirs",
        level="video",
        source="Their paper",
        table="2",
        protocol="slotcontrast",
        why="other videos",
    )
    assert (loose.method, loose.table, loose.comparable, loose.std) == ("Loose", None, True, None)
    assert (ari.n, ari.comparable, ari.where) == (3, False, "Their paper, table 2")
    assert (rerun.source, rerun.comparable, rerun.level) == ("A fork", True, "image")
    assert other.where == "Their paper"
    assert scores("paper/2", project) == [mbo, ari, rerun]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rows: {a: {x: {mbo: high}}}", "rows.a.x.mbo=high: expected a number"),
        (
            "rows: {a: {x: {mbo: {std: 0.1}}}}",
            "rows.a.x.mbo=None: expected a number",
        ),
        (
            "rows: {a: {x: {mbo: {value: 1, std: -1}}}}",
            "mbo.std=-1: expected a number >= 0",
        ),
        (
            "rows: {a: {x: {mbo: {value: 1, sd: 1}}}}",
            "mbo: sd: unknown key, choose from value",
        ),
        ("rows: {a: {x: 0.5}}", "rows.a.x: expected a mapping, not 0.5"),
        ("rows: {a: {n: 0, x: {}}}", "rows.a.n=0: expected a whole number >= 1"),
        ("comparable: no", 'comparable=False: expected yes, or "no: " and why'),
        ("rows: {a: {comparable: 'no: ', x: {}}}", 'rows.a.comparable=no: : expected yes, or "no: "'),
        ("protocol: nothing", "protocol=nothing: unknown, choose from davis2017, interpreter"),
        ("tables: {2: {level: word, rows: {}}}", "tables.2.level=word: unknown, choose from video, image"),
        ("tables: {2: {row: {}}}", "tables.2: row: unknown key, choose from source"),
        ("scores: {}", "scores: unknown key, choose from source"),
        ("source: [a, b]", "source=['a', 'b']: expected text"),
        ("rows: {", "paper.yaml:1:8: not valid YAML"),
    ],
)
def test_a_wrong_file_is_told_by_its_key(publish, capsys, text: str, told: str) -> None:
    project = publish(text)
    assert main(["verify", f"project={project}"]) == 2
    line = complaint(capsys)
    assert str(project / "conf" / "published" / "paper.yaml") in line and told in line


def table(project: Path, root: Path, name: str) -> int:
    ablation = project / "conf" / "ablation" / "one.yaml"
    ablation.parent.mkdir(parents=True, exist_ok=True)
    ablation.write_text("rows: {ours: {}}\nseeds: [0]\nmetrics: [video_mbo]\n")
    return main(["table", "one", f"project={project}", f"runtime.root={root}", f"table.published={name}"])


def test_a_table_says_whose_rows_it_shows_and_which_do_not_compare(publish, tmp_path: Path, capsys) -> None:
    project = publish(FILE)
    assert table(project, tmp_path / "results", "paper") == 0
    out = capsys.readouterr().out
    assert "published: Loose" in out and "32.7" in out and "50.0" in out and "rerun" not in out
    assert "- published: Their paper, table 2: theirs\n" in out
    assert "- published: Their paper: Loose; Others\n" in out
    assert "- ≠ published, but do not compare with ours (other videos): theirs\n" in out

    assert table(project, tmp_path / "results", "paper/main") == 0
    out = capsys.readouterr().out
    assert "published: Others" in out and "theirs" not in out and "do not compare" not in out

    assert table(project, tmp_path / "results", "paper/3") == 2
    assert "published=paper/3: no such choice, choose from paper, paper/2, paper/main" in complaint(capsys)


@pytest.mark.parametrize("name", group_choices("published"))
def test_a_file_of_ours_says_where_each_number_stands(name: str) -> None:
    found = scores(name, None)
    assert found
    for score in found:
        assert score.source and score.protocol and score.level, score
        most = 2 if score.metric == "video_fragmentation" else 1  # a number of slots
        assert 0 < score.value < most and (score.std is None or score.std < 0.05), score
