"""Where the reference values lie, and the config that their tensors' shapes say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from comparing import FOLDER, count
from torch import Tensor

VIT = "encoder.module.backbone.model."
HEADS = {"backbone.num_heads": 2, "model.predictor.num_heads": 4}  # no shape tells these


@pytest.fixture(scope="session")
def golden() -> Callable[[str], tuple[Path, dict[str, Tensor], dict[str, str]]]:
    """Path, tensors and metadata of a file of reference values; skips where it is absent."""

    def read(name: str) -> tuple[Path, dict[str, Tensor], dict[str, str]]:
        from safetensors import safe_open

        path = FOLDER / name
        if not path.is_file():
            pytest.skip(f"no reference values: {path} is absent (set VOCL_GOLDEN)")
        with safe_open(path, "pt") as file:
            return path, {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118

    return read


@pytest.fixture(scope="session")
def sizes() -> Callable[[dict[str, Tensor], Tensor], list[str]]:
    """Overrides that make the model of a SlotContrast state dict for frames like `video`."""

    def overrides(state: dict[str, Tensor], video: Tensor) -> list[str]:
        patches, dim = state[f"{VIT}pos_embed"].shape[1] - 1, state[f"{VIT}pos_embed"].shape[2]
        patch_px = state[f"{VIT}patch_embed.proj.weight"].shape[-1]
        depth = count(state, f"{VIT}blocks.")
        hidden = [k for k in state if k.startswith("decoder.module.mlp.layers.") and k.endswith(".weight")]
        _, num_slots, slot_dim = state["initializer.slots"].shape
        values = {
            "backbone.native_px": round(patches**0.5) * patch_px,
            "backbone.patch_px": patch_px,
            "backbone.dim": dim,
            "backbone.depth": depth,
            "backbone.block": depth,
            "backbone.layer_scale": 1.0 if f"{VIT}blocks.0.ls1.gamma" in state else "null",
            "model.num_slots": num_slots,
            "model.slot_dim": slot_dim,
            "model.adapter.hidden_ratio": len(state["encoder.module.output_transform.layers.1.weight"]) / dim,
            "model.corrector.mlp_dim": len(state["processor.module.corrector.mlp.layers.1.weight"]),
            "model.corrector.first_iterations": 3,
            "model.corrector.iterations": 2,
            "model.predictor.num_blocks": count(state, "processor.module.predictor.blocks."),
            "model.predictor.ffn_dim": len(state["processor.module.predictor.blocks.0.linear1.weight"]),
            "model.decoder.hidden_dim": len(state[min(hidden)]),
            "model.decoder.num_layers": len(hidden) - 1,
            "dataset.size_px": list(video.shape[-2:]),
            "dataset.clip_frames": video.shape[-4],
            "train.batch": video.shape[-5],
            "loss.feature_mse.weight": 1.0,
            "loss.slot_contrast.weight": 0.5,
            **HEADS,
        }
        groups = ["experiment=slotcontrast/synthetic", "backbone=tiny_vit", "eval=[]", "runtime.threads=1"]
        return groups + [f"{key}={str(value).replace(' ', '')}" for key, value in values.items()]

    return overrides


@pytest.fixture(autouse=True)
def threads(one_thread: None) -> None:
    """Sums of floats depend on the number."""
