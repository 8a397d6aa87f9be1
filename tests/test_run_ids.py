"""Identities survive development: a run that was trained yesterday is the same run today."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launch.selection.plan import select
from vocl.config.compose import composed

KNOWN = json.loads((Path(__file__).parent / "run_ids.json").read_text())


@pytest.mark.parametrize("experiment", KNOWN["experiments"])
def test_an_experiment_keeps_its_run_id(experiment: str) -> None:
    assert composed([f"experiment={experiment}"]).run_id == KNOWN["experiments"][experiment]


@pytest.mark.parametrize("ablation", KNOWN["ablations"])
def test_the_runs_of_an_ablation_keep_their_ids(ablation: str) -> None:
    found = {spec.label: spec.id for spec in select([ablation]).specs}
    assert KNOWN["ablations"][ablation].items() <= found.items()
