from __future__ import annotations

import functools
import importlib
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from running import child, wait

from launch.ablations.ablation import read
from launch.ablations.overrides import read_yaml
from launch.selection.plan import select
from vocl import train
from vocl.config import folders
from vocl.config.check import check
from vocl.config.compose import compose, group_choices
from vocl.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]
EXPERIMENTS = group_choices("experiment")
DEBUG = {"none": True, "tiny": True, "overfit": False, "profile": False}  # whether with all in the fast tests
ABLATIONS = group_choices("ablation")


@functools.cache
def as_it_is(experiment: str) -> dict[str, Any]:
    """The composed experiment, not to be changed: composing takes long."""
    return compose([f"experiment={experiment}"])


def terms_set_by(experiment: str) -> list[str]:
    """Loss terms that the experiment chooses or sets numbers of."""
    composed = list(as_it_is(experiment)["loss"])
    own = read_yaml(folders.CONF / "experiment" / f"{experiment}.yaml").get("loss") or {}
    return sorted({*composed, *own})


CASES = [(experiment, term) for experiment in EXPERIMENTS for term in terms_set_by(experiment)]


def test_the_globs_found_something() -> None:
    assert "slotcontrast/synthetic" in EXPERIMENTS
    assert "demo" in ABLATIONS
    assert CASES


@pytest.mark.parametrize(
    ("experiment", "debug"),
    [
        pytest.param(experiment, debug, marks=[] if kept or "synthetic" in experiment else pytest.mark.slow)
        for experiment, (debug, kept) in itertools.product(EXPERIMENTS, DEBUG.items())
    ],
)
def test_an_experiment_composes(experiment: str, debug: str) -> None:
    config = check(compose([f"experiment={experiment}", f"debug={debug}"]))
    assert (config.dataset.first_batches == 1) == (debug == "overfit")
    assert (config.runtime.profile_steps > 0) == (debug == "profile")
    if debug == "tiny":
        assert config.dataset.name == "synthetic"
        assert config.backbone["_target_"] == "vocl.nn.backbones.vit.RandomViT"
        assert config.train.steps <= 10


@pytest.mark.parametrize("debug", ["none", "tiny"])
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_an_ablation_composes(ablation: str, debug: str) -> None:
    selection = select([ablation, f"debug={debug}"])
    declared = read(ablation)
    places = itertools.product(declared.rows.values(), declared.columns.values(), declared.seeds)
    assert len(selection.specs) == sum(declared.keeps(*place) for place in places) > 0
    if debug == "tiny":
        assert all(spec.config.train.steps <= 10 for spec in selection.specs)
        assert all(spec.config.dataset.name == "synthetic" for spec in selection.specs)


@pytest.mark.parametrize(("experiment", "term"), CASES)
def test_a_term_left_out_is_gone_though_the_experiment_sets_its_numbers(experiment: str, term: str) -> None:
    composed = as_it_is(experiment)
    rest = [name for name in composed["loss"] if name != term] or [
        t for t in group_choices("loss") if t != term
    ][:1]
    config = compose([f"experiment={experiment}", f"loss=[{','.join(rest)}]"])
    assert sorted(config["loss"]) == sorted(rest)
    if term in composed["loss"] and len(composed["loss"]) > 1:
        named = [s["terms"] for s in config["curriculum"]["stages"].values() if s["terms"] != "all"]
        if any(term in terms for terms in named):  # a stage that trains on it would have nothing left
            with pytest.raises(
                UserError, match=rf"curriculum.stages.\w+.terms: no term '{term}', choose from"
            ):
                check(config)
        else:
            check(config)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_no_evaluation_beside_an_experiment_that_sets_numbers_of_some(experiment: str) -> None:
    try:
        assert compose([f"experiment={experiment}", "eval=[]"])["eval"] == {}
    except UserError as error:
        assert re.search(r"so (\w+) cannot be left out; choose eval=\[\1\] or more", str(error))


def run(arguments: list[str], root: Path) -> dict[str, float]:
    """The scores of a run in a process of its own, forked: what it imports takes longer than all it does."""
    for name in ("timm", "torchmetrics"):
        importlib.import_module(name)
    words = [*arguments, "debug=tiny", f"runtime.root={root}", "runtime.threads=1"]
    code = wait(child(lambda: train.main(words), log=root / "printed"))
    assert code == 0, (root / "printed").read_text()
    (result,) = root.glob("runs/*/result.json")
    return json.loads(result.read_text())["metrics"]


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_runs_without_data_or_weights(experiment: str, tmp_path: Path) -> None:
    metrics = run([f"experiment={experiment}"], tmp_path)
    fractions = [value for name, value in metrics.items() if name.endswith(("_mbo", "_j", "_jf"))]
    assert fractions and all(0 <= value <= 1 for value in fractions)
