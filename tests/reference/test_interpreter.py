"""Parts of Interpreter against values of independent implementations; the whole has no public code."""

from __future__ import annotations

import json
import math

import pytest
import torch
from comparing import distance, part
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from vocl.interface import Clip, Grid, Output
from vocl.losses import sinkhorn
from vocl.losses.sinkhorn import SinkhornDivergence
from vocl.nn.implicit_slot_attention import ImplicitSlotAttention
from vocl.nn.merging import MergeSimilar, merge
from vocl.nn.slot_attention import SlotAttention

OURS = {  # of the names of the reference's slot attention
    "norm_input": "norm_features",
    "ff_mlp.module.0": "norm_mlp",
    "ff_mlp.module.1": "mlp.0",
    "ff_mlp.module.3": "mlp.2",
}
CASES = ("crowded", "gaussian", "near", "permuted", "unit")


@pytest.fixture(scope="module")
def values(golden) -> dict[str, Tensor]:
    return golden("interpreter_parts.safetensors")[1]


@pytest.fixture(scope="module")
def metadata(golden) -> dict[str, str]:
    return golden("interpreter_parts.safetensors")[2]


def rename(name: str) -> str:
    for theirs, ours in OURS.items():
        name = name.replace(theirs, ours)
    return name


def cell(values: dict[str, Tensor], metadata: dict[str, str], way: str) -> tuple[SlotAttention, int]:
    """Slot attention with the reference's weights, differentiated in `way`, and its argument `iterations`."""
    weights = {rename(name): tensor for name, tensor in part(values, "state_dict.").items()}
    slot_dim, input_dim = weights["to_k.weight"].shape
    rounds, mlp_dim = int(metadata["iterations_without_graph"]), len(weights["mlp.0.bias"])
    sizes = {"slot_dim": slot_dim, "input_dim": input_dim, "mlp_dim": mlp_dim}
    if way == "unrolled":
        found = SlotAttention(**sizes, first_iterations=1, iterations=1, hidden="raw")
        rounds += 1
    else:
        prior_grad = "ste" if way == "spot_bi_level" else "none"
        found = ImplicitSlotAttention(**sizes, iterations=rounds, prior_grad=prior_grad)
    found.load_state_dict(weights)
    return found, rounds


@pytest.mark.parametrize("way", ["implicit", "unrolled", "spot_fixed_point", "spot_bi_level"])
def test_slot_attention_and_its_gradients(values, metadata, way):
    attention, rounds = cell(values, metadata, way)
    first, features = (
        values[f"implicit.{name}"].clone().requires_grad_() for name in ("initial_slots", "features")
    )
    slots, attn = attention(first, attention.prepare(features), rounds)
    assert distance(slots, values[f"{way}.slots"]) < 1e-4
    assert distance(attn, values[f"{way}.attention"]) < 1e-4
    cotangents = values["implicit.cotangent_slots"], values["implicit.cotangent_attention"]
    ((slots * cotangents[0]).sum() + (attn * cotangents[1]).sum()).backward()
    assert (first.grad is not None) == bool(values[f"{way}.initial_slots_have_gradient"])
    theirs = {rename(name): tensor for name, tensor in part(values, f"{way}.grad.").items()}
    ours = {name: p.grad for name, p in attention.named_parameters()}
    ours |= {"features": features.grad, "initial_slots": first.grad}
    without = set(ours) - set(theirs)
    assert without == {rename(name) for name in json.loads(metadata["gradient_zero_by_symmetry"])}
    for name, gradient in theirs.items():
        if ours[name] is None:
            assert (gradient == 0).all(), name
        else:
            assert distance(ours[name], gradient) < 1e-3, name


def divergence(metadata: dict[str, str], **changes: bool) -> SinkhornDivergence:
    settings = json.loads(metadata["sinkhorn"])
    assert settings["p"] == 2
    kept = {name: settings[name] for name in ("blur", "scaling", "debias")}
    return SinkhornDivergence(**(kept | {"mean_over_channels": False} | changes))


@pytest.mark.parametrize("case", CASES)
def test_sinkhorn_divergence_and_its_gradient(values, metadata, case):
    """Each set is a frame of one clip: one diameter for the whole call."""
    wanted = part(values, f"sinkhorn.{case}.")
    recon = wanted["prediction"].unsqueeze(0).clone().requires_grad_()
    target, sets = wanted["target"].unsqueeze(0), len(wanted["target"])
    output = Output(slots=target, attn=target, grid=Grid(1, 1), recon=recon, target=target)
    valid = torch.ones(1, sets, dtype=torch.bool)
    loss = divergence(metadata)
    ours = loss.per_frame(recon, target)[0]
    value = loss(output, Clip(torch.zeros(1, sets, 3, 1, 1), valid, torch.zeros(1), ("a",)))
    torch.testing.assert_close(value, ours.mean())
    value.backward()
    if case == "permuted":
        assert float(ours.detach().abs().max()) < 1e-5
        assert float((recon.grad[0] - wanted["grad_of_mean"]).abs().max()) < 1e-5
    else:
        assert distance(ours, wanted["value"]) < 1e-5
        assert distance(recon.grad[0], wanted["grad_of_mean"]) < 1e-3


@pytest.mark.parametrize("case", CASES)
def test_what_the_divergence_is_made_of(values, metadata, case):
    """The schedule's first and last temperature and its length; the biased value; the exact assignment."""
    wanted = part(values, f"sinkhorn.{case}.")
    recon, target = wanted["prediction"].unsqueeze(0), wanted["target"].unsqueeze(0)
    loss = divergence(metadata, debias=False)
    biased = loss.per_frame(recon, target)
    temperatures = wanted["temperatures"]
    diameter = sinkhorn.diameter(wanted["prediction"], wanted["target"])
    assert diameter**2 == pytest.approx(float(temperatures[0]), rel=1e-6)
    assert loss.blur**2 == pytest.approx(float(temperatures[-1]), rel=1e-6)
    assert len(temperatures) == 2 + math.ceil(math.log(diameter / loss.blur) / -math.log(loss.scaling))
    if case == "permuted":
        assert float((biased[0] - wanted["without_debias"]).abs().max()) < 1e-5
        assert float(wanted["assignment_cost"].abs().max()) == 0
        return
    assert distance(biased, wanted["without_debias"]) < 1e-5
    costs = torch.cdist(wanted["prediction"].double(), wanted["target"].double()).square() / 2
    best = [cost[linear_sum_assignment(cost.numpy())].mean() for cost in costs]
    assert distance(torch.stack(best).float(), wanted["assignment_cost"]) < 1e-5
    if case in ("gaussian", "near"):  # no two points nearer than the blur, no two assignments about as good
        assert distance(divergence(metadata).per_frame(recon, target), wanted["assignment_cost"]) < 1e-4


def test_merging(values, metadata):
    slots = values["merge.slots"]
    attn = values["merge.attention"].transpose(1, 2)
    for threshold in json.loads(metadata["thresholds"]):
        wanted = part(values, f"merge.{threshold}.")
        merging = MergeSimilar(threshold=threshold, min_clusters=1, steps=1, epochs=1)
        labels = merging.labels(slots)
        assert torch.equal(labels, wanted["labels"])
        merged = merge(slots, None, attn, labels)
        assert torch.equal(merged.active.sum(1), wanted["counts"])
        assert distance(merged.slots, wanted["slots"]) < 1e-4
        assert distance(merged.attn.transpose(1, 2), wanted["attention"]) < 1e-4
