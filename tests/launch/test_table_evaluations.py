"""Tables of several evaluations: names, directions, units, and why a place is empty."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from launch.cli import main
from launch.selection.plan import Spec, select
from vocl.measure import Measure

PROBE = """
from typing import ClassVar
from vocl.interface import Evaluation

class Probe(Evaluation):
    SCORES
    def __init__(self, *, split: str) -> None: ...
"""
DUO = """
base: {eval: [discovery, probe]}
rows: {a: {}, b: {train.steps: 9}}
seeds: [0, 1]
metrics: [METRICS]
"""
LESS = {"mse": Measure(higher_is_better=False, scale=1, digits=4), "count": Measure(None, 1, 0)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def duo(declare, root: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """Declares a table of two rows with two evaluations; returns its arguments."""

    def write(metrics: str, scores: str = "") -> list[str]:
        chosen = declare(DUO.replace("METRICS", metrics), "duo")
        (package,) = (tmp_path / "project").glob("outside_*")
        (package / "probe.py").write_text(PROBE.replace("SCORES", scores))
        conf = tmp_path / "project" / "conf" / "eval" / "probe.yaml"
        conf.parent.mkdir(exist_ok=True)
        target = f"_target_: {package.name}.probe.Probe\ndataset: null\nsplit: validation\n"
        conf.write_text(f"# @package eval.probe\n{target}")
        return ["duo", chosen, f"runtime.root={root}"]

    return write


@pytest.fixture
def score(root: Path) -> Callable[..., None]:
    """Writes the result of a run: scores by evaluation, with the settings of its config."""

    def write(spec: Spec, failed: dict[str, str] | None = None, codes: str = "c0de", **scores: Any) -> None:
        folder, evals = root / "runs" / spec.id, {}
        for number, (name, metrics) in enumerate(scores.items()):
            entry = {
                "eval_id": f"{number}" * 10,
                "protocol": "vocl" if name == "discovery" else "linear",
                "num_videos": 2,
                "metrics": metrics,
                "measures": {key: asdict(measure) for key, measure in LESS.items() if key in metrics},
                "rows": "x",
            }
            evals[name] = entry
            report = folder / "eval" / entry["eval_id"] / "report.json"
            report.parent.mkdir(parents=True, exist_ok=True)
            report.write_text(json.dumps(entry | {"eval": spec.config.eval[name].content, "code": codes}))
        result = {"run_id": spec.id, "metrics": {}, "evals": evals} | ({"failed": failed} if failed else {})
        (folder / "result.json").write_text(json.dumps(result))

    return write


def cells(out: str) -> dict[str, list[str]]:
    rows = [[part.strip() for part in line.split("|")] for line in out.splitlines() if "|" in line]
    return {row[1]: row[2:-1] for row in rows}


def four(arguments: list[str], score: Callable[..., None], **changed: Any) -> None:
    """Scores of both rows: the mean square error of b is the smaller one."""
    for spec in select(arguments).specs:
        b = spec.row == "b"
        probe = {"mse": 0.5 - 0.25 * b + 0.01 * spec.seed, "r2": 0.2 + 0.5 * b, "count": 3 + b}
        score(spec, discovery={"video_mbo": 0.4 - 0.1 * b, "r2": 0.9}, probe=probe | changed)


def test_evaluations_side_by_side(duo, score, root: Path, capsys) -> None:
    arguments = duo("video_mbo, probe/mse, probe/r2, probe/count, r2")
    four(arguments, score)
    assert main(["table", *arguments]) == 0
    out = capsys.readouterr().out
    found = cells(out)
    assert found[""] == [f"all {m}" for m in ("video_mbo", "probe/mse", "probe/r2", "probe/count", "r2")]
    assert found["a"] == [
        "**40.0** ± 0.0 (2)",
        "0.5050 ± 0.0071 (2)",
        "20.0 ± 0.0 (2)",
        "3 ± 0 (2)",
        "**90.0** ± 0.0 (2)",
    ]
    assert found["b"] == [
        "30.0 ± 0.0 (2)",
        "**0.2550** ± 0.0071 (2)",
        "**70.0** ± 0.0 (2)",
        "4 ± 0 (2)",
        "**90.0** ± 0.0 (2)",
    ]
    assert "fractions x 100; in a unit of its own: probe/mse, probe/count; protocol: linear, vocl" in out
    assert "- less is better: probe/mse\n- neither direction is better: probe/count\n" in out
    tex = (root / "tables" / "duo" / "table.tex").read_text()
    assert r"\textbf{0.2550}" in tex and r"probe/mse" in tex
    with (root / "tables" / "duo" / "table.csv").open() as file:
        lines = {(line["row"], line["metric"]): line for line in csv.DictReader(file)}
    assert float(lines["b", "probe/mse"]["mean"]) == pytest.approx(0.255)
    assert [lines["b", m]["scale"] for m in ("video_mbo", "probe/mse")] == ["100.0", "1.0"]
    assert [lines["b", m]["best"] for m in ("video_mbo", "probe/mse", "probe/count")] == [
        "False",
        "True",
        "False",
    ]
    with (root / "tables" / "duo" / "runs.csv").open() as file:
        first = next(iter(csv.DictReader(file)))
    assert (first["video_mbo"], first["probe/mse"], first["discovery/video_mbo"]) == ("0.4", "0.5", "0.4")
    assert first["discovery/r2"] == first["r2"] == "0.9" and first["probe/r2"] == "0.2"


def test_a_tables_scale_is_that_of_fractions(duo, score, capsys) -> None:
    arguments = duo("video_mbo, probe/mse")
    four(arguments, score)
    assert main(["table", *arguments, "table.scale=1", "table.digits=2"]) == 0
    assert cells(capsys.readouterr().out)["a"] == ["**0.40** ± 0.00 (2)", "0.5050 ± 0.0071 (2)"]


def test_why_a_place_is_empty(duo, score, root: Path, capsys) -> None:
    arguments = duo("video_mbo, probe/mse", "scores = frozenset({'mse', 'video_mbo'})")
    a0, a1, b0, b1 = select(arguments).specs
    score(a0, discovery={"video_mbo": 0.5}, probe={"mse": 0.5, "video_mbo": 0.7})
    score(a1, discovery={"video_mbo": None}, probe={"mse": 0.3})
    score(b0, discovery={"video_mbo": 0.5}, failed={"probe": "ValueError: no"})
    score(b1, probe={"mse": 0.25, "video_mbo": 0.7})
    assert main(["table", *arguments]) == 0
    out = capsys.readouterr().out
    found = cells(out)
    assert found["a"] == ["50.0 (1/2)† 1 undefined", "**0.4000** ± 0.1414 (2)"]
    # never the probe's score in discovery's place
    assert found["b"] == ["50.0 (1/2)† 1 unscored", "0.2500 (1/2)† 1 scoring failed"]
    assert "† and --: of 1 seed: the score is undefined (video_mbo)" in out
    assert "† and --: 1 runs not scored as their row asks yet (discovery); vocl fill duo" in out
    assert "† and --: probe failed in 1 runs (ValueError: no); to try it again: vocl fill duo" in out
    with (root / "tables" / "duo" / "runs.csv").open() as file:
        assert [line["state"] for line in csv.DictReader(file)] == ["done", "done", "unscored", "unscored"]


def test_nothing_is_scored_yet(duo, score, capsys) -> None:
    arguments = duo("probe/mse")
    for spec in select(arguments).specs:
        score(spec, discovery={"video_mbo": 0.5})
    assert main(["table", *arguments]) == 0
    out = capsys.readouterr().out
    assert cells(out)["a"] == ["-- unscored"] and "4 runs not scored as their row asks yet (probe)" in out


@pytest.mark.parametrize(
    ("metrics", "scores", "told"),
    [
        ("prob/mse", "", "metrics: prob/mse: no row has evaluation 'prob', choose from discovery, probe"),
        ("discovery/mse", "", "no evaluation gives 'discovery/mse', choose from discovery/image_ari, "),
        ("mse2", "scores = frozenset({'mse'})", "no evaluation gives 'mse2', choose from image_ari, "),
        (
            "probe/mse2",
            "scores = frozenset({'mse'})",
            "no evaluation gives 'probe/mse2', choose from probe/mse;",
        ),
    ],
)
def test_unknown_names_are_refused_at_plan(duo, metrics: str, scores: str, told: str, capsys) -> None:
    assert main(["plan", *duo(metrics, scores)]) == 2
    err = capsys.readouterr().err
    assert told in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("metrics", "told"),
    [
        ("mes", "metrics: no run has 'mes', choose from count, mse, r2, video_mbo"),
        ("probe/mes", "no run has 'probe/mes', choose from discovery/r2, discovery/video_mbo, probe/count"),
    ],
)
def test_what_an_evaluation_does_not_declare_is_told_by_its_scores(
    duo, score, metrics: str, told: str, capsys
) -> None:
    arguments = duo(metrics)
    assert main(["table", *arguments]) == 0
    four(arguments, score)
    capsys.readouterr()
    assert main(["table", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_published_scores_of_the_evaluations_own_dataset(duo, score, tmp_path: Path, capsys) -> None:
    arguments = duo("video_mbo, probe/r2, probe/mse")
    folder = tmp_path / "project" / "conf"
    (folder / "eval" / "probe.yaml").write_text(
        (folder / "eval" / "probe.yaml")
        .read_text()
        .replace(
            "# @package eval.probe\n",
            "# @package eval.probe\ndefaults:\n  - /dataset@dataset: synthetic\n  - _self_\n",
        )
        .replace("dataset: null", "dataset: {name: elsewhere}")
    )
    four(arguments, score)
    published = folder / "published" / "paper.yaml"
    published.parent.mkdir()
    scores = "{synthetic: {video_mbo: 0.327, r2: 0.1, probe/mse: 0.7}, elsewhere: {r2: 0.815}}"
    published.write_text(f"rows: {{Theirs: {scores}}}")
    assert main(["table", *arguments, "table.published=paper"]) == 0
    assert cells(capsys.readouterr().out)["published: Theirs"] == ["32.7", "81.5", "0.7000"]


def test_protocols_mix_by_metric_and_a_probe_has_none(duo, score, root: Path, capsys) -> None:
    arguments = duo("video_mbo, probe/mse")
    four(arguments, score)
    assert main(["table", *arguments, "table.protocol=vocl"]) == 0
    assert cells(capsys.readouterr().out)["a"][1].startswith("0.5050")
    assert main(["table", *arguments, "table.protocol=solv"]) == 2
    assert "scored by protocol vocl, the table wants solv" in capsys.readouterr().err


def test_mixed_code_of_an_evaluation_is_told(duo, score, capsys) -> None:
    arguments = duo("probe/mse")
    for spec in select(arguments).specs:
        codes = "old" if spec.row == "a" else "new"
        score(spec, codes=codes, discovery={"video_mbo": 0.5}, probe={"mse": 0.5})
    assert main(["table", *arguments]) == 0
    out = capsys.readouterr().out
    told = "old (2), new (2); ‡: not all by the first; to score a run again: "
    assert f"probe: scores by 2 versions of its code: {told}" in out
    assert [cells(out)[row][0][-1] for row in "ab"] == [")", "‡"]


def test_scores_by_a_protocol_that_meant_something_else_then_do_not_count(duo, score, root, capsys) -> None:
    arguments = duo("video_mbo")
    specs = select(arguments).specs
    for spec in specs:
        score(spec, discovery={"video_mbo": 0.25})
    path = root / "runs" / specs[0].id / "eval" / "0000000000" / "report.json"
    report = json.loads(path.read_text())
    report["eval"]["protocol"]["labels"] = "matched"
    path.write_text(json.dumps(report))
    assert main(["table", *arguments]) == 0
    said = capsys.readouterr().out
    assert "4 runs not scored as their row asks yet (discovery, probe)" in said and "25.0 (1/2)" in said


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["eval.discovery.protocol.clip_frames=5"], "clip_frames=5, objects=all"),
        (
            ["eval/protocol@eval.discovery.protocol=randsfq"],
            "conditional=true: protocol randsfq scores",
        ),
    ],
)
def test_a_protocol_that_scores_nothing_is_refused_before_training(asked, said, tmp_path, capsys) -> None:
    sizes = ["dataset=synthetic", "dataset.source.num_frames=4", "dataset.clip_frames=2"]
    words = [*sizes, "eval=[discovery]", *asked, f"runtime.root={tmp_path}"]
    assert main(["train", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error
    assert not list(tmp_path.glob("runs/*/checkpoints/*"))
