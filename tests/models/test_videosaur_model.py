"""VideoSAUR as the configs assemble it: sizes, what it provides, what is refused, and its runs."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from running import SGD, at_step, final, result, same, send, tiny, two_ranks_equal_one
from safetensors.torch import save_file

from vocl import assemble, run
from vocl.commands import verbs
from vocl.config.compose import composed
from vocl.errors import UserError
from vocl.interface import Clip, VideoModel
from vocl.reference import importer, videosaur

VIT = ["backbone=tiny_vit", "backbone.depth=1", "backbone.block=1", "backbone.num_heads=6"]
SMALL = ["experiment=videosaur/movi_c", "debug=tiny"]
BOTH = ["experiment=videosaur/ytvis2021", "debug=tiny"]
RUN = (
    "model=videosaur",
    "experiment=videosaur/synthetic",
    "model.corrector.mlp_dim=null",
    "model.decoder.num_layers=1",
    "model.decoder.num_heads=2",
    "model.decoder.ffn_dim=8",
)


def _model(*overrides: str) -> VideoModel:
    torch.manual_seed(0)
    return assemble.make_model(composed(overrides), pretrained=False)


def _clip() -> Clip:
    video = torch.randn(2, 3, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    return Clip(video, torch.ones(2, 3, dtype=torch.bool), torch.tensor([3, 4]), ("a", "b"))


@pytest.mark.parametrize(
    ("experiment", "patch_px", "expected"),
    [("movi_c", 8, 6_341_648), ("ytvis2021", 16, 4_693_636), ("ytvis2021_dinov2", 14, 5_971_033)],
)
def test_published_settings_have_the_published_number_of_parameters(experiment, patch_px, expected) -> None:
    sizes = [f"backbone.patch_px={patch_px}", "backbone.dim=768"]
    model = _model(f"experiment=videosaur/{experiment}", *VIT, *sizes)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == expected


def test_the_decoder_predicts_similarities_alone_or_features_first() -> None:
    alone, both = _model(*SMALL)(_clip()), _model(*BOTH)(_clip())
    assert alone.recon is None and alone.target is None
    assert both.recon.shape == both.target.shape == both.features.shape
    for output in (alone, both):
        assert output.similarity.shape == (2, 3, 16, 16)
        assert output.keys.shape == output.features.shape
        torch.testing.assert_close(output.masks.sum(2), torch.ones(2, 3, 16))


@pytest.mark.parametrize("settings", [SMALL, BOTH])
def test_every_trainable_parameter_gets_a_gradient(settings: list[str]) -> None:
    model, config = _model(*settings), composed(settings)
    output = model(_clip())
    named = {name for name, value in vars(output).items() if value is not None}
    left_out = set() if config.model["target"] else {"recon", "target"}
    assert named - {"grid"} == model.provides - left_out
    total, _ = assemble.make_objective(config)(output, _clip(), "all", 0)
    (total + output.slots.square().mean()).backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_the_slots_of_a_clip_depend_on_its_key_alone() -> None:
    model, clip = _model(*SMALL).eval(), _clip()
    other = Clip(clip.video.flip(0), clip.valid, clip.key.flip(0), clip.names)
    torch.testing.assert_close(model(clip).slots, model(other).slots.flip(0))
    again = Clip(clip.video, clip.valid, clip.key + 1, clip.names)
    assert not torch.allclose(model(again).slots, model(clip).slots)


# ------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (
            ["experiment=slotcontrast/movi_c", "loss=[temporal_similarity]"],
            ["loss.temporal_similarity: needs keys, similarity", "Recurrent does not provide", "it provides"],
        ),
        (
            ["experiment=videosaur/movi_c", "backbone.keys=false"],
            ["backbone.keys=false", "loss.temporal_similarity needs", "with backbone.keys=true, or another"],
        ),
        (
            ["experiment=videosaur/synthetic", "loss.temporal_similarity.of=keys"],
            ["filters.Filters: gives no keys", "choose a vision transformer with backbone.keys"],
        ),
        (
            ["experiment=videosaur/movi_c", "loss=[temporal_similarity,feature_mse]"],
            ["model.target=null", "loss.feature_mse needs", "choose features"],
        ),
        (["experiment=videosaur/movi_c", "model.target=rgb"], ["model.target=rgb: choose from features"]),
        (
            ["experiment=videosaur/synthetic", "loss.temporal_similarity.of=colours"],
            ["loss.temporal_similarity.of=colours: choose from keys, features"],
        ),
        (
            ["experiment=videosaur/synthetic", "dataset.clip_frames=1"],
            ["dataset.clip_frames=1: loss.temporal_similarity needs at least 2"],
        ),
    ],
)  # fmt: skip
def test_what_a_term_needs_and_does_not_get(overrides: list[str], parts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        composed(overrides)
    assert all(part in str(caught.value) for part in parts), str(caught.value)


# --------------------------------------------------------------------------------------------- runs


def test_a_run_with_sampled_slots_resumes_bit_for_bit(tmp_path, monkeypatch) -> None:
    whole, torn = tiny(tmp_path / "whole", *RUN), tiny(tmp_path / "torn", *RUN)
    assert run.run(whole) == 0
    with monkeypatch.context() as patch:
        at_step(patch, 6, send(signal.SIGTERM))
        assert run.run(torn) == 75
    torch.manual_seed(99)
    assert run.run(torn) == 0
    same(final(torn), final(whole))
    assert result(torn)["evals"]["discovery"]["metrics"] == result(whole)["evals"]["discovery"]["metrics"]


def test_two_ranks_equal_one(tmp_path) -> None:
    settings = (*RUN, *SGD)
    one, two = tiny(tmp_path / "one", *settings), tiny(tmp_path / "two", *settings)
    two_ranks_equal_one(one, two, tmp_path / "log")


# ------------------------------------------------------------------------------------------- import


BACK = [  # names here to names in the release
    ("backbone.vit.", "encoder.module.backbone.model."),
    ("adapter.norm.", "encoder.module.output_transform.layers.0."),
    ("adapter.mlp.0.", "encoder.module.output_transform.layers.1."),
    ("adapter.mlp.2.", "encoder.module.output_transform.layers.3."),
    ("corrector.", "processor.module.corrector."),
    ("predictor.", "processor.module.predictor."),
    ("decoder.allocator.", "decoder.module.allocator.blocks."),
    ("decoder.renderer.", "decoder.module.renderer.layers."),
    ("decoder.output.", "decoder.module.output_transform."),
    ("decoder.", "decoder.module."),
    ("initializer.", "initializer."),
]


def _released(own: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    pairs = {name: next(pair for pair in BACK if name.startswith(pair[0])) for name in own}
    return {theirs + name.removeprefix(ours): own[name] for name, (ours, theirs) in pairs.items()}


@pytest.mark.parametrize(
    ("experiment", "backbone", "tensors", "values"),
    [("movi_c", "dino_b8", 222, 92_147_984), ("ytvis2021", "dino_b16", 232, 90_490_756)],
)
def test_a_release_has_a_place_for_each_of_its_tensors(experiment, backbone, tensors, values) -> None:
    """Names and counts as the paper's model has them; no weights are needed."""
    with torch.device("meta"):
        own = _model(f"experiment=videosaur/{experiment}", f"backbone={backbone}").state_dict()
    names = [importer.rename(videosaur, name) for name in _released(own)]
    assert sorted(names) == sorted(own) and len(own) == tensors
    assert sum(tensor.numel() for tensor in own.values()) == values


def test_a_checkpoint_of_another_method_is_refused(tmp_path, capsys) -> None:
    path = tmp_path / "a.safetensors"
    state = _released(_model(*SMALL).state_dict())
    save_file({f"state_dict.{name}": tensor.contiguous() for name, tensor in state.items()}, path)
    assert verbs.import_(["videosaur", str(path), str(tmp_path / "out"), *SMALL]) == 0
    capsys.readouterr()
    wrong = ["slotcontrast", str(path), str(tmp_path / "b"), "experiment=slotcontrast/movi_c", "debug=tiny"]
    assert verbs.import_(wrong) == 2
    (line,) = capsys.readouterr().err.splitlines()
    expected = (str(path), "not a checkpoint of slotcontrast", "METHOD is one of", "videosaur")
    assert all(part in line for part in expected), line
    assert verbs.import_(["videosaur", str(path), str(tmp_path / "b"), *BOTH]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "does not fit the config" in line and "model.target" in line
    assert sorted(os.listdir(tmp_path)) == ["a.safetensors", "out"]
