"""SMTC's parts as its first release has them, and as its paper describes them, against reference values."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from comparing import clip_of, distance, pairs_of, part
from einops import rearrange
from torch import Tensor

from vocl import assemble
from vocl.losses.instance import products
from vocl.models.smtc import SemanticOutput
from vocl.nn.masked_slot_attention import MaskedSlotAttention
from vocl.nn.valid_instances import ValidInstances
from vocl.ops.matching import best_matching
from vocl.ops.transport import sinkhorn, uniform_mass
from vocl.reference import importer, smtc

OUTPUT, GRADIENT, LOSS = 1e-4, 1e-3, 1e-5
TERMS = ("transport", "diversity", "instance")


@pytest.fixture(scope="module")
def values(golden) -> dict[str, Tensor]:
    return golden("smtc.safetensors")[1]


@pytest.fixture(scope="module")
def facts(golden) -> dict[str, str]:
    return golden("smtc.safetensors")[2]


def attention_of(values, facts, names: dict[str, str], **changes) -> MaskedSlotAttention:
    """With the release's weights, and of `names` (prefix in the file) those of another part."""
    state = part(values, "state_dict.slot_attention.")
    settings = {
        "iterations": int(facts["iterations"]), "mlp_ratio": 1.0, "update": "sum", "mask": "logit",
        "threshold": 0.0, "straight_through": True, "reparameterised": False,
    }  # fmt: skip
    dim = state["slots_mu"].shape[-1]
    attention = MaskedSlotAttention(dim, state["slots_mu"].shape[1], **settings | changes)
    ours = {importer.rename(smtc, f"slot_attention.{name}"): value for name, value in state.items()}
    ours = {name.removeprefix("grouping.attention."): value for name, value in ours.items()}
    for prefix, name in names.items():
        ours |= {f"{name}.{key}": value for key, value in part(values, prefix).items()}
    own = attention.state_dict()
    attention.load_state_dict({name: ours[name].reshape(own[name].shape) for name in own})
    return attention


def test_the_first_release(values, facts):
    attention = attention_of(values, facts, {}, mask="soft")
    prepared = attention.prepare(values["student.fused"])
    _, logits = attention.semantics(prepared)
    slots, within = attention.instances(prepared, values["student.samples"], attention.mask(logits))
    assert distance(slots, values["first_release.stage2.slots"]) < OUTPUT
    assert distance(within, values["first_release.stage2.logits"]) < OUTPUT


GRU = {"paper_state_dict.slot_attention.gru.": "gru"}
TOUCHED = {
    "slot_attention.slots_mu": "mean",
    "slot_attention.slots_sigma": "log_std",
    "slot_attention.gru.weight_ih": "gru.weight_ih",
    "slot_attention.mlp.0.weight": "mlp.0.weight",
    "slot_attention.project_q.weight": "to_q.weight",
}


@pytest.mark.parametrize(("cut", "prefix"), [(True, "grad_straight_through"), (False, "grad_full")])
def test_the_papers_attention(values, facts, cut, prefix):
    settings = {"mask": "probability", "threshold": float(facts["paper_tau"]), "reparameterised": True}
    attention = attention_of(values, facts, GRU, update="gru", straight_through=cut, **settings)
    prepared = attention.prepare(values["student.fused"])
    semantics, logits = attention.semantics(prepared)
    first = attention.sample(values["student.noise"])
    instances, within = attention.instances(prepared, first, attention.mask(logits))
    for ours, theirs in (
        (semantics, "stage1.slots"), (logits, "stage1.logits"),
        (instances, "stage2.slots"), (within, "stage2.logits"),
    ):  # fmt: skip
        assert distance(ours, values[f"paper.{theirs}"]) < OUTPUT
    loss = (semantics * values["paper.cotangent.stage1"]).sum()
    (loss + (instances * values["paper.cotangent.stage2"]).sum()).backward()
    theirs = part(values, f"paper.{prefix}.")
    assert theirs.keys() == TOUCHED.keys()
    for name, value in theirs.items():
        assert distance(attention.get_parameter(TOUCHED[name]).grad, value) < GRADIENT, name


@pytest.fixture
def by_the_text(values, facts) -> SemanticOutput:
    """Outputs of the release's student and teacher in float64, with the paper's indicator."""
    valid = ValidInstances(
        binarise=float(facts["paper_tau"]), min_area=float(facts["tau1"]),
        min_cosine=float(facts["tau2"]), inclusive=True,
    )  # fmt: skip
    made = {}
    for who in ("student", "teacher"):
        names = ("keys", "stage1.logits", "stage1.masks", "stage1.slots", "stage2.slots")
        keys, logits, masks, semantics, instances = (values[f"{who}.{name}"].double() for name in names)
        made[who] = SemanticOutput(
            slots=instances.flatten(2, 3), attn=None, grid=None, features=keys, semantics=semantics,
            semantic_logits=logits, semantic_masks=masks, objects=instances,
            valid=valid(masks, semantics, instances),
        )  # fmt: skip
    return replace(made["student"], teacher=made["teacher"])


def per_clip(term, output: SemanticOutput, video: Tensor) -> Tensor:
    clip = clip_of(video)

    def of(value, i: int):
        if isinstance(value, Tensor):
            return value[i : i + 1]
        return rows(value, i) if isinstance(value, SemanticOutput) else value

    def rows(output: SemanticOutput, i: int) -> SemanticOutput:
        return replace(output, **{name: of(value, i) for name, value in vars(output).items()})

    return torch.stack([term(rows(output, i), clip_of(video[i : i + 1])) for i in range(len(clip.key))])


@pytest.fixture(scope="module")
def papers_term():
    """Makes a loss of the paper's preset, with changes."""
    from vocl.config.compose import composed

    terms = [f"{term}_paper" for term in TERMS]
    config = composed(["experiment=smtc/synthetic", "model=smtc_paper", f"loss=[{','.join(terms)}]"])

    def make(term: str, **changes):
        own = config.loss[f"{term}_paper"]
        loss = config.loss | {f"{term}_paper": replace(own, part=own.part | changes)}
        return assemble.make_objective(replace(config, loss=loss)).terms[f"{term}_paper"].loss

    return make


def test_the_papers_plans(values, facts, by_the_text):
    unit = F.normalize(by_the_text.teacher.features, dim=-1)
    first, second = (unit[:, list(frames)].transpose(0, 1) for frames in pairs_of(values))
    cost, mass = 1 - first @ second.transpose(-1, -2), uniform_mass(first)
    for rounds, name in ((int(facts["sinkhorn_rounds"]), "uniform"), (3000, "uniform_converged")):
        plan = sinkhorn(cost, mass, mass, float(facts["sinkhorn_eps"]), rounds)
        assert distance(plan, values[f"paper.plan_{name}"]) < OUTPUT


def test_the_papers_losses(values, by_the_text, papers_term):
    video = values["student.video"]
    for who, output in (("student", by_the_text), ("teacher", by_the_text.teacher)):
        assert torch.equal(output.valid, values[f"paper.valid_{who}"].bool())
    for name, term in {
        "sem": papers_term("transport"),
        "sem_release_plan": papers_term("transport", marginal="l1"),
        "reg": papers_term("diversity"),
        "obj_raw": papers_term("instance"),
        "obj_unit": papers_term("instance", unit=True),
    }.items():
        assert distance(per_clip(term, by_the_text, video), values[f"paper.loss_{name}"]) < LOSS, name


def test_the_papers_matches(values, by_the_text):
    ours, theirs = (F.normalize(o.objects, dim=-1) for o in (by_the_text, by_the_text.teacher))
    match = best_matching(products(ours, theirs))
    assert torch.equal(rearrange(match, "b t j n p -> t j b n p"), values["paper.match_raw"])
