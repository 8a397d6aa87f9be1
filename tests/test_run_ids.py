"""Identities survive development: a run that was trained yesterday is the same run today."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launch.selection.plan import select
from vocl.config import identity
from vocl.config.check import check
from vocl.config.compose import compose

KNOWN = json.loads((Path(__file__).parent / "run_ids.json").read_text())


@pytest.mark.parametrize("experiment", KNOWN["experiments"])
def test_an_experiment_keeps_its_run_id(experiment: str) -> None:
    assert identity.run_id(check(compose([f"experiment={experiment}"]))) == KNOWN["experiments"][experiment]


@pytest.mark.parametrize("ablation", KNOWN["ablations"])
def test_the_runs_of_an_ablation_keep_their_ids(ablation: str) -> None:
    found = {spec.label: spec.id for spec in select([ablation]).specs}
    assert KNOWN["ablations"][ablation].items() <= found.items()
