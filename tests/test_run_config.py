"""A typed config gives back what it was made of, to the byte, and is changed without changing that."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import pytest
import yaml

from vocl.config import identity
from vocl.config.check import check
from vocl.config.cluster import LocalCluster, SlurmCluster
from vocl.config.compose import compose, composed
from vocl.config.folders import packages
from vocl.config.migrate import migrate
from vocl.config.proof import signature
from vocl.config.run_config import RunConfig, values
from vocl.config.schema import ROOT, section_types
from vocl.errors import UserError

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
    config = composed(overrides)
    content = config.content
    assert RunConfig.of(content) == config
    assert check(content) == config
    saved = yaml.safe_dump(content, sort_keys=False)
    assert yaml.safe_dump(RunConfig.of(yaml.safe_load(saved)).content, sort_keys=False) == saved
    assert (config.run_id, config.cell_id()) == (identity.run_id(content), identity.cell_id(content))


def test_a_section_is_saved_in_the_order_of_its_class() -> None:
    config = composed(["debug=tiny", "cluster=slurm"])
    sections = {"Train": config.train, "Dataset": config.dataset, "Runtime": config.runtime}
    for name, section in sections.items():
        assert list(values(section)) == list(section_types(name))
    read = signature.read("vocl.config.cluster.SlurmCluster", packages(None))
    assert list(values(config.cluster)) == list(read.parameters)


def test_its_fields_stand_in_the_order_in_which_they_are_saved() -> None:
    assert tuple(field.name for field in fields(RunConfig)) == ROOT


def test_a_changed_config_is_another() -> None:
    config = composed(["debug=tiny"])
    moved = replace(config, runtime=replace(config.runtime, root="elsewhere"))
    longer = replace(config, train=replace(config.train, steps=config.train.steps + 1))
    again = replace(config, seed=config.seed + 1)
    assert moved.content["runtime"]["root"] == "elsewhere" != config.content["runtime"]["root"]
    assert moved.run_id == config.run_id and longer.run_id != config.run_id
    assert again.run_id != config.run_id and again.cell_id() == config.cell_id()
    with pytest.raises(FrozenInstanceError):
        config.seed = 1  # type: ignore[misc]


def test_an_evaluation_scores_on_its_own_dataset_or_the_runs() -> None:
    assert (plain := composed(["debug=tiny"])).dataset_of("discovery") is plain.dataset
    config = composed(OWN_DATASET)
    assert config.dataset_of("discovery") is config.eval["discovery"].dataset is not config.dataset
    assert config.dataset_of() is config.dataset


def test_terms_and_evaluations_have_what_all_of_them_have_beside_their_part() -> None:
    config = composed(["debug=tiny"])
    for name, term in config.loss.items():
        assert term.part["_target_"] and "weight" not in term.part and "level" not in term.part, name
    for name, evaluation in config.eval.items():
        assert evaluation.part["_target_"] and "dataset" not in evaluation.part, name


# ------------------------------------------------------------------------------------------ cluster


def test_the_kind_of_a_cluster_says_which_keys_it_has() -> None:
    kinds = {"here": LocalCluster, "local": LocalCluster, "slurm": SlurmCluster}
    for kind, section in kinds.items():
        found = composed(["debug=tiny", f"cluster={kind}"]).cluster
        assert type(found) is section and found.kind == kind


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["cluster=here", "cluster.partition=x"],
            r"^cluster\.partition: no such key, choose from cluster\.kind",
        ),
        (
            ["cluster=local", "+cluster.gpus=1"],
            r"^cluster\.gpus: unknown key, choose from kind, slots, wait$",
        ),
        (
            ["cluster=slurm", "+cluster.slots=2"],
            r"^cluster\.slots: unknown key, choose from kind, wait, account",
        ),
        (["cluster.kind=slurm"], r"^cluster\.slots: unknown key"),
        (["cluster.kind=pbs"], r"^cluster\.kind=pbs: choose from here, local, slurm$"),
    ],
)
def test_a_key_of_another_kind_of_cluster_is_a_mistake_of_one_line(overrides: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        composed(overrides)
    assert "\n" not in str(error.value)


def test_a_cluster_of_ones_own_inherits_from_slurm(tmp_path: Path) -> None:
    group = tmp_path / "conf" / "cluster"
    group.mkdir(parents=True)
    (group / "mine.yaml").write_text("defaults: [slurm]\npartition: gpu\ngpus: 2\nsbatch: {nice: '5'}\n")
    found = composed([f"project={tmp_path}", "debug=tiny", "cluster=mine", "cluster.mem_gb=8"]).cluster
    assert isinstance(found, SlurmCluster)
    assert (found.partition, found.gpus, found.mem_gb, found.sbatch) == ("gpu", 2, 8.0, {"nice": "5"})


@pytest.mark.parametrize("kind", ["here", "local", "slurm"])
def test_a_config_that_an_earlier_version_saved_with_all_keys_is_read(kind: str) -> None:
    """Its cluster had SLURM's keys and `slots` whatever its kind."""
    content = composed(["debug=tiny"]).content
    before = compose(["cluster=slurm"])["cluster"] | {"slots": 3, "account": "mine", "kind": kind}
    found = check(migrate(content | {"cluster": before})).cluster
    if isinstance(found, SlurmCluster):
        assert kind == "slurm" and found.account == "mine"
    else:
        assert (found.kind, found.slots) == (kind, 3)
