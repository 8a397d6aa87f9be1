"""A table believes a result only where it is that of its run and its scores are numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launch.cli import main
from launch.selection.plan import Spec, select


@pytest.fixture
def trio(declare: Callable[..., str], finish: Callable[..., None], tmp_path: Path) -> tuple[list[str], Path]:
    """Arguments of a table whose six runs are done, and its root."""
    root = tmp_path / "results"
    arguments = ["trio", declare(), f"runtime.root={root}"]
    for number, spec in enumerate(select(arguments).specs):
        finish(spec, root, video_fg_ari=0.1 * number, video_mbo=0.5)
    return arguments, root


def change(root: Path, spec: Spec, edit: Callable[[dict[str, Any]], None]) -> None:
    path = root / "runs" / spec.id / "result.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert main(list(arguments)) == code
    out, error = capsys.readouterr()
    assert error.count("\n") == (1 if code == 2 else 0), error
    return out + error


def entry(content: dict[str, Any]) -> dict[str, Any]:
    return content["evals"]["discovery"]


def test_result_of_another_run_counts_for_nobody(trio, capsys) -> None:
    arguments, root = trio
    first, second = select(arguments).runs[:2]
    before = said(capsys, "table", *arguments)
    other = (root / "runs" / second.id / "result.json").read_text()
    (root / "runs" / first.id / "result.json").write_text(other)
    out = said(capsys, "table", *arguments)
    assert "10.0 (1/2)†" in out and before.count("(2)") == out.count("(2)") + 2
    assert f"{first.id}/result.json: damaged, that of another run, {second.id}" in out
    assert f"vocl retry {first.id}" in out
    assert "result.json damaged" in said(capsys, "why", first.id, f"runtime.root={root}")


def test_result_of_another_seed_counts_for_nobody(trio, capsys) -> None:
    arguments, root = trio
    spec = select(arguments).runs[0]
    change(root, spec, lambda content: content.update(seed=0))
    assert "damaged" not in said(capsys, "table", *arguments)
    change(root, spec, lambda content: content.update(seed=7))
    out = said(capsys, "table", *arguments)
    assert f"{spec.id}/result.json: damaged, says seed 7 where the run has 0" in out
    assert "10.0 (1/2)†" in out


SCORES = {
    "text": "0.5",
    "list": [0.5],
    "mapping": {"mean": 0.5},
    "true": True,
    "not a number": float("nan"),
    "infinity": float("inf"),
    "minus infinity": float("-inf"),
    "beyond floats": 10**400,
}


@pytest.mark.parametrize("score", SCORES.values(), ids=list(SCORES))
def test_score_that_is_no_number_is_told_and_hides_no_other_run(trio, capsys, score) -> None:
    arguments, root = trio
    spec = select(arguments).runs[0]
    change(root, spec, lambda content: entry(content)["metrics"].update(video_fg_ari=score))
    out = said(capsys, "table", *arguments)
    assert "10.0 (1/2)†" in out and out.count("(2)") == 4
    assert f"{spec.id}/result.json: damaged; to evaluate the run again: vocl retry {spec.id}" in out
    assert "1 of 6 runs missing (1 failed)" in out


FIELDS = {
    "seed": lambda content: content.update(seed="0"),
    "wall time": lambda content: content.update(wall_s=float("nan")),
    "failures": lambda content: content.update(failed={"probe": ["why"]}),
    "videos": lambda content: entry(content).update(num_videos=True),
    "protocol": lambda content: entry(content).update(protocol=3),
    "first scores": lambda content: content.update(metrics={"video_fg_ari": "high"}),
}


@pytest.mark.parametrize("edit", FIELDS.values(), ids=list(FIELDS))
def test_other_fields_of_a_wrong_kind_hide_no_other_run(trio, capsys, edit) -> None:
    arguments, root = trio
    change(root, select(arguments).runs[0], edit)
    out = said(capsys, "table", *arguments)
    assert out.count("(2)") == 4 and "result.json: damaged" in out


@pytest.mark.parametrize("digits", [-1, 10, 10**6, 1.5, "2"])
def test_decimals_that_nobody_can_show_are_those_of_the_table(trio, capsys, digits) -> None:
    arguments, root = trio
    said_of = {"video_mbo": {"higher_is_better": True, "scale": 100.0, "digits": digits}}
    for spec in select(arguments).runs:
        change(root, spec, lambda content: entry(content).update(measures=said_of))
    assert "50.0** ± 0.0 (2)" in said(capsys, "table", *arguments)


def test_deep_nesting_is_damage(trio, capsys) -> None:
    arguments, root = trio
    spec = select(arguments).runs[0]
    (root / "runs" / spec.id / "result.json").write_text("[" * 100_000)
    assert "result.json: damaged" in said(capsys, "table", *arguments)


TABLE = "rows: {a: {}}\nseeds: [0]\nmetrics: [video_mbo]\ntable: {protocol: PROTOCOL}"


@pytest.mark.parametrize("verb", ["plan", "table", "submit"])
def test_protocol_that_nobody_knows_is_refused_with_the_choices(declare, tmp_path, capsys, verb) -> None:
    place = f"runtime.root={tmp_path}"
    chosen = declare(TABLE.replace("PROTOCOL", "slotcontrasts"), "one")
    out = said(capsys, verb, "one", chosen, place, code=2)
    assert "table.protocol=slotcontrasts: unknown, choose from same, " in out and " slotcontrast, " in out
    assert "slotcurri" not in out, "its file has the protocol slotcontrast"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("protocol", ["same", "null", "solv", "mine"])
def test_known_protocols_pass(declare, tmp_path, capsys, protocol) -> None:
    chosen = declare(TABLE.replace("PROTOCOL", protocol), "one")
    own = tmp_path / "project" / "conf" / "eval" / "protocol" / "own.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("_target_: vocl.evaluate.protocol.Protocol\nname: mine\nresolution: truth\n")
    said(capsys, "plan", "one", chosen, f"runtime.root={tmp_path}")


def test_protocol_of_the_command_line_is_checked_too(declare, tmp_path, capsys) -> None:
    chosen = declare(TABLE.replace("PROTOCOL", "same"), "one")
    out = said(capsys, "table", "one", chosen, f"runtime.root={tmp_path}", "table.protocol=sol", code=2)
    assert "table.protocol=sol: unknown, choose from same, " in out
