"""SOLV against values of the reference implementation, through the public importer."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from comparing import clip_of, count, distance, part
from einops import rearrange
from torch import Tensor, nn

from vocl import assemble
from vocl.commands import verbs
from vocl.interface import Backbone, Clip, Features, Grid, Output, SegmentOptions
from vocl.loading import load
from vocl.models import solv as model_module
from vocl.models.solv import SOLV
from vocl.nn import invariant
from vocl.ops.clustering import complete_linkage
from vocl.ops.masks import hard_masks
from vocl.reference import importer
from vocl.reference import solv as names

FILE = "solv.safetensors"
OPTIONS = SegmentOptions(cyclic=False, iterations=None, seed=0)


@pytest.fixture(scope="module")
def values(golden) -> dict[str, Tensor]:
    return golden(FILE)[1]


@pytest.fixture(scope="module")
def settings(golden) -> dict[str, str]:
    return golden(FILE)[2]


@pytest.fixture(scope="module")
def overrides(values, settings) -> list[str]:
    """What makes the model of the file."""
    state = part(values, "state_dict.")
    slots, dim = state["s_bind.slots"].shape[-2:]
    sizes = {
        "backbone.native_px": int(settings["vit_native_rows"]) * int(settings["patch"]),
        "backbone.patch_px": settings["patch"],
        "backbone.dim": settings["feature_dim"],
        "backbone.depth": settings["vit_depth"],
        "backbone.block": settings["vit_depth"],
        "backbone.num_heads": settings["vit_heads"],
        "backbone.layer_scale": "null",
        "backbone.resample": "dino",
        "model.num_slots": slots,
        "model.slot_dim": dim,
        "model.token_drop": settings["token_drop"],
        "model.adapter.hidden_ratio": len(state["s_bind.initial_mlp.1.bias"]) / int(settings["feature_dim"]),
        "model.spatial.iterations": settings["iterations"],
        "model.spatial.mlp_dim": len(state["s_bind.mlp.layer1.bias"]),
        "model.temporal.num_blocks": count(state, "t_bind.slot_transformer.layers."),
        "model.temporal.num_heads": settings["transformer_heads"],
        "model.temporal.ffn_dim": len(state["t_bind.slot_transformer.layers.0.linear1.bias"]),
        "model.merge.threshold": settings["merge_threshold"],
        "model.decoder.hidden_dim": len(state["dec.layer1.bias"]),
        "model.decoder.num_layers": sum(k.startswith("dec.") and k.endswith("bias") for k in state) - 1,
        "dataset.size_px": list(values["video"].shape[-2:]),
        "dataset.clip_frames": values["video"].shape[1],
        "train.batch": values["video"].shape[0],
    }
    groups = ["experiment=solv/synthetic", "backbone=tiny_vit", "eval=[]", "runtime.threads=1"]
    return groups + [f"{key}={str(value).replace(' ', '')}" for key, value in sizes.items()]


@pytest.fixture(scope="module")
def imported(golden, overrides, tmp_path_factory) -> dict[str, Path]:
    """Run folders by whether the release's wrong indices are kept."""
    folders = {}
    for name, bug in (("plain", "false"), ("legacy", "true")):
        folders[name] = tmp_path_factory.mktemp("reference") / name
        asked = [*overrides, f"model.legacy_index_bug={bug}"]
        assert verbs.import_(["solv", str(golden(FILE)[0]), str(folders[name]), *asked]) == 0
    return folders


class Given(Backbone):
    """The reference's features in the place of a backbone: of the kept patches, else of all."""

    drops_tokens = True

    def __init__(self, seen: Tensor, full: Tensor, grid: Grid) -> None:
        super().__init__()
        self.seen, self.full, self.rows = seen, full, grid

    def forward(self, video: Tensor, keep: Tensor | None = None) -> Features:
        return Features(self.full if keep is None else self.seen, self.rows)


class Traced:
    """The model's forward and backward pass in the reference's setting, and what happened inside."""

    def __init__(self, folder: Path, values: dict[str, Tensor], settings: dict[str, str]) -> None:
        self.model: SOLV = load(str(folder)).model
        self.features = values["features"].clone().requires_grad_()
        grid = Grid(int(settings["rows"]), int(settings["columns"]))
        self.model.backbone = Given(self.features, values["target"].unsqueeze(1), grid)
        self.passes: list[tuple[Tensor, ...]] = []
        self.slots: list[Tensor] = []
        self.decoded: list[tuple[Tensor, ...]] = []
        self.bound: list[Tensor] = []
        with pytest.MonkeyPatch.context() as patch:
            self._watch(patch, values["kept"])
            config = load(str(folder)).config
            last = config.train.steps - 1
            self.model.begin(assemble.make_curriculum(config).stage(last), last)
            assert self.model.chance_to_keep == 0
            clip = clip_of(values["video"])
            clip.valid = values["frame_mask"].bool()
            self.output: Output = self.model(clip)
            self.loss, _ = assemble.make_objective(config)(self.output, clip, "all", last)
            self.loss.backward()

    def _watch(self, patch: pytest.MonkeyPatch, kept: Tensor) -> None:
        def posed(weights: Tensor, coordinates: Tensor, log: list) -> tuple[Tensor, Tensor]:
            found = pose(weights, coordinates)
            log.append((weights, *found))
            return found

        pose, update = invariant.pose, self.model.spatial._update
        patch.setattr(invariant, "pose", lambda w, c: posed(w, c, self.passes))
        patch.setattr(model_module, "pose", lambda w, c: posed(w, c, self.decoded))
        patch.setattr(model_module, "subsets", lambda *_: kept)
        patch.setattr(
            self.model.spatial, "_update", lambda *a: self.slots.append(update(*a)) or self.slots[-1]
        )
        self.model.spatial.register_forward_hook(lambda _, __, out: self.bound.append(out.slots))
        self.model.temporal.register_forward_hook(lambda _, __, out: self.bound.append(out))


@pytest.fixture(scope="module")
def traced(imported, values, settings) -> dict[str, Traced]:
    return {name: Traced(folder, values, settings) for name, folder in imported.items()}


@pytest.fixture(scope="module")
def plain(traced) -> Traced:
    return traced["plain"]


def folded(values: Tensor) -> Tensor:
    """passes b f ... to passes (b f) ..."""
    return rearrange(values, "i b f ... -> i (b f) ...")


def test_every_tensor_of_a_checkpoint_has_a_place(values):
    own = [importer.rename(names, name) for name in part(values, "state_dict.")]
    assert None not in own and len(own) == len(set(own))


def test_a_file_as_the_release_saves_it(values, imported, overrides, tmp_path):
    """With the prefix of data parallelism, and beside it objects that a safe reader refuses."""
    state = {f"module.{name}": tensor for name, tensor in part(values, "state_dict.").items()}
    content = {"model": state, "epoch": 3, "args": argparse.Namespace(root="/home/somebody")}
    torch.save(content, tmp_path / "best_checkpoint.pt")
    out = tmp_path / "out"
    assert verbs.import_(["solv", str(tmp_path / "best_checkpoint.pt"), str(out), *overrides]) == 0
    ours, theirs = (load(str(folder)).model.state_dict() for folder in (out, imported["plain"]))
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_binding_in_space(plain, values):
    for i, key in enumerate(("weights", "position", "scale")):
        ours = torch.stack([one[i] for one in plain.passes])
        assert distance(ours, folded(values[f"binding.{key}"])) < 1e-4
    assert distance(torch.stack(plain.slots), folded(values["binding.slots_after_pass"])) < 1e-4
    assert distance(plain.bound[0], values["binding.slots"]) < 1e-4
    centre = rearrange(plain.passes[-1][0], "(b f) k n -> b f k n", b=len(values["video"]))
    middle = values["video"].shape[1] // 2
    assert distance(centre[:, middle], values["binding.centre_weights"]) < 1e-4


def test_binding_in_time(plain, values):
    assert distance(plain.bound[1], values["temporal.slots"]) < 1e-4
    frames = torch.arange(values["video"].shape[1])
    valid = values["frame_mask"].bool()
    with torch.no_grad():  # the transformer's other places: windows that lie around the middle
        every = [
            all_places(plain.model.temporal, values["binding.slots"][i], valid[i]) for i in range(len(valid))
        ]
    for ours, theirs, exists in zip(every, values["temporal.all_slots"], valid, strict=True):
        assert distance(ours[frames[exists]], theirs[exists]) < 1e-4


def all_places(temporal: nn.Module, slots: Tensor, valid: Tensor) -> Tensor:
    """What comes out at every place of a window, t k d."""
    x = rearrange(slots + temporal.time, "t k d -> k t d")
    for block in temporal.blocks:
        x = block(x, visible=valid.expand(len(x), -1))
    return rearrange(x, "k t d -> t k d")


def test_merging(plain, values, settings):
    slots = values["temporal.slots"]
    found = [complete_linkage(frame.numpy(), float(settings["merge_threshold"])) for frame in slots]
    assert (np.stack(found) == values["merge.labels_unguarded"].numpy()).all()
    assert torch.equal(plain.model.merging.labels(slots), values["merge.labels"])
    assert torch.equal(plain.output.active.sum(1), values["merge.counts"])
    assert distance(plain.output.slots, values["merge.slots"]) < 1e-4
    assert distance(plain.decoded[0][0], values["merge.weights"]) < 1e-4


@pytest.mark.parametrize(("which", "prefix"), [("plain", ""), ("legacy", "legacy.")])
def test_decoding_and_the_loss(traced, values, which, prefix):
    found = traced[which]
    for i, key in ((1, "position"), (2, "scale")):
        assert distance(found.decoded[0][i], values[f"{prefix}decoder.{key}"]) < 1e-4
    assert distance(found.output.masks, values[f"{prefix}decoder.masks"]) < 1e-4
    assert distance(found.output.recon, values[f"{prefix}reconstruction"]) < 1e-4
    assert distance(found.loss.reshape(1), values[f"{prefix}loss"]) < 1e-5
    unused = ~found.output.active.unsqueeze(-1).expand_as(found.output.masks[:, 0])
    assert not found.output.masks[:, 0][unused].any()


@pytest.mark.parametrize(("which", "prefix"), [("plain", ""), ("legacy", "legacy.")])
def test_gradients(traced, values, which, prefix):
    found = traced[which]
    theirs = part(values, f"{prefix}grad.")
    ours = {name: p.grad for name, p in found.model.named_parameters() if p.grad is not None}
    assert distance(found.features.grad, theirs.pop("features")) < 1e-3
    apart = {name: distance(ours[importer.rename(names, name)], theirs[name]) for name in theirs}
    assert max(apart.values()) < 1e-3, apart
    if which == "plain":
        assert len(theirs) == len(ours)


def test_the_backbone_with_tokens_dropped(imported, values):
    backbone = load(str(imported["plain"])).model.backbone
    encoder = part(values, "encoder_state_dict.")
    backbone.vit.load_state_dict({k: v for k, v in encoder.items() if not k.startswith("norm.")})
    middle = values["video"].shape[1] // 2
    with torch.no_grad():
        assert distance(backbone(values["video"], values["kept"]).tokens, values["features"]) < 1e-4
        full = backbone(values["video"][:, middle : middle + 1]).tokens
    assert distance(full, values["target"]) < 1e-4


# ------------------------------------------------------------------------------------------ whole videos


def test_a_whole_video(imported, values, settings):
    """Frames beyond the ends are zero images in the reference, and masked; here they do not exist."""
    exists = values["validation.frame_mask"].bool()
    features = values["validation.features"][exists]
    model: SOLV = load(str(imported["plain"])).model
    grid = Grid(int(settings["rows"]), int(settings["columns"]))
    length = len(features)
    clip = Clip(
        torch.zeros(1, length, 3, *values["video"].shape[-2:]),
        torch.ones(1, length, dtype=torch.bool),
        torch.tensor([0]),
        ("v",),
        features=Features(features.unsqueeze(0), grid),
    )
    found = {}
    decode = model._decode_all

    def decoded(*given):
        found["slots"], found["active"], found["masks"] = decode(*given)
        return found["slots"], found["active"], found["masks"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "_decode_all", decoded)
        segments = model.segment(clip, OPTIONS)
    assert torch.equal(found["active"][0].sum(1), values["validation.counts"])
    assert distance(found["masks"], values["validation.masks"]) < 1e-4
    assert distance(found["slots"], values["validation.slots"]) < 1e-4
    size = (int(settings["validation_height"]), int(settings["validation_width"]))
    labels = hard_masks(found["masks"], grid, size)[0]
    linked = hard_masks(segments.masks, segments.grid, size)[0]
    for ours, key in ((labels, "labels"), (linked, "linked")):
        assert (ours != values[f"validation.{key}"].long()).float().mean() <= 1e-3
