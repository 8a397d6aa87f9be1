"""A second stage on frozen slots: what it may read and change, alone and as whole runs."""

from __future__ import annotations

import json

import pytest
import torch
from running import (
    SGD,
    final,
    result,
    run_folder,
    same,
    tiny,
    torn_at,
    two_ranks_equal_one,
)

from vocl import assemble, run
from vocl.config.check import check
from vocl.config.compose import compose, composed
from vocl.data.feed import Feed
from vocl.errors import UserError

SECOND = (
    "experiment=slotcontrast/dynamics_synthetic",
    "dataset.clip_frames=4",
    "model.burn_in=2",
    "model.rollout={dim: 8, num_blocks: 1, num_heads: 2, ffn_dim: 8}",
)


def second(root, *overrides: str):
    """A tiny second stage: two frames are seen, two foretold."""
    return tiny(root, *SECOND, *overrides)


def model_and_clip(config):
    torch.manual_seed(0)
    model = assemble.make_model(config, pretrained=True)
    torch.nn.init.normal_(model.rollout.to_slots.weight)
    feed = Feed(assemble.make_source(config, "train"), assemble.make_dataset(config), 0, 2, 4)
    return model, feed.batch(0)


def test_what_is_foretold_knows_nothing_of_the_frames_to_come(tmp_path) -> None:
    model, clip = model_and_clip(second(tmp_path))
    one = model(clip)
    assert one.rolled.shape == one.slots[:, 2:].shape
    clip.video[:, 2:] += 1.0
    other = model(clip)
    assert torch.equal(one.rolled, other.rolled)
    assert torch.equal(one.slots[:, :2], other.slots[:, :2])
    assert not torch.equal(one.slots[:, 2:], other.slots[:, 2:])


def test_gradients_reach_the_rollout_alone(tmp_path) -> None:
    model, clip = model_and_clip(second(tmp_path, "model.reconstruct=true"))
    output = model(clip)
    (output.rolled.square().mean() + output.rolled_recon.square().mean()).backward()
    with_gradient = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert with_gradient == {"rollout"} and not output.slots.requires_grad


def test_masks_that_are_rolled_out_follow_the_order_of_the_slots(tmp_path) -> None:
    model, clip = model_and_clip(second(tmp_path))
    slots, order = model(clip).slots[:, :2], torch.tensor([2, 0, 3, 1])
    told, other = model.roll_out(slots, 3), model.roll_out(slots[:, :, order], 3)
    torch.testing.assert_close(other.masks, told.masks[:, :, order])
    assert told.masks.shape[:3] == (2, 3, 4) and told.slots.shape == (2, 3, 4, 8)
    with pytest.raises(UserError, match=r"burn_in=1: the model foretells from 2 frames"):
        model.roll_out(slots[:, :1], 3)


def test_a_first_stage_rolls_out_with_its_predictor(tmp_path) -> None:
    model = assemble.make_model(tiny(tmp_path), pretrained=True)
    slots = torch.randn(2, 3, 4, 8)
    told = model.roll_out(slots, 2)
    once = model.predictor(slots[:, -1])
    torch.testing.assert_close(told.slots, torch.stack([once, model.predictor(once)], dim=1))
    still = assemble.make_model(tiny(tmp_path, "model.predictor=null"), pretrained=True)
    assert torch.equal(still.roll_out(slots, 2).slots, slots[:, -1:].expand(-1, 2, -1, -1))


def test_a_decoder_that_reads_the_frame_cannot_foretell_it(tmp_path) -> None:
    model = assemble.make_model(tiny(tmp_path), pretrained=True)
    model.decoder.needs = frozenset({"inputs"})
    with pytest.raises(UserError, match=r"model\.decoder: needs inputs, which frames to come do not have"):
        model.roll_out(torch.randn(1, 2, 4, 8), 1)


def test_slots_of_another_model_can_be_rolled_out(tmp_path) -> None:
    """Those of SAVi, which rebuilds an image."""
    swapped = ("model._target_=vocl.models.dynamics.Dynamics", "+model/rollout@model.rollout=transformer")
    numbers = ("+model.burn_in=2", "+model.num_frames=${dataset.clip_frames}", "+model.reconstruct=true")
    terms = ("loss=[rolled_slot_mse,rolled_feature_mse]", "dataset.clip_frames=4", "eval=[dynamics]")
    config = composed(["experiment=savi/synthetic", *swapped, *numbers, *terms])
    model = assemble.make_model(config, pretrained=True)
    feed = Feed(assemble.make_source(config, "train"), assemble.make_dataset(config), 0, 2, 4)
    clip = feed.batch(0)
    output = model(clip)
    assert output.rolled_recon.shape == output.target[:, 2:].shape
    total, _ = assemble.make_objective(config)(output, clip, "all", 0)
    assert total > 0 and model.roll_out(output.slots[:, :2], 2).masks.shape[:3] == (2, 2, model.num_slots)


def test_clips_too_short_and_a_term_without_its_tensor_are_refused(tmp_path) -> None:
    with pytest.raises(UserError, match=r"dataset\.clip_frames=2: leaves nothing .* model\.burn_in=2"):
        assemble.make_model(second(tmp_path, "dataset.clip_frames=2"), pretrained=True)
    features = [*SECOND[:1], "loss=[rolled_feature_mse]"]
    with pytest.raises(UserError, match=r"model\.reconstruct=false: gives no rolled_recon"):
        check(compose(features))
    check(compose([*features, "model.reconstruct=true"]))


@pytest.fixture
def warm(tmp_path) -> tuple[str, dict[str, torch.Tensor]]:
    """A first stage that has run in the results folder: how to start from it, and its weights."""
    config = tiny(tmp_path / "results", "train.steps=3")
    assert run.run(config) == 0
    return f'warm_start={{run: {run_folder(config)}, take: ["*"]}}', final(config)["model"]


def test_the_frozen_part_stays_bit_for_bit(tmp_path, warm) -> None:
    start, weights = warm
    config = second(tmp_path / "results", start)
    assert run.run(config) == 0
    ended = assemble.make_model(config, pretrained=False).state_dict()
    assert set(ended) - set(weights) == {name for name in ended if name.startswith("rollout.")}
    state = final(config)
    assert all(name.startswith("rollout.") for name in state["model"])  # the rest is kept once, as it came
    from vocl.loading import load

    loaded = load(str(run_folder(config)), str(tmp_path / "results")).model.state_dict()
    same({name: loaded[name] for name in weights}, weights)
    found = result(config)["evals"]["dynamics"]["metrics"]
    assert found["rollout_fg_ari_1"] is not None and found["copy_mbo"] > 0


def test_a_run_that_is_stopped_ends_as_one_that_is_not(tmp_path, warm, monkeypatch) -> None:
    whole, torn = (second(tmp_path / name, warm[0]) for name in ("whole", "torn"))
    assert run.run(whole) == 0
    torn_at(torn, monkeypatch, 3, 7)
    same(final(whole), final(torn))
    assert result(whole)["evals"]["dynamics"]["metrics"] == result(torn)["evals"]["dynamics"]["metrics"]


def test_two_ranks_equal_one(tmp_path, warm) -> None:
    settings = (*SGD, "dataset.source.num_validation=3", warm[0])
    one, two = second(tmp_path / "one", *settings), second(tmp_path / "two", *settings)
    two_ranks_equal_one(one, two, tmp_path / "log")
    ours, other = (json.loads(json.dumps(result(c)["evals"]["dynamics"]["metrics"])) for c in (one, two))
    assert {k: v for k, v in ours.items() if v is None} == {k: v for k, v in other.items() if v is None}
    for name, value in ours.items():
        assert value is None or value == pytest.approx(other[name], abs=1e-3), name
