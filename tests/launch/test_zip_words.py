"""`NAME=zip(key=[...],other=[...])` on a command line: values that belong together, crossed with the rest."""

from __future__ import annotations

import pytest

from launch.cli import main
from launch.selection.plan import select

PAIRS = "pairs=zip(model.num_slots=[3,5],optim.lr=choice(1e-3,4e-4))"


def places(*words: str) -> list[tuple[int, float, int]]:
    configs = [spec.config for spec in select(words).specs]
    return [(c.model["num_slots"], c.optim["lr"], c.seed) for c in configs]


def test_a_zip_pairs_values_and_is_crossed_with_other_lists() -> None:
    first, second = (3, 0.001), (5, 0.0004)
    assert places(PAIRS) == [(*first, 0), (*second, 0)]
    assert places(PAIRS, "seed=0,1") == [(*first, 0), (*first, 1), (*second, 0), (*second, 1)]
    assert len(select(["train.batch=4,8", PAIRS, "more=zip(train.steps=[2,4],train.clip=[1,2])"]).specs) == 8


def test_what_is_zipped_may_be_a_group_a_range_a_list_or_the_seed() -> None:
    specs = select(["set=zip(loss=choice([feature_mse],[feature_mse,slot_contrast]),seed=range(0,2))"]).specs
    assert [(len(s.config.loss), s.seed) for s in specs] == [(1, 0), (2, 1)]
    assert specs[0].row == "loss=[feature_mse]"


def test_the_runs_are_those_of_the_words_one_by_one() -> None:
    (alone,) = select(["model.num_slots=5", "optim.lr=4e-4"]).specs
    assert alone.id == select([PAIRS]).specs[1].id


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["p=zip(model.num_slots=[3,5],optim.lr=[1e-3])"], "model.num_slots has 2, optim.lr has 1"),
        (["p=zip(model.num_slots=[3,5])"], "two members or more"),
        (["p=zip(model.num_slots=[3],model.num_slots=[5])"], "set twice"),
        (["p=zip(model.num_slots=[3],seed=[5])", "seed=1"], "seed: set twice"),
        (["optim=zip(model.num_slots=[3],seed=[5])"], "the config has optim already"),
        (["1p=zip(model.num_slots=[3],seed=[5])"], "names the dimension"),
        (["p=zip(model.num_slots=[],seed=[])"], "empty"),
        (["p=zip(3,4)"], "expected key=[value,value]"),
        (["p=zip(seed=shuffle(1,2),model.num_slots=[3,5])"], "shuffling"),
        (["demo", PAIRS], "write `zip` into its file"),
    ],
)
def test_mistakes_are_one_line(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *words]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
