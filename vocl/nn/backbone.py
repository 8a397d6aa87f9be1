"""Vision transformers as feature extractors, through timm."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Ge
from einops import rearrange
from torch import Tensor, nn

from vocl.errors import UserError
from vocl.interface import Backbone, Features, Grid


class ViT(Backbone):
    """Patch tokens of one block of a timm vision transformer, class token dropped.

    `block` counts from 1; the tokens are the residual stream after it, before the final LayerNorm
    unless `norm`. `keys`: also return the keys of that block's attention (all heads, head-major),
    before any scaling. Frames need not have the size the weights were trained at: timm resamples
    the position code (bicubic, antialiased).
    """

    def __init__(
        self, vit: nn.Module, frame_px: tuple[int, int], block: int, norm: bool, keys: bool, trainable: bool
    ):
        super().__init__()
        depth = len(vit.blocks)
        if not 1 <= block <= depth:
            raise UserError(f"backbone.block={block}: choose from 1 to {depth}")
        self.dim = vit.embed_dim
        self.patch_px = vit.patch_embed.patch_size[0]
        if any(side % self.patch_px for side in frame_px):
            raise UserError(
                f"dataset.size_px={list(frame_px)}: not a multiple of the backbone's patch, {self.patch_px} px"
            )
        self.block, self.norm, self.keys, self.trainable = block, norm, keys, trainable
        vit.blocks = vit.blocks[:block]
        if not norm:
            vit.norm = nn.Identity()
        self.vit = vit.requires_grad_(trainable)

    def forward(self, video: Tensor, keep: Tensor | None = None) -> Features:
        """`video` b t c h w; tokens b t n e."""
        assert keep is None, "token drop is not built into this backbone"
        frames = rearrange(video, "b t c h w -> (b t) c h w")
        grid = self.grid(tuple(frames.shape[-2:]))
        with torch.set_grad_enabled(self.trainable and torch.is_grad_enabled()):
            tokens, keys = self._run(frames)
        fold = {"b": len(video)}
        keys = None if keys is None else rearrange(keys, "(b t) n e -> b t n e", **fold)
        return Features(rearrange(tokens, "(b t) n e -> b t n e", **fold), Grid(*grid), keys)

    def _run(self, frames: Tensor) -> tuple[Tensor, Tensor | None]:
        caught: list[Tensor] = []
        hook = None
        if self.keys:
            qkv = self.vit.blocks[self.block - 1].attn.qkv
            hook = qkv.register_forward_hook(lambda _, __, output: caught.append(output))
        try:
            (tokens,) = self.vit.forward_intermediates(
                frames, indices=[self.block - 1], norm=self.norm, output_fmt="NLC", intermediates_only=True
            )
        finally:
            if hook is not None:
                hook.remove()
        if not caught:
            return tokens, None
        patches = caught[0][:, self.vit.num_prefix_tokens :]
        return tokens, rearrange(patches, "m n (three e) -> three m n e", three=3)[1]


class TimmViT(ViT):
    """Any timm vision transformer with its pretrained weights.

    `weights_root` None leaves the weights random, for a checkpoint to fill.
    """

    def __init__(
        self,
        frame_px: tuple[int, int],
        weights_root: Path | None,
        *,
        name: str,
        block: Annotated[int, Ge(1)],
        norm: bool,
        keys: bool,
        trainable: bool,
    ) -> None:
        import timm

        options = {"num_classes": 0, "dynamic_img_size": True}
        if weights_root is not None:
            options |= {
                "pretrained": True,
                "pretrained_cfg_overlay": {"file": str(locate_weights(name, weights_root))},
            }
        super().__init__(timm.create_model(name, **options), frame_px, block, norm, keys, trainable)


class RandomViT(ViT):
    """A vision transformer with random weights, the same for the same `init_seed`: for tests.

    `layer_scale`: initial gain of the residual branches, null for none.
    """

    def __init__(
        self,
        frame_px: tuple[int, int],
        weights_root: Path | None,
        *,
        init_seed: int,
        native_px: Annotated[int, Ge(1)],
        patch_px: Annotated[int, Ge(1)],
        dim: Annotated[int, Ge(1)],
        depth: Annotated[int, Ge(1)],
        num_heads: Annotated[int, Ge(1)],
        layer_scale: float | None,
        block: Annotated[int, Ge(1)],
        norm: bool,
        keys: bool,
        trainable: bool,
    ) -> None:
        from timm.models.vision_transformer import VisionTransformer

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(init_seed)
            vit = VisionTransformer(
                img_size=native_px,
                patch_size=patch_px,
                embed_dim=dim,
                depth=depth,
                num_heads=num_heads,
                init_values=layer_scale,
                num_classes=0,
                dynamic_img_size=True,
            )
        super().__init__(vit, frame_px, block, norm, keys, trainable)


def locate_weights(name: str, weights_root: Path) -> Path:
    """The weights file of timm model `name`: `<weights_root>/<name>.safetensors`, else from the hub.

    Raises `UserError` when neither is there, saying how to get it.
    """
    path = weights_root / f"{name}.safetensors"
    return path if path.is_file() else fetch_weights(name, weights_root)


def fetch_weights(name: str, weights_root: Path) -> Path:
    """Download timm model `name` from the hub to `<weights_root>/<name>.safetensors`."""
    import timm
    from safetensors.torch import save_file

    from vocl.files import atomic_path

    if not timm.is_model(name):
        close = ", ".join(timm.list_models(f"*{name.split('.')[0][:14]}*", pretrained=True)[:8])
        raise UserError(f"backbone.name={name}: timm has no such model; similar ones: {close or 'none'}")
    path = weights_root / f"{name}.safetensors"
    try:
        state = timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # the hub's client raises many kinds when it cannot reach it
        raise UserError(
            f"{path}: no such weights file, and the hub cannot be reached ({type(error).__name__}); "
            f"on a machine with network run: vocl fetch {name} runtime.weights_root={weights_root}"
        ) from error
    with atomic_path(path) as temporary:
        save_file({key: value.contiguous() for key, value in state.items()}, temporary)
    return path
