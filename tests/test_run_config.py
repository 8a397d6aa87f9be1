"""A typed config gives back what it was made of, to the byte, and is changed without changing that."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace

import pytest
import yaml

from vocl.config import identity
from vocl.config.compose import composed
from vocl.config.run_config import RunConfig
from vocl.config.schema import ROOT

OWN_DATASET = ["+dataset@eval.discovery.dataset=synthetic"]
CHOICES = {
    "terms and evaluations": ["debug=tiny"],
    "an evaluation's own dataset": OWN_DATASET,
    "a warm start": ["debug=tiny", "warm_start={run: abc, take: ['*']}"],
    "nothing to train": ["experiment=baselines/synthetic", "loss=[]", "model=backbone_only", "eval=[]"],
    "a term on a level": ["experiment=interpreter/synthetic", "debug=tiny"],
    "augmentations": [
        "debug=tiny",
        "dataset.augment=[{_target_: vocl.data.augment.colour.Grayscale, p: 0.2}]",
    ],
}


@pytest.mark.parametrize("overrides", CHOICES.values(), ids=list(CHOICES))
def test_a_config_gives_back_what_it_was_made_of(overrides: list[str]) -> None:
    content = composed(overrides)
    config = RunConfig.of(content)
    assert yaml.safe_dump(config.content, sort_keys=False) == yaml.safe_dump(content, sort_keys=False)
    assert RunConfig.of(config.content) == config
    assert (config.run_id, config.cell_id()) == (identity.run_id(content), identity.cell_id(content))


def test_its_fields_stand_in_the_order_in_which_they_are_saved() -> None:
    assert tuple(field.name for field in fields(RunConfig)) == ROOT


def test_a_changed_config_is_another() -> None:
    config = RunConfig.of(composed(["debug=tiny"]))
    moved = replace(config, runtime=replace(config.runtime, root="elsewhere"))
    longer = replace(config, train=replace(config.train, steps=config.train.steps + 1))
    again = replace(config, seed=config.seed + 1)
    assert moved.content["runtime"]["root"] == "elsewhere" != config.content["runtime"]["root"]
    assert moved.run_id == config.run_id and longer.run_id != config.run_id
    assert again.run_id != config.run_id and again.cell_id() == config.cell_id()
    with pytest.raises(FrozenInstanceError):
        config.seed = 1  # type: ignore[misc]


def test_an_evaluation_scores_on_its_own_dataset_or_the_runs() -> None:
    assert (plain := RunConfig.of(composed(["debug=tiny"]))).dataset_of("discovery") is plain.dataset
    config = RunConfig.of(composed(OWN_DATASET))
    assert config.dataset_of("discovery") is config.eval["discovery"].dataset is not config.dataset
    assert config.dataset_of() is config.dataset


def test_terms_and_evaluations_have_what_all_of_them_have_beside_their_part() -> None:
    config = RunConfig.of(composed(["debug=tiny"]))
    for name, term in config.loss.items():
        assert term.part["_target_"] and "weight" not in term.part and "level" not in term.part, name
    for name, evaluation in config.eval.items():
        assert evaluation.part["_target_"] and "dataset" not in evaluation.part, name
