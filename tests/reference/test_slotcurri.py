"""SlotCurri against values of the reference implementation, through the public importer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from comparing import clip_of, distance, forward_and_backward, part
from torch import Tensor

from vocl import assemble
from vocl.commands import verbs
from vocl.events.spawn_slots import allot
from vocl.interface import Output, SegmentOptions
from vocl.loading import load
from vocl.reference import importer, slotcurri

STEPS = 100  # of the run whose transitions are followed: at 10 and 25


@pytest.fixture(scope="module")
def values(golden) -> dict[str, Tensor]:
    return golden("slotcurri.safetensors")[1]


@pytest.fixture(scope="module")
def counts(golden) -> list[int]:
    """Slots of the three stages."""
    return json.loads(golden("slotcurri.safetensors")[2]["stages"])


@pytest.fixture(scope="module")
def imported(golden, sizes, counts, tmp_path_factory) -> Path:
    path, values, _ = golden("slotcurri.safetensors")
    out = tmp_path_factory.mktemp("reference") / "imported"
    overrides = sizes(part(values, "state_dict."), values["video"])
    overrides += ["loss=[feature_mse,slot_contrast,ssim]", "loss.ssim.weight=0.05"]
    overrides += ["curriculum=slotcurri", "curriculum/spawn=release", f"train.steps={STEPS}"]
    stages = zip(("few", "more", "all"), counts, strict=True)
    overrides += [f"curriculum.stages.{name}.active_slots={count}" for name, count in stages]
    assert verbs.import_(["slotcurri", str(path), str(out), *overrides]) == 0
    return out


@pytest.fixture(scope="module")
def computed(imported, values) -> tuple[torch.nn.Module, Output, dict[str, Tensor]]:
    """The imported model with all slots, after a forward and a backward pass."""
    return forward_and_backward(load(str(imported)), values["video"], STEPS - 1)


FIELDS = [("slots", "slots"), ("recon", "reconstruction"), ("masks", "decoder_masks")]
TERMS = [("feature_mse", "loss_featrec"), ("slot_contrast", "loss_ss"), ("ssim", "loss_ssim")]


@pytest.mark.parametrize(("field", "key"), FIELDS)
def test_outputs(computed, values, field, key):
    assert distance(getattr(computed[1], field), values[f"full.{key}"]) < 1e-4


@pytest.mark.parametrize(("term", "key"), [*TERMS, ("total", "total")])
def test_losses(computed, values, term, key):
    assert distance(computed[2][term], values[f"full.loss.{key}"]) < 1e-5


def test_gradients(computed, values):
    ours = {name: p.grad for name, p in computed[0].named_parameters() if p.grad is not None}
    theirs = {importer.rename(slotcurri, k): v for k, v in part(values, "full.grad.").items()}
    assert ours.keys() == theirs.keys()
    assert max(distance(ours[name], theirs[name]) for name in ours) < 1e-3


def test_the_first_stage(imported, values, counts):
    _, output, terms = forward_and_backward(load(str(imported)), values["video"], 0)
    assert output.slots.shape[2] == counts[0]
    for field, key in FIELDS:
        assert distance(getattr(output, field), values[f"stage0.{key}"]) < 1e-4
    for term, key in TERMS:
        assert distance(terms[term], values[f"stage0.loss.{key}"]) < 1e-5


def test_cyclic_inference(imported, values):
    """What evaluation's door gives the decoder, and what comes out of it."""
    model, decoded = load(str(imported)).model, []
    model.decoder.register_forward_pre_hook(lambda _, inputs: decoded.append(inputs[0]))
    options = SegmentOptions(cyclic=True, iterations=None, seed=0)
    segments = model.segment(clip_of(values["video"]), options)
    assert distance(segments.masks, values["cyclic.decoder_masks"]) < 1e-4
    (slots,) = decoded
    assert distance(slots, values["cyclic.slots"]) < 1e-4
    assert distance(model.decoder(slots).recon, values["cyclic.reconstruction"]) < 1e-4


@pytest.mark.parametrize(
    ("stage", "before", "after"), [(0, "before", "after_first"), (1, "after_first", "after_second")]
)
def test_a_transition(imported, values, counts, stage, before, after):
    """Errors, children per parent, parents, and each child's offset along the reference's direction."""
    loaded = load(str(imported))
    before, after = (values[f"spawn.slots_{name}"][0] for name in (before, after))
    with torch.no_grad():
        loaded.model.initializer.slots.copy_(before[None])
    curriculum = assemble.make_curriculum(loaded.config)
    start, (event,) = curriculum.starts[stage + 1], curriculum.events[stage + 1]
    _, output, _ = forward_and_backward(loaded, values["video"], start - 1)
    event.observe(start - 1, output)
    first, total = counts[stage : stage + 2]
    assert distance(event.error, values[f"stage{stage}.slot_error"][:first]) < 1e-4

    children = allot(event.error, total - first)
    offsets = (after[first:total, None] - before[:first]).norm(dim=-1)
    nearest = offsets.argmin(dim=1)  # a child lies nearer to its parent than to another slot
    assert nearest.tolist() == [p for p, count in enumerate(children) for _ in range(count)]
    directions = torch.nn.functional.normalize(after[first:total] - before[nearest], dim=-1)
    assert distance(event.spawn(before, children, directions), after) < 1e-5

    event.apply(loaded.model, start)
    ours = loaded.model.initializer.slots.detach()[0]
    untouched = [row for row in range(len(ours)) if not first <= row < total]
    assert torch.equal(ours[untouched], before[untouched])
    lengths = (ours[first:total] - before[nearest]).norm(dim=-1)
    theirs = (after[first:total] - before[nearest]).norm(dim=-1)
    if sum(count > 0 for count in children) == 1:  # else it depends on the children drawn before
        torch.testing.assert_close(lengths, theirs, rtol=1e-4, atol=0)
