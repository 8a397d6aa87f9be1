"""Vision transformers as feature extractors: those of timm, and small random ones."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Lt
from einops import rearrange
from torch import Tensor, nn

from vocl.errors import UserError
from vocl.interface import Backbone, Features, Grid
from vocl.nn.backbones.framewise import framewise
from vocl.nn.backbones.plain_vit import PlainViT
from vocl.nn.backbones.position_code import use_dino_resampling
from vocl.nn.backbones.pretrained import check_name, locate_weights
from vocl.nn.backbones.stochastic_depth import stochastic_depth
from vocl.nn.execution.compiled import region
from vocl.ops.narrow import given


class ViT(Backbone):
    """Patch tokens of one block of a timm vision transformer, or one like it, class token dropped.

    `block` counts from 1; the tokens are the residual stream after it, before the final LayerNorm
    unless `norm`. `keys`: also return the keys of that block's attention (all heads, head-major),
    before any scaling. Frames need not have the size the weights were trained at: the position code
    is resampled, bicubic; `resample`: "antialiased" as timm does, or as "dino" does.
    `drop_path`: rate of stochastic depth in training, growing linearly from 0 in the first of all
    the transformer's blocks to this in its last.

    Token drop: patches are embedded and given their position code in the whole frame; then those of
    `keep` alone, and the class and register tokens, go through the blocks (as in a masked
    autoencoder).
    """

    drops_tokens = True
    any_size: ClassVar[bool] = True
    framewise: ClassVar[bool] = True

    def __init__(
        self,
        vit: Any,  # timm's VisionTransformer or a relative: each has these attributes, no type has
        frame_px: tuple[int, int],
        block: int,
        norm: bool,
        keys: bool,
        trainable: bool,
        drop_path: float,
        resample: Literal["antialiased", "dino"],
    ):
        super().__init__()
        depth = len(vit.blocks)
        if not 1 <= block <= depth:
            raise UserError(f"backbone.block={block}: choose from 1 to {depth}")
        self.dim = vit.embed_dim
        self.patch_px = vit.patch_embed.patch_size[0]
        if any(side % self.patch_px for side in frame_px):
            raise UserError(
                f"dataset.size_px={list(frame_px)}: no multiple of the patch of the backbone, {self.patch_px}"
            )
        self.block, self.norm, self.keys, self.trainable = block, norm, keys, trainable
        self.drop_path, self.rates = drop_path, np.linspace(0, drop_path, depth).tolist()[:block]
        vit.blocks = vit.blocks[:block]
        if drop_path and not all(hasattr(b, "drop_path1") and hasattr(b, "drop_path2") for b in vit.blocks):
            raise UserError(f"backbone.drop_path={drop_path}: this backbone's blocks know none, choose 0")
        if resample == "dino":
            use_dino_resampling(vit)
        if not norm:
            vit.norm = nn.Identity()
        self.drops_tokens = isinstance(getattr(vit, "patch_drop", None), nn.Module)  # relatives of ViT: no
        self.vit = vit.requires_grad_(trainable)

    def forward(self, video: Tensor, keep: Tensor | None = None, key: Tensor | None = None) -> Features:
        """`video` b t c h w, `keep` b t m; tokens b t n e (with `keep`: b t m e).

        `key` (b): what stochastic depth is drawn from in training.
        """
        if self.training and self.drop_path and key is None:
            raise UserError(f"backbone.drop_path={self.drop_path}: this model draws none, choose 0")
        frames = rearrange(video, "b t c h w -> (b t) c h w")
        keep = None if keep is None else rearrange(keep, "b t m -> (b t) m")
        height, width = frames.shape[-2:]
        if height % self.patch_px or width % self.patch_px:
            raise UserError(
                f"frames of {height} x {width} px: no multiple of the backbone's patch, {self.patch_px}"
            )
        grid = self.grid((height, width))
        with ExitStack() as stack:
            stack.enter_context(torch.set_grad_enabled(self.trainable and torch.is_grad_enabled()))
            if self.training and self.drop_path:
                stack.enter_context(stochastic_depth(self.vit.blocks, self.rates, given(key), video.shape[1]))
            at_once = self.trainable or keep is not None
            tokens, keys = self._run(frames, keep) if at_once else framewise(self._run_frozen, frames)
        fold = {"b": len(video)}
        keys = None if keys is None else rearrange(keys, "(b t) n e -> b t n e", **fold)
        return Features(rearrange(given(tokens), "(b t) n e -> b t n e", **fold), Grid(*grid), keys)

    @region
    def _run_frozen(self, frames: Tensor) -> tuple[Tensor, Tensor | None]:
        return self._run(frames)

    def _run(self, frames: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        caught: list[Tensor] = []
        with ExitStack() as hooks:
            if self.keys:
                qkv = self.vit.blocks[self.block - 1].attn.qkv
                hooks.callback(qkv.register_forward_hook(lambda _, __, out: caught.append(out)).remove)
            if keep is not None:  # timm's place for it: between position code and blocks
                place = self.vit.patch_drop.register_forward_hook(lambda _, __, out: self._kept(out, keep))
                hooks.callback(place.remove)
            (tokens,) = self.vit.forward_intermediates(
                frames, indices=[self.block - 1], norm=self.norm, output_fmt="NLC", intermediates_only=True
            )
        if not caught:
            return tokens, None
        patches = caught[0][:, self.vit.num_prefix_tokens :]
        return tokens, rearrange(patches, "m n (three e) -> three m n e", three=3)[1]

    def _kept(self, tokens: Tensor, keep: Tensor) -> Tensor:
        prefix, patches = tokens.tensor_split([self.vit.num_prefix_tokens], dim=1)
        index = keep.unsqueeze(-1).expand(-1, -1, tokens.shape[-1])
        return torch.cat([prefix, patches.gather(1, index)], dim=1)


class TimmViT(ViT):
    """Any timm vision transformer with its pretrained weights.

    `weights_root` None leaves the weights random, for a checkpoint to fill.
    """

    hub: ClassVar[str] = "timm"
    weights_file: ClassVar[str] = "{name}.safetensors"

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
        drop_path: Annotated[float, Ge(0), Lt(1)],
        resample: Literal["antialiased", "dino"],
    ) -> None:
        file = None if weights_root is None else locate_weights(name, weights_root)
        super().__init__(_timm_vit(name, file), frame_px, block, norm, keys, trainable, drop_path, resample)


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
        drop_path: Annotated[float, Ge(0), Lt(1)],
        resample: Literal["antialiased", "dino"],
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(init_seed)
            vit = PlainViT(native_px, patch_px, dim, depth, num_heads, layer_scale)
        super().__init__(vit, frame_px, block, norm, keys, trainable, drop_path, resample)


def _timm_vit(name: str, file: Path | None) -> Any:
    """timm's model with the weights in `file`, all of them or an error; its classifier is dropped.

    `dynamic_img_size` leaves the position code at the grid it was trained at, as the released
    checkpoints of whole models hold it, and resamples it in the forward pass.
    """
    import timm
    from safetensors import SafetensorError

    check_name(name)
    options: dict[str, Any] = {"dynamic_img_size": True}
    if file is not None:
        # custom_load: some models came as .npz, which older releases of timm take any file for
        options |= {"pretrained": True, "pretrained_cfg_overlay": {"file": str(file), "custom_load": False}}
    try:
        # The number of classes is left as it is: timm compares names strictly only then.
        vit: Any = timm.create_model(name, **options)
    except TypeError as error:
        raise UserError(f"backbone.name={name}: not a vision transformer of timm ({error})") from None
    except (SafetensorError, RuntimeError, OSError) as error:
        raise UserError(f"{file}: not the weights of timm model {name}: {str(error)[:300]}") from None
    if not hasattr(vit, "blocks") or not hasattr(vit, "forward_intermediates"):
        raise UserError(f"backbone.name={name}: not a vision transformer of timm")
    vit.reset_classifier(0)
    return vit
