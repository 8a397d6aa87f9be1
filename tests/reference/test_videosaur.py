"""VideoSAUR against values of the reference implementation, through the public importer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from comparing import assert_same_hard_masks, clip_of, count, distance, forward_and_backward, part
from torch import Tensor

from vocl.commands import verbs
from vocl.interface import Output, SegmentOptions
from vocl.loading import load
from vocl.nn import slot_init
from vocl.reference import importer, videosaur

VIT = "encoder.module.backbone.model."
PREDICTOR, DECODER = "processor.module.predictor.blocks.", "decoder.module."


def overrides(state: dict[str, Tensor], values: dict[str, Tensor]) -> list[str]:
    """What makes the model of a state dict; as README of the values says where no shape tells."""
    video, pos_embed = values["video"], state[f"{VIT}pos_embed"]
    patch_px, dim = state[f"{VIT}patch_embed.proj.weight"].shape[-1], pos_embed.shape[2]
    depth, patches = count(state, f"{VIT}blocks."), state[f"{DECODER}pos_emb"].shape[1]
    hidden = [k for k in state if k.startswith(f"{DECODER}renderer.") and k.endswith(".weight")]
    reconstructs = len(state[f"{DECODER}output_transform.bias"]) > patches
    settings = {
        "backbone.native_px": round((pos_embed.shape[1] - 1) ** 0.5) * patch_px,
        "backbone.patch_px": patch_px,
        "backbone.dim": dim,
        "backbone.depth": depth,
        "backbone.block": depth,
        "backbone.layer_scale": 1.0 if f"{VIT}blocks.0.ls1.gamma" in state else "null",
        "backbone.keys": "true",
        "model.num_slots": values["initial_slots"].shape[-2],
        "model.slot_dim": state["initializer.mean"].shape[-1],
        "model.target": "features" if reconstructs else "null",
        "model.adapter.hidden_ratio": len(state["encoder.module.output_transform.layers.1.weight"]) / dim,
        "model.predictor.num_blocks": count(state, PREDICTOR),
        "model.predictor.ffn_dim": len(state[f"{PREDICTOR}0.linear1.weight"]),
        "model.decoder.num_blocks": count(state, f"{DECODER}allocator.blocks."),
        "model.decoder.num_heads": 4,
        "model.decoder.ffn_dim": len(state[f"{DECODER}allocator.blocks.0.linear1.weight"]),
        "model.decoder.hidden_dim": len(state[min(hidden)]),
        "model.decoder.num_layers": len(hidden),
        "dataset.size_px": list(video.shape[-2:]),
        "dataset.clip_frames": video.shape[-4],
        "train.batch": video.shape[-5],
        "loss.temporal_similarity.weight": 0.1,
        "loss.temporal_similarity.temperature": 0.075,
        "backbone.num_heads": 2,
        "model.predictor.num_heads": 4,
    }
    groups = ["experiment=videosaur/movi_c", "backbone=tiny_vit", "dataset=synthetic"]
    if reconstructs:
        groups.append("loss=[feature_mse,temporal_similarity]")
    return [*groups, *(f"{key}={str(value).replace(' ', '')}" for key, value in settings.items())]


@pytest.fixture(scope="module")
def values(golden) -> dict[str, Tensor]:
    return golden("videosaur.safetensors")[1]


@pytest.fixture(scope="module")
def imported(golden, tmp_path_factory) -> Path:
    path, values, _ = golden("videosaur.safetensors")
    out = tmp_path_factory.mktemp("reference") / "imported"
    settings = [*overrides(part(values, "state_dict."), values), "runtime.threads=1"]
    assert verbs.import_(["videosaur", str(path), str(out), *settings]) == 0
    return out


@pytest.fixture(scope="module", autouse=True)
def drawn(request):
    """The noise of the reference's slots, in place of that of the clips' keys."""
    values = request.getfixturevalue("values")
    mean, log_std = values["state_dict.initializer.mean"], values["state_dict.initializer.log_std"]
    noise = (values["initial_slots"] - mean) / log_std.exp()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slot_init, "normal", lambda key, tag, shape: noise[key])
        yield


@pytest.fixture(scope="module")
def computed(imported, values) -> tuple[torch.nn.Module, Output, dict[str, Tensor]]:
    return forward_and_backward(load(str(imported)), values["video"])


@pytest.mark.parametrize(
    ("field", "key"),
    [
        ("features", "backbone_features"),
        ("keys", "vit_block_keys12"),
        ("slots", "slots"),
        ("attn", "attention"),
        ("predicted", "slots_predicted"),
        ("masks", "decoder_masks"),
    ],
)
def test_outputs(computed, values, field, key):
    assert distance(getattr(computed[1], field), values[key]) < 1e-4


def test_what_the_decoder_predicts(computed, values):
    """Its channels: the features, if it reconstructs them, and then the logits of similarity."""
    _, output, _ = computed
    both = [x for x in (output.recon, output.similarity) if x is not None]
    assert distance(torch.cat(both, dim=-1), values["reconstruction"]) < 1e-4


def test_inner_values(computed, values):
    model, output, _ = computed
    assert distance(model.adapter(output.features), values["adapted_features"]) < 1e-4
    assert distance(model.initializer(torch.arange(len(values["video"]))), values["initial_slots"]) < 1e-4


def test_hard_masks(computed, values):
    assert_same_hard_masks(computed[1], values["hard_masks"])


@pytest.mark.parametrize(
    ("term", "key"),
    [("temporal_similarity", "loss_timesim"), ("feature_mse", "loss_featrec"), ("total", "total")],
)
def test_losses(computed, values, term, key):
    assert (term in computed[2]) == (f"loss.{key}" in values)
    if term in computed[2]:
        assert distance(computed[2][term], values[f"loss.{key}"]) < 1e-5


def test_gradients(computed, values):
    """All to 1e-3; that of a bias which shifts the logits of all slots alike is 0, but for rounding."""
    ours = {name: p.grad for name, p in computed[0].named_parameters() if p.grad is not None}
    theirs = {importer.rename(videosaur, k): v for k, v in part(values, "grad.").items()}
    assert ours.keys() == theirs.keys()
    largest = max(float(g.abs().max()) for g in theirs.values())
    for gradients in (ours, theirs):
        assert float(gradients.pop("decoder.norm_k.bias").abs().max()) < 1e-6 * largest
    assert max(distance(ours[name], theirs[name]) for name in ours) < 1e-3


def test_segment_gives_the_same_masks(imported, values):
    """Evaluation's door, in windows of all but the last frame and the last, with the state carried over."""
    model, options = load(str(imported)).model, SegmentOptions(cyclic=False, iterations=None, seed=0)
    video = values["video"]
    head = model.segment(clip_of(video[:, :-1]), options)
    tail = model.segment(clip_of(video[:, -1:]), options, head.carry)
    assert distance(torch.cat([head.masks, tail.masks], dim=1), values["decoder_masks"]) < 1e-4
