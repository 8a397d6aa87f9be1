"""SMTC as its release runs, against values of the reference implementation, through the public importer."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from comparing import clip_of, count, distance, pairs_of, part
from einops import rearrange
from torch import Tensor

from vocl import assemble
from vocl.loading import load
from vocl.losses.instance import products
from vocl.losses.transport import TransportAlignment
from vocl.models.smtc import SMTC, Carry, SemanticOutput
from vocl.nn.valid_instances import closeness
from vocl.ops.matching import best_matching
from vocl.ops.transport import spread_mass
from vocl.reference import importer, smtc
from vocl.rundir.run_dir import RunDir

OUTPUT, GRADIENT, LOSS = 1e-4, 1e-3, 1e-5
NORM = "backbone.vit.norm."
TERMS = ("transport", "diversity", "instance")
THEIRS = dict(zip(TERMS, ("sem", "reg", "obj"), strict=True))


@pytest.fixture(scope="module")
def values(golden) -> dict[str, Tensor]:
    return golden("smtc.safetensors")[1]


@pytest.fixture(scope="module")
def facts(golden) -> dict[str, str]:
    return golden("smtc.safetensors")[2]


@pytest.fixture(scope="module")
def config(values, facts) -> dict:
    """The release's settings, in the sizes of the file."""
    from vocl.config.compose import composed

    state = part(values, "state_dict.")
    patch_px, dim = state["encoder.patch_embed.proj.weight"].shape[-1], state["encoder.cls_token"].shape[-1]
    _, frames, semantics, instances, _ = values["student.noise"].shape
    settings = {
        "backbone.native_px": round((state["encoder.pos_embed"].shape[1] - 1) ** 0.5) * patch_px,
        "backbone.patch_px": patch_px,
        "backbone.dim": dim,
        "backbone.depth": count(state, "encoder.blocks."),
        "backbone.block": count(state, "encoder.blocks."),
        "backbone.num_heads": facts["vit_heads"],
        "backbone.layer_scale": "null",
        "backbone.keys": "true",
        "backbone.trainable": "true",
        "backbone.resample": "dino",
        "dataset.size_px": list(values["student.video"].shape[-2:]),
        "dataset.clip_frames": frames,
        "model.keys": "true",
        "model.slot_dim": "null",
        "model.correspondence.project": "false",
        "model.num_semantics": semantics,
        "model.num_instances": instances,
        "model.head.hidden_ratio": len(state["mlp_slot.0.bias"]) / dim,
        "model.attention.mlp_ratio": len(state["slot_attention.mlp.0.bias"]) / dim,
        "model.attention.iterations": facts["iterations"],
        "model.attention.threshold": facts["mask_logit_threshold"],
        "model.valid.binarise": facts["area_binarisation"],
        "model.valid.min_area": facts["tau1"],
        "model.valid.min_cosine": facts["tau2"],
        "model.momentum": facts["ema_momentum"],
        "loss.transport.epsilon": facts["sinkhorn_eps"],
        "loss.transport.rounds": facts["sinkhorn_rounds"],
        "optim.lr": facts["lr"],
        "optim.weight_decay": facts["weight_decay"],
        "runtime.threads": 1,
    }
    groups = ["experiment=smtc/synthetic", "backbone=tiny_vit", "curriculum=smtc", "optim.decay=matrices"]
    groups += ["optim.schedule.floor=1.0", "train.clip=null"]
    return composed([*groups, *(f"{key}={str(value).replace(' ', '')}" for key, value in settings.items())])


@pytest.fixture(scope="module")
def imported(golden, config, tmp_path_factory) -> Path:
    path, _, _ = golden("smtc.safetensors")
    out = tmp_path_factory.mktemp("reference") / "imported"
    return importer.import_checkpoint(smtc, path, out, config)


def make(imported: Path, values: dict[str, Tensor]) -> SMTC:
    """The imported student, and the teacher of the file."""
    model = load(str(imported)).model
    theirs = part(values, "teacher_state_dict.")
    teacher = {importer.rename(smtc, name): value for name, value in theirs.items()}
    own = model.teacher.state_dict()
    model.teacher.load_state_dict({n: teacher[n].reshape(own[n].shape) for n in own})
    return model


@dataclass
class Computed:
    """A forward pass of student and teacher, and the losses."""

    model: SMTC
    student: SemanticOutput
    losses: dict[str, Tensor]

    def of(self, who: str) -> SemanticOutput:
        return self.student if who == "student" else self.student.teacher


@pytest.fixture(scope="module")
def computed(imported, values, config) -> Computed:
    model = make(imported, values)
    clip = clip_of(values["student.video"])
    partners = model.grouping.correspondence.partners(clip.key, "student", clip.video.shape[1])
    seen = model.backbone(clip.video)
    student = model.group(model.grouping, seen, values["student.noise"], partners)
    with torch.no_grad():
        seen = model.teacher.backbone(values["teacher.video"])
        teacher = model.group(model.teacher.grouping, seen, values["teacher.noise"], partners)
    student = replace(student, teacher=teacher)
    terms = assemble.make_objective(config).terms
    return Computed(model, student, {name: terms[name].loss(student, clip) for name in TERMS})


BOTH = pytest.mark.parametrize("who", ["student", "teacher"])
FIELDS = {
    "features": "keys",
    "semantics": "stage1.slots",
    "semantic_logits": "stage1.logits",
    "semantic_masks": "stage1.masks",
    "objects": "objects",
}


def instances_of(output: SemanticOutput) -> Tensor:
    return rearrange(output.slots, "b t (n p) d -> b t n p d", n=output.semantics.shape[2])


@BOTH
@pytest.mark.parametrize("field", FIELDS)
def test_outputs(computed, values, who, field):
    assert distance(getattr(computed.of(who), field), values[f"{who}.{FIELDS[field]}"]) < OUTPUT


@BOTH
def test_instances(computed, values, who):
    output = computed.of(who)
    assert distance(instances_of(output), values[f"{who}.stage2.slots"]) < OUTPUT
    product = values[f"{who}.stage1.masks"].unsqueeze(3) * values[f"{who}.stage2.logits"].softmax(3)
    assert distance(output.attn, rearrange(product, "b t n p x -> b t (n p) x")) < OUTPUT
    close = closeness(output.semantics, instances_of(output))
    assert distance(close, values[f"{who}.cosine"]) < OUTPUT
    area = computed.model.grouping.valid.area(output.semantic_masks)
    assert distance(area, values[f"{who}.area"]) < OUTPUT
    assert torch.equal(output.valid, values[f"{who}.valid"].bool())


@BOTH
def test_inner_values(computed, values, who):
    model = computed.model
    grouping = model.grouping if who == "student" else model.teacher.grouping
    keys, correspondence = values[f"{who}.keys"], grouping.correspondence
    cells = correspondence.cells(keys, computed.student.grid).roll(1, dims=1)
    products = keys @ cells.transpose(-1, -2)
    assert distance(products.transpose(-1, -2), values[f"{who}.correlation"]) < OUTPUT
    fused = correspondence(keys, cells)
    assert distance(fused, values[f"{who}.fused"]) < OUTPUT
    attention = grouping.attention
    samples = attention.sample(values[f"{who}.noise"])
    assert distance(samples, values[f"{who}.samples"]) < OUTPUT
    prepared, logits = attention.prepare(fused), values[f"{who}.stage1.logits"]
    assert torch.equal(attention.mask(logits), values[f"{who}.stage1.binary"].float())
    for i in range(attention.iterations):
        slots, _ = attention.semantics(prepared, i + 1)
        assert distance(slots, values[f"{who}.stage1.slots_per_iteration"][i]) < OUTPUT
        slots, within = attention.instances(prepared, samples, attention.mask(logits), i + 1)
        assert distance(slots, values[f"{who}.stage2.slots_per_iteration"][i]) < OUTPUT
    assert distance(within, values[f"{who}.stage2.logits"]) < OUTPUT


def test_what_is_embedded(computed, values):
    assert distance(computed.model.embed(clip_of(values["student.video"])), values["student.tokens"]) < OUTPUT
    tokens = computed.model.teacher.backbone(values["teacher.video"]).tokens
    assert distance(tokens, values["teacher.tokens"]) < OUTPUT


# ------------------------------------------------------------------------------------- the losses


@pytest.mark.parametrize("term", TERMS)
def test_losses(computed, values, term):
    assert distance(computed.losses[term], values[f"release.loss_{THEIRS[term]}"]) < LOSS


def test_total(computed, values):
    assert distance(sum(computed.losses.values()), values["release.loss_total"]) < LOSS


def test_plans(computed, values, facts):
    unit = F.normalize(values["teacher.keys"], dim=-1)
    assert distance(spread_mass(unit), values["release.marginal"]) < OUTPUT
    first, second = (unit[:, list(frames)].transpose(0, 1) for frames in pairs_of(values))
    term = TransportAlignment(
        preset=None, epsilon=float(facts["sinkhorn_eps"]), rounds=int(facts["sinkhorn_rounds"]),
        marginal="l1", floor=0.0, reduction="mean",
    )  # fmt: skip
    assert distance(term.plan(first, second), values["release.plan"]) < OUTPUT


def test_matches(computed, values):
    student, teacher = (values[f"{who}.objects"] for who in ("student", "teacher"))
    similarity = products(student, teacher)
    arranged = rearrange(similarity, "b t j n p q -> t j b n p q")
    assert distance(arranged, values["release.similarity"]) < OUTPUT
    assert torch.equal(best_matching(arranged), values["release.match"])


# -------------------------------------------------------------------------------------- inference


def test_inference(imported, values, facts):
    """Windows of another grid, the last one short, with the file's noise."""
    model, video, noise = load(str(imported)).model, values["inference.video"], values["inference.noise"]
    window, frames, found = noise.shape[1], video.shape[1], []
    assert model.window == window and frames % window
    carry = Carry()
    with torch.no_grad():
        for i in range(len(noise)):
            part = video[:, i * window : (i + 1) * window]
            drawn = noise[i : i + 1, : part.shape[1]]
            iterations = int(facts["inference_iterations"])
            output, carry = model.group_window(model.backbone(part), drawn, carry, iterations)
            found.append(output)
    semantic = torch.cat([output.semantic_masks[0] for output in found])
    assert distance(semantic, values["inference.semantic_masks"]) < OUTPUT
    masks = torch.cat([output.attn[0] for output in found])
    assert distance(masks, values["inference.instance_masks"].flatten(1, 2)) < OUTPUT
    scores = torch.cat([closeness(o.semantics, instances_of(o))[0] for o in found])
    assert distance(scores, values["inference.scores"]) < OUTPUT
    assert torch.equal(scores >= model.grouping.valid.min_cosine, values["inference.kept"].bool())


# ---------------------------------------------------------------------------------- the gradients


def wanted(values: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors by our names, without the final norm, which has no place here; intermediate ones by theirs."""
    named = {name: importer.rename(smtc, name) or name for name in part(values, prefix)}
    return {own: values[prefix + name] for name, own in named.items() if not own.startswith(NORM)}


def gradients(computed: Computed, loss: Tensor, names) -> dict[str, Tensor | None]:
    student = computed.student
    within = {"keys": student.features, "stage1.logits": student.semantic_logits, "objects": student.objects}
    tensors = dict(computed.model.named_parameters()) | within
    found = torch.autograd.grad(loss, [tensors[n] for n in names], retain_graph=True, allow_unused=True)
    return dict(zip(names, found, strict=True))


def compare(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    for name, value in theirs.items():
        if not value.any():
            assert not ours[name].any(), name
        else:
            assert distance(ours[name], value) < GRADIENT, name


def test_gradients(computed, values):
    theirs = wanted(values, "grad.")
    compare(gradients(computed, sum(computed.losses.values()), list(theirs)), theirs)


@pytest.mark.parametrize("term", TERMS)
def test_gradients_of_one_loss(computed, values, term):
    theirs = wanted(values, f"grad_{THEIRS[term]}.")
    compare(gradients(computed, computed.losses[term], list(theirs)), theirs)


def test_what_gets_no_gradient(computed, values, facts):
    """None, not zeros; of the key projection's neighbours q and v zeros, so that they decay."""
    model = computed.model
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    found = gradients(computed, sum(computed.losses.values()), names)
    none = {importer.rename(smtc, name) for name in json.loads(facts["no_gradient"])}
    none = {name for name in none if not name.startswith(NORM)}
    assert {n for n, gradient in found.items() if gradient is None} == none
    without = {importer.rename(smtc, name) for name in json.loads(facts["gradient_zero_by_symmetry"])}
    assert set(names) - none == set(wanted(values, "grad.")) - {"keys"} | without
    last = max(n for n in names if n.endswith("qkv.weight"))
    q, k, v = rearrange(found[last], "(three e) d -> three e d", three=3)
    assert not q.any() and not v.any() and k.any()


def test_a_step_and_the_teacher_after_it(imported, values, facts, config, monkeypatch, tmp_path):
    """A whole step of the trainer, in the stage that trains the backbone too, on the file's gradients."""
    from vocl import run
    from vocl.stop import StopFlag

    trainer = run.make_trainer(
        config, RunDir(tmp_path), torch.device("cpu"), StopFlag(), fresh=False, silent=True
    )
    trainer.model.load_state_dict(make(imported, values).state_dict())
    own, gradients = trainer.trainable, wanted(values, "grad.")
    given = {n: gradients[n].reshape(p.shape) for n, p in own.items() if n in gradients}
    loss = lambda: sum((own[name] * gradient).sum() for name, gradient in given.items())  # noqa: E731
    monkeypatch.setattr(trainer, "forward", lambda step, clip: (None, loss(), {}))
    before = {n: p.clone() for n, p in trainer.model.named_parameters()}
    trainer.step(trainer.curriculum.starts[1], SimpleNamespace(names=()))
    after = dict(trainer.model.named_parameters())
    assert {group["lr"] for group in trainer.torch_optimizer.param_groups} == {
        float(facts["lr"]), float(facts["lr"]) * float(facts["encoder_lr_factor"])
    }  # fmt: skip
    for name, value in wanted(values, "after_step.").items():
        value = value.reshape(after[name].shape)
        size = given[name].abs()
        counts = (size > 1e-5 * size.max()) | (size == 0)  # where there is none, decay alone
        assert distance(after[name][counts], value[counts]) < OUTPUT, name
        assert not torch.equal(before[name], after[name])
    for name, value in wanted(values, "after_ema.").items():
        assert distance(after[f"teacher.{name}"], value) < OUTPUT, name
    encoder = [n for n in after if n.startswith("teacher.backbone.")]
    assert encoder and all(torch.equal(before[n], after[n]) for n in encoder)
