"""Residual networks as feature extractors, through timm, with weights of MoCo."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Le
from einops import rearrange
from torch import Tensor, nn

from vocl.errors import UserError
from vocl.interface import Backbone, Features, Grid
from vocl.nn.backbones.framewise import framewise
from vocl.nn.backbones.pretrained import locate_weights
from vocl.ops.narrow import given

PREFIX = "encoder_q."  # of the network in MoCo's files (behind `module.`); its projection is fc.*


class ResNet(Backbone):
    """The map of one stage of a timm residual network, a token per cell; it is also its own key.

    `stage` counts from 1 (the usual names are res2, res3, ...); `strides` are those of the first
    block of each of the four stages: 1 instead of 2 keeps the grid, and widens no kernel (no
    dilation), as in VFS and CRW. Batch norm keeps the statistics of the weights, in training too.

    `name`: a weights file of MoCo as its authors give it, `<weights_root>/<name>.pth.tar`;
    `weights_root` None leaves the weights random, for a checkpoint to fill.
    """

    hub: ClassVar[str] = "github.com/facebookresearch/moco"
    weights_file: ClassVar[str] = "{name}.pth.tar"
    keys = True
    any_size: ClassVar[bool] = True
    framewise: ClassVar[bool] = True

    def __init__(
        self,
        frame_px: tuple[int, int],
        weights_root: Path | None,
        *,
        model: str,
        name: str,
        stage: Annotated[int, Ge(1), Le(4)],
        strides: list[int],
        trainable: bool,
    ) -> None:
        super().__init__()
        net = _timm_resnet(model)
        own = (1, 2, 2, 2)
        if len(strides) != 4 or any(
            not 1 <= stride <= most for stride, most in zip(strides, own, strict=False)
        ):
            raise UserError(f"backbone.strides={strides}: expected four of 1 or 2, the first 1")
        self.patch_px, self.dim = 4 * math.prod(strides[:stage]), net.feature_info[stage]["num_chs"]
        if any(side % self.patch_px for side in frame_px):
            raise UserError(
                f"dataset.size_px={list(frame_px)}: no multiple of the backbone's stride, {self.patch_px}"
            )
        self.net, self.stage = net, stage
        for layer, stride in zip(self._layers(), strides, strict=False):
            _set_stride(layer[0], stride)
        for beyond in ("layer2", "layer3", "layer4")[stage - 1 :]:
            setattr(net, beyond, nn.Identity())
        net.reset_classifier(0)
        self.trainable = trainable
        if weights_root is not None:
            self._fill(locate_weights(name, weights_root, self.weights_file, self.hub))
        self.requires_grad_(trainable).train()

    def train(self, mode: bool = True) -> ResNet:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, video: Tensor, keep: Tensor | None = None) -> Features:
        """`video` b t c h w; tokens and keys b t n e."""
        assert keep is None, "token drop is not built into this backbone"
        frames = rearrange(video, "b t c h w -> (b t) c h w")
        with torch.set_grad_enabled(self.trainable and torch.is_grad_enabled()):
            (found,) = self._run(frames) if self.trainable else framewise(self._run, frames)
        maps = given(found)
        grid = Grid(*maps.shape[-2:])
        tokens = rearrange(maps, "(b t) e r s -> b t (r s) e", b=len(video))
        return Features(tokens, grid, keys=tokens)

    def _run(self, frames: Tensor) -> tuple[Tensor]:
        """The map m e r s of `frames` m c h w."""
        net = self.net
        maps = net.maxpool(net.act1(net.bn1(net.conv1(frames))))
        for layer in self._layers():
            maps = layer(maps)
        return (maps,)

    def _layers(self) -> list[nn.Sequential]:
        return [self.net.layer1, self.net.layer2, self.net.layer3, self.net.layer4][: self.stage]

    def _fill(self, path: Path) -> None:
        from vocl.nn.backbones.weights_file import read_state_dict

        given = {name.removeprefix(PREFIX): tensor for name, tensor in read_state_dict(path).items()}
        own = self.net.state_dict()
        theirs = {name: given.get(name) for name in own}
        wrong = [n for n, tensor in theirs.items() if tensor is None or tensor.shape != own[n].shape]
        if wrong:
            raise UserError(
                f"{path}: not the weights of this network: {len(wrong)} of {len(own)} tensors are missing "
                f"or of another shape, such as {', '.join(wrong[:3])}"
            )
        self.net.load_state_dict(theirs)


def _timm_resnet(model: str) -> Any:
    import timm
    from timm.models.resnet import ResNet as Timm

    if not timm.is_model(model):
        raise UserError(f"backbone.model={model}: timm has no such model; MoCo's is resnet50")
    net = timm.create_model(model)
    if not isinstance(net, Timm) or not isinstance(net.conv1, nn.Conv2d):
        raise UserError(f"backbone.model={model}: not a plain residual network; MoCo's is resnet50")
    return net


def _set_stride(block: nn.Module, stride: int) -> None:
    """Give the convolutions of a block that halve the grid `stride` instead."""
    for module in block.modules():
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            module.stride = (stride, stride)
