"""Label propagation, J and F against values of the four published scripts."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from comparing import FOLDER
from einops import rearrange
from torch import Tensor

from vocl.config.compose import compose
from vocl.data.truth import Truth
from vocl.evaluate.labels import Frame, MaskLabels
from vocl.interface import Grid
from vocl.metrics.davis import object_scores, one_hot, statistics
from vocl.ops.propagation import Propagation, Rule

FILE = "propagation.safetensors"
DINO_PX = 16  # the patch of DINO's script, where a case does not say it


def cases() -> dict[str, dict[str, Any]]:
    if not (FOLDER / FILE).is_file():
        return {}
    from safetensors import safe_open

    with safe_open(FOLDER / FILE, "pt") as file:
        return json.loads(file.metadata()["cases"])


CASES = cases()


@pytest.fixture(scope="module")
def presets() -> dict[str, Rule]:
    """The rules of conf/, by name."""

    def read(name: str) -> Rule:
        node = compose(["eval=[propagation]", f"eval/rule@eval.propagation.rule={name}"])
        values = node["eval"]["propagation"]["rule"]
        return Rule(**{key: value for key, value in values.items() if key != "_target_"})

    return {name: read(name) for name in ("dino", "crw", "vfs", "smtc", "smtc_stride8")}


def rule_of(case: dict[str, Any], preset: Rule) -> Rule:
    """A preset with the numbers of a case."""
    reach = case.get("neighbourhood", case.get("radius", case.get("window", 0) // 2))
    same = ("previous", "topk", "temperature", "first_windowed")
    return dataclasses.replace(
        preset,
        reach=reach,
        stride_px=case.get("stride") if case["method"] == "smtc" else None,
        **{key: case[key] for key in same if key in case},
    )


def map_of(values: dict[str, Tensor], name: str, size: tuple[int, ...]) -> np.ndarray:
    found = torch.repeat_interleave(values[f"{name}_values"], values[f"{name}_lengths"].long())
    return found.reshape(-1, *size).numpy()


@pytest.fixture(scope="module")
def computed(golden, presets):
    """What propagation makes of a case: soft labels t c n, label maps, the truth; each case once."""
    values, found = golden(FILE)[1], {}

    def compute(name: str) -> tuple[Tensor, np.ndarray, np.ndarray]:
        if name not in found:
            found[name] = propagate(values, name, CASES[name], presets)
        return found[name]

    return compute


def propagate(values: dict[str, Tensor], name: str, case: dict[str, Any], presets: dict[str, Rule]):
    size, grid = (case["height"], case["width"]), Grid(case["label_rows"], case["label_columns"])
    truth = map_of(values, f"{name}.truth", size)
    rule = rule_of(case, presets[case["method"]])
    given = tuple(side * case.get("stride", DINO_PX) for side in grid)
    frame = Frame(rule, grid, given, size)
    features = values[f"{name}.features"].float()
    if rule.stride_px:
        features = F.interpolate(features, size=grid, mode="bilinear", align_corners=False)
    features = rearrange(features, "t e r s -> t (r s) e")
    labels = MaskLabels().given(Truth.from_labels(truth), frame)
    propagation = Propagation(rule, grid, features.device)
    propagation.begin(features[0], labels)
    soft = torch.stack([labels, *(propagation.next(one) for one in features[1:])])
    return soft, frame.label_maps(soft, torch.from_numpy(truth[0]).long()).numpy(), truth


@pytest.fixture(params=CASES or [None])
def case(request, golden) -> str:
    golden(FILE)  # skips where it is absent
    return request.param


def test_soft_labels(golden, computed, case):
    theirs = rearrange(golden(FILE)[1][f"{case}.probabilities"], "t c r s -> t c (r s)")
    apart = (computed(case)[0] - theirs).abs().amax(1)
    assert (apart < 1e-3).float().mean() >= 0.998


def test_label_maps(golden, computed, case):
    _, ours, truth = computed(case)
    theirs = map_of(golden(FILE)[1], f"{case}.labels", truth.shape[1:])
    assert (ours == theirs).mean() >= 0.9999


def test_scores(golden, computed, case):
    values = golden(FILE)[1]
    _, ours, truth = computed(case)
    count = CASES[case]["objects"]
    scores = object_scores((one_hot(p, count), one_hot(t, count)) for p, t in zip(ours, truth, strict=True))
    for name, found in zip("JF", scores, strict=True):
        assert np.abs(found - values[f"{case}.{name}"].numpy()).max() < 1e-3
        theirs = values[f"{case}.{name}_mean_recall_decay"].numpy()
        assert np.abs(statistics(found[:, 1:-1]) - theirs).max() < 1e-3


def test_presets_are_the_published_ones(presets):
    assert presets["smtc_stride8"].stride_px == 8 and presets["smtc_stride8"].topk == 28
    assert presets["dino"].sizes((480, 854), (1, 1)) == ((480, 854), (480, 832))
    assert presets["dino"].sizes((720, 1152), (1, 1)) == ((480, 768), (480, 768))
    assert presets["smtc"].sizes((480, 854), (1, 1)) == ((480, 854), (480, 848))
    assert presets["crw"].sizes((480, 854), (1, 1)) == ((480, 854), (480, 854))
