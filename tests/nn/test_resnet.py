"""timm's residual networks with MoCo's weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from launch.cli import main
from vocl import assemble
from vocl.commands import verbs
from vocl.config.compose import composed
from vocl.errors import UserError
from vocl.nn.backbones.resnet import ResNet

NAME = "moco_tiny"
PX = (48, 64)


@pytest.fixture(scope="module")
def moco(tmp_path_factory) -> tuple[Path, nn.Module]:
    """A folder with a file like MoCo's, and timm's own network with its weights."""
    import timm

    torch.manual_seed(0)
    net = timm.create_model("resnet18").eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
    state = {f"module.encoder_q.{k}": v for k, v in net.state_dict().items() if not k.startswith("fc.")}
    state |= {
        name.replace("encoder_q", "encoder_k"): torch.zeros_like(value) for name, value in state.items()
    }
    state |= {"module.encoder_q.fc.0.weight": torch.ones(3, 3), "module.queue": torch.ones(4, 4)}
    root = tmp_path_factory.mktemp("weights")
    content = {"epoch": 800, "arch": "resnet50", "state_dict": state, "optimizer": {}}
    torch.save(content, root / f"{NAME}.pth.tar")
    return root, net


def resnet(root: Path | None, **changes) -> ResNet:
    settings = {"model": "resnet18", "name": NAME, "stage": 3, "strides": [1, 2, 2, 2], "trainable": False}
    return ResNet(PX, root, **settings | changes)


def video(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 2, 3, *PX, generator=torch.Generator().manual_seed(0))


def test_the_map_of_a_stage_is_timms(moco):
    root, net = moco
    found = resnet(root)(video())
    with torch.no_grad():
        x = net.layer3(
            net.layer2(net.layer1(net.maxpool(net.act1(net.bn1(net.conv1(video().flatten(0, 1)))))))
        )
    assert found.grid == (3, 4) and found.tokens.shape == (2, 2, 12, 256)
    torch.testing.assert_close(found.tokens.flatten(0, 1), x.flatten(2).transpose(1, 2))
    assert torch.equal(found.keys, found.tokens)


def test_a_stride_of_1_keeps_the_grid_and_its_even_cells(moco):
    """Every second cell of the finer map is computed from the same neighbours only in the first block."""
    root, _ = moco
    coarse, fine = resnet(root), resnet(root, strides=[1, 2, 1, 1])
    assert (coarse.patch_px, fine.patch_px) == (16, 8)
    assert (coarse.dim, fine.dim) == (256, 256) and fine.grid(PX) == fine(video()).grid == (6, 8)
    x = torch.randn(1, 128, 6, 8)
    first, finer = coarse.net.layer3[0], fine.net.layer3[0]
    with torch.no_grad():
        torch.testing.assert_close(finer.conv1(x)[..., ::2, ::2], first.conv1(x))
        torch.testing.assert_close(finer.downsample(x)[..., ::2, ::2], first.downsample(x))
    assert all(m.dilation == (1, 1) for m in fine.modules() if isinstance(m, nn.Conv2d))


def test_the_papers_backbone():
    config = composed(["backbone=resnet50_moco", "dataset.size_px=[256,256]"])
    model = assemble.make_backbone(config, (256, 256), None)
    assert model.dim == 1024 and model.patch_px == 8 and model.grid((256, 256)) == (32, 32)
    names = {name.split(".")[1] for name in model.state_dict()}
    assert names == {"conv1", "bn1", "layer1", "layer2", "layer3"}


def test_the_statistics_of_batch_norm_never_change(moco):
    root, _ = moco
    model = resnet(root, trainable=True).train()
    before = {name: value.clone() for name, value in model.named_buffers()}
    both = model(video()).tokens
    torch.testing.assert_close(model(video()[:1]).tokens, both[:1])
    both.sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    assert all(p.grad is not None for p in model.parameters())
    assert not any(p.requires_grad for p in resnet(root).parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "resnet17"}, "backbone.model=resnet17: timm has no such model"),
        ({"model": "vit_tiny_patch16_224"}, "not a plain residual network"),
        ({"strides": [2, 2, 2, 2]}, "expected four of 1 or 2, the first 1"),
        ({"strides": [1, 2]}, "expected four of 1 or 2"),
        ({"model": "resnet50"}, "not the weights of this network: .* such as"),
        ({"name": "absent"}, r"absent.pth.tar: no such weights file; download it from github.com/facebook"),
    ],
)
def test_what_will_not_do(moco, changes, message):
    with pytest.raises(UserError, match=message):
        resnet(moco[0], **changes)


def test_frames_that_are_no_multiple_of_the_stride():
    with pytest.raises(UserError, match=r"dataset.size_px=\[50, 64\]: no multiple of the backbone's stride"):
        ResNet((50, 64), None, model="resnet18", name="", stage=3, strides=[1, 2, 1, 1], trainable=False)


def test_missing_weights_are_told_with_where_they_are(tmp_path, capsys):
    arguments = ["backbone=resnet50_moco", f"runtime.weights_root={tmp_path}"]
    assert verbs.fetch(arguments) == 2
    hub = "download it from github.com/facebookresearch/moco"
    told = f"moco_v2_800ep_pretrain.pth.tar: no such weights file; {hub}"
    assert f"{tmp_path}/{told}\n" == capsys.readouterr().err
    config = composed(arguments)
    assert [line for line in assemble.missing_inputs(config, fresh=True) if told in line]
    assert not [line for line in assemble.missing_inputs(config, fresh=False) if told in line]
    assert main(["plan", *arguments, f"runtime.root={tmp_path}/results"]) == 0
    out = capsys.readouterr().out
    assert "no file" in out and hub in out and "vocl fetch" not in out
