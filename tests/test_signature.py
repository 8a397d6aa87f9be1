"""What the source of a part says: kinds, inherited constructors, declarations. Nothing is imported."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from vocl.config import folders
from vocl.config.build import build
from vocl.config.check import check
from vocl.config.compose import compose
from vocl.config.proof.coerce import coerce
from vocl.config.proof.signature import Part, read
from vocl.errors import UserError


@pytest.fixture
def packages(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("from mine.bases import Base as Exported\n")
    (tmp_path / "mine" / "bases.py").write_text(
        "from torch import nn\n\nclass Base(nn.Module):\n    provides = frozenset({'slots'})\n"
        "    def __init__(self, width, *, depth: int, rate: float) -> None: ...\n\n"
        "class Mixin:\n    keys = True\n\n"
        "def function(*, depth: int): ...\n\nclass _Hidden(Base): ...\n"
    )
    return folders.packages(None) | {"mine": tmp_path / "mine"}


def write(packages: dict[str, Path], text: str) -> None:
    (packages["mine"] / "own.py").write_text(f"import mine.bases\nfrom mine import Exported, bases\n{text}")


@pytest.mark.parametrize(
    "bases",
    ["bases.Base", "mine.bases.Base", "Exported", "bases.Mixin, bases.Base", "Generic[T], bases.Base"],
)
def test_any_ordinary_form_of_base_class_gives_its_constructor(packages: dict[str, Path], bases: str) -> None:
    write(packages, f"class Mine({bases}): ...\n")
    found = read("mine.own.Mine", packages)
    assert list(found.parameters) == ["depth", "rate"]
    assert found.attributes["provides"] == {"slots"}
    assert "torch.nn.Module" in found.bases


def test_a_subclass_writes_only_what_it_adds(packages: dict[str, Path]) -> None:
    write(
        packages,
        "from typing import Literal, Optional\n\n"
        "class Mine(bases.Mixin, bases.Base):\n"
        "    provides = frozenset({*bases.Base.provides, 'more'})\n"
        "    def __init__(self, width, *, mode: Literal['a', 'b'], size: Optional[int], **rest) -> None:\n"
        "        super().__init__(width, depth=3, **rest)\n",
    )
    found = read("mine.own.Mine", packages)
    assert found.parameters == {"rate": float, "mode": Literal["a", "b"], "size": int | None}
    assert found.attributes["provides"] == {"slots", "more"} and found.attributes["keys"] is True


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("class Mine(bases.Missing): ...", r"base class mine\.bases\.Missing is not found"),
        ("class Mine(bases.Base):\n    needs = frozenset(x for x in 'ab')", r"needs = .*cannot be read"),
        ("class Mine(bases.Base):\n    def __init__(self, *, x: Exported): ...", r"annotation Exported"),
        ("class Mine(bases.Base):\n    def __init__(self, *, x): ...", "has no annotation"),
        ("class A(bases.Base): ...\nclass Mine(bases.Base, A): ...", "no consistent order"),
        ("class Mine(Mine): ...", "inherits from itself"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(
    packages: dict[str, Path], text: str, words: str
) -> None:
    write(packages, text + "\n")
    with pytest.raises(UserError, match=words):
        assert read("mine.own.Mine", packages).parameters


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("mine.bases.function", "defines no class 'function'; choose from Base, Mixin"),
        ("mine.bases._Hidden", "not the dotted path of a public class"),
        ("mine./tmp/x.Y", "not the dotted path of a public class"),
        ("mine.bases.Mixin", r"is not a Module \(does not inherit from torch\.nn\.Module\)"),
    ],
)
def test_a_place_takes_only_classes_of_its_kind(packages: dict[str, Path], target: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        coerce({"_target_": target}, Part["torch.nn.Module"], "part", packages)


# Functions, private names, and classes of vocl that do things when they are made: none is a part.
CALLABLES = (
    "vocl.rundir.provenance._git",
    "vocl.files.write_text",
    "vocl.train.main",
    "vocl.tracking.mirror.Mirror",
    "vocl.trainer.Trainer",
    "vocl.stop.StopFlag",
    "vocl.rundir.checkpoint.Checkpoints",
)
PLACES = (
    "model",
    "backbone",
    "curriculum",
    "optim",
    "dataset.source",
    "model.initializer",
    "model.decoder",
    "model.predictor",
    "optim.schedule",
    "loss.feature_mse",
    "eval.discovery",
    "eval.discovery.protocol",
    "eval.discovery.options",
    "curriculum.stages.all",
)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("target", CALLABLES)
def test_no_place_of_a_config_takes_what_is_no_part_of_its_kind(place: str, target: str) -> None:
    config = compose([])
    node = config
    *parents, last = place.split(".")
    for key in parents:
        node = node[key]
    assert last in node
    node[last] = {"_target_": target} | {k: v for k, v in node[last].items() if k in ("weight", "level")}
    with pytest.raises(UserError, match=rf"{place}\._target_={target}: "):
        check(config)


def test_a_part_of_another_kind_is_refused() -> None:
    config = compose([])
    config["dataset"]["source"] = config["backbone"]
    with pytest.raises(UserError, match=r"dataset\.source\._target_=.*is not a Source .*has no __getitem__"):
        check(config)


def test_a_value_of_any_kind_hides_no_part(packages: dict[str, Path]) -> None:
    write(
        packages,
        "from typing import Any\n\nclass Mine(bases.Base):\n    def __init__(self, *, x: Any): ...\n",
    )
    with pytest.raises(
        UserError,
        match=r"part\.x\.y\[0\]\._target_=vocl\.tracking\.mirror\.Mirror: no part belongs here",
    ):
        coerce(
            {"_target_": "mine.own.Mine", "x": {"y": [{"_target_": "vocl.tracking.mirror.Mirror"}]}},
            Part,
            "part",
            packages,
        )


def test_building_proves_the_kind_again() -> None:
    for target in CALLABLES:
        with pytest.raises(UserError, match="_target_"):
            build({"_target_": target}, Part["vocl.interface.Source"], "source", folders.packages(None))
