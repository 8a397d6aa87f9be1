"""One composition for many lists of values: never told apart from Hydra's own."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl

from vocl.config import compose_many as module
from vocl.config.compose import compose, group_choices
from vocl.config.compose_many import Composer

EXPERIMENTS = group_choices("experiment")
CHOICES = [
    *("debug=tiny", "cluster=local", "eval=[]", "loss=[feature_mse]", "loss=[]", "optim=sgd", "model=savi"),
    *("backbone=tiny_vit", "dataset=files", "eval/protocol@eval.discovery.protocol=vocl", "~optim", "model="),
    *("+model@second=slotcontrast", "optim/schedule@optim.schedule=constant", "model=null", "loss=[nope]"),
    *(
        "project=null",
        "~debug",
        "++model=savi",
        "published=slotcontrast",
        "experiment=nope",
        "cluster@x=local",
    ),
]
VALUES = [
    *("3", "-0.5", "1e-3", "null", "true", "word", "'two words'", '"it\'s"', "''", "", "ümlaut", "[1,[2,x]]"),
    *("[]", "{}", "{a:1,b:{c:[2]}}", "???", "${train.steps}", "${..nothing}", "'${dataset.normalise} x'"),
    *("${runtime.threads}", "${oc.env:HOME}", "${hydra:job.name}", "${hydra.job.name}", "int(3.7)", "1,2"),
    *("sort(3,1)", "[1", "a=b", r"\${train.steps}", "'\\'", "inf", "0x10", "nan"),
]
ODD = [
    *(
        "=3",
        "train.steps",
        "+",
        "~",
        "seed=0,1",
        "hydra.job.name=x",
        "++hydra.foo=3",
        "+defaults=[]",
        "~seed",
    ),
    *(
        "dataset.size_px.0=7",
        "train={steps:3}",
        "optim={lr:3}",
        "+optim={lr:2}",
        "~train",
        "+new={a:1}",
        "a b=3",
    ),
    *(
        "+new.deep.er=3",
        "~new",
        "wibble@x=3",
        "wibble/x=3",
        "seed.x=3",
        "tr$x=3",
        "+project.x=3",
        "project=/no",
    ),
    *(
        "~dataset.size_px.0",
        "1.2=3",
        "warm_start={run:x,take:['*']}",
        "warm_start.run=x",
        "defaults=1",
        "~loss=x",
    ),
]


def outcome(act: Callable[[], Any]) -> str:
    """What comes out, the order of keys included: it may mean something."""
    try:
        return json.dumps(act(), default=str)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def paths(node: dict[str, Any], path: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield f"{path}{key}"
        if isinstance(value, dict):
            yield from paths(value, f"{path}{key}.")


def lists(seed: int, count: int) -> Iterator[list[str]]:
    """Lists of overrides, some of them mistakes; several for each set of choices."""
    rng = random.Random(seed)
    while True:
        experiment = rng.choice(EXPERIMENTS)
        below = [p for p in paths(compose([f"experiment={experiment}"])) if p != "project"]
        choices = [f"experiment={experiment}", *rng.choices(CHOICES, k=rng.choice((0, 0, 1, 2)))]
        for _ in range(6):
            sign = rng.choices(("", "+", "++", "~"), (12, 1, 1, 1), k=rng.randrange(5))
            some = [_one(rng, s, rng.choice(below)) for s in sign] + rng.choices(ODD, k=rng.randrange(4) // 3)
            overrides = choices + some
            rng.shuffle(overrides)
            yield overrides
            count -= 1
            if not count:
                return


def _one(rng: random.Random, sign: str, path: str) -> str:
    if sign == "+" and rng.random() < 0.5:
        path += rng.choice((".new", "new"))
    if sign == "~" and rng.random() < 0.7:
        return f"~{path}"
    return f"{sign}{path}={rng.choice(VALUES[:14] if rng.random() < 0.8 else VALUES)}"


@pytest.mark.parametrize(
    ("seed", "count"), [(0, 24), *(pytest.param(seed, 60, marks=pytest.mark.slow) for seed in range(1, 5))]
)
def test_equal_to_hydra_in_every_result_and_every_error(
    caplog: pytest.LogCaptureFixture, seed: int, count: int
) -> None:
    composer, kinds = Composer(), set()
    for overrides in lists(seed, count):
        expected = outcome(lambda o=overrides: compose(o))
        assert outcome(lambda o=overrides: composer.compose(o)) == expected, overrides
        kinds.add(expected[:1] == "{")
    assert kinds == {True, False}
    assert not caplog.records


MISTAKES = [
    "optim.lr=${runtime.threads}",
    "train.steps=???",
    "optim.lr=${nowhere}",
    "+train.steps=3",
    "~seed.x",
]


def test_a_mistake_among_good_lists_is_told_as_alone() -> None:
    composer = Composer()
    good = outcome(lambda: composer.compose(["seed=1"]))
    for override in [*MISTAKES, "project={a:1}", "train.stepz=3"]:
        found = outcome(lambda o=override: composer.compose([o]))
        assert found == outcome(lambda o=override: compose([o]))
        assert found.startswith("UserError"), found
        assert outcome(lambda: composer.compose(["seed=1"])) == good


def test_where_hydra_has_changed_inside_it_says_once_that_it_is_slow(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    composer, lists = Composer(), [["train.steps=7", f"seed={number}"] for number in range(3)]
    expected = [compose(overrides) for overrides in lists]
    apply = ConfigLoaderImpl._apply_overrides_to_config

    def changed(*arguments: Any) -> None:
        if sys._getframe(1).f_globals["__name__"] == module.__name__:
            raise TypeError("takes three arguments now")
        apply(*arguments)

    monkeypatch.setattr(ConfigLoaderImpl, "_apply_overrides_to_config", staticmethod(changed))
    assert [composer.compose(overrides) for overrides in lists] == expected
    (told,) = [record.getMessage() for record in caplog.records]
    assert "takes long" in told and "hydra-core" in told and "TypeError: takes three" in told


def test_lists_that_differ_in_values_are_composed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[list[str]] = []
    unresolved = module.unresolved
    monkeypatch.setattr(
        module, "unresolved", lambda overrides: made.append(overrides) or unresolved(overrides)
    )
    monkeypatch.setattr(module, "compose", lambda overrides: pytest.fail(f"composed whole: {overrides}"))
    composer, found = Composer(), []
    for dataset in ("movi_c", "movi_e"):
        for lr in (0.1, 0.2, "${train.clip}"):
            values = [
                f"optim.lr={lr}",
                "+train.new=1",
                "~train.batch",
                "++model.x='a b'",
                "dataset.size_px=[1,2]",
            ]
            found.append(composer.compose([*values, f"experiment=slotcontrast/{dataset}", "project=null"]))
    assert len(made) == 2
    assert [config["optim"]["lr"] for config in found] == [0.1, 0.2, 0.05] * 2
    assert all("batch" not in config["train"] for config in found)
