"""A training step on a GPU that is not there: nothing is left on the host, and the host never waits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from fake_gpu import GPU, fake_gpu

from vocl import assemble
from vocl.config.compose import composed
from vocl.dryrun.clips import empty_clip
from vocl.nn.decoders.mixing import _MixHidden
from vocl.optim import clip_on_device
from vocl.rundir.of_config import run_dir_of
from vocl.stop import StopFlag

M, K, N, H = 3, 5, 7, 32
READ_AT_ONCE = {"trainer.py:launch"}  # by the scaler of fp16, before it updates


class Saved:
    """What an autograd function keeps, without the engine, which would ask for the driver of the GPU."""

    def save_for_backward(self, *tensors):
        self.saved_tensors = tensors


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("in_fp8", [False, True])
@pytest.mark.parametrize("placed", [False, True])
def test_a_decoder_goes_forward_and_back(dtype, in_fp8, placed) -> None:
    def new(*shape):
        return torch.empty(*shape, device=GPU, dtype=dtype)

    with fake_gpu() as met, torch.no_grad():
        place = (new(M, K, N, 2), new(H, 2)) if placed else (None, None)
        inputs = [new(M, K, H), new(N, H), new(H), *place, new(H, H), new(H), new(H, H), new(H)]
        active = torch.ones(M, K, dtype=torch.bool, device=GPU)
        ctx = Saved()
        masks, mixed = _MixHidden.forward(ctx, True, in_fp8, active, *inputs)
        assert (masks.shape, masks.dtype, masks.device) == ((M, K, N), torch.float32, GPU)
        assert (mixed.shape, mixed.dtype, mixed.device) == ((M, N, H), dtype, GPU)
        for kept in (ctx.num_kept, 0):  # and where there was no room for the states
            ctx.num_kept = kept
            gradients = _MixHidden.backward(ctx, torch.empty_like(masks), torch.empty_like(mixed))
            for gradient, tensor in zip(gradients[3:], inputs, strict=True):
                assert (gradient is None) == (tensor is None)
                if tensor is not None:
                    assert (gradient.shape, gradient.dtype) == (tensor.shape, dtype)
                    assert gradient.device == GPU
        assert not met


@pytest.mark.parametrize("most", [None, 0.05])
def test_gradients_are_clipped_where_they_are(most) -> None:
    with fake_gpu() as met:
        parameters = [torch.nn.Parameter(torch.empty(3, 2, device=GPU)) for _ in range(2)]
        parameters[0].grad = torch.empty(3, 2, device=GPU)
        numbers = torch.empty(3, device=GPU)
        clip_on_device(parameters, numbers[0], numbers[:2], most)
        assert parameters[0].grad.device == GPU and parameters[0].grad.dtype == torch.float32
        assert parameters[1].grad is None
        assert not met


class Event:
    """Of a stream of a GPU that is not there."""

    def record(self, stream) -> None: ...
    def synchronize(self) -> None: ...


@contextmanager
def without_driver() -> Iterator[None]:
    """Within it a backward pass makes gradients of the right kind, and streams and pinned memory are none."""

    def backward(total, *_, **__) -> None:
        assert total.device == GPU and total.requires_grad
        for parameter in trained:
            parameter.grad = torch.empty_like(parameter)

    trained: list[torch.nn.Parameter] = []
    empty = torch.empty

    def unpinned(*size, pin_memory=False, **kind):
        return empty(*size, **kind)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "backward", backward)
        patch.setattr(torch, "empty", unpinned)
        patch.setattr(torch.cuda, "Event", Event)
        patch.setattr(torch.cuda, "current_stream", lambda device: None)
        patch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
        yield trained


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "precision"),
    [
        *(("slotcontrast/movi_c", precision) for precision in ("fp32", "bf16", "fp8", "fp16")),
        *((experiment, "bf16") for experiment in ("slotcurri/movi_c", "smtc/ytvos", "savi/synthetic")),
    ],
)
def test_a_step_is_launched_without_a_look_at_it(experiment, precision) -> None:
    config = composed([f"experiment={experiment}", f"train.precision={precision}"])
    model = assemble.make_model(config, pretrained=False).to("meta")
    with fake_gpu() as met, without_driver() as trained:
        trainer = assemble.make_trainer(config, model, None, GPU, StopFlag(), run_dir_of(config), mute=True)
        trained += trainer.trainable.values()
        for step in dict.fromkeys([1, *(start + 1 for start in trainer.curriculum.starts)]):
            _, frames = trainer.clips_of(step)
            clip = empty_clip(config, model, 2, frames).to(GPU)
            met.clear()
            launched = trainer.launch(step, clip)
            low = {"bf16": torch.bfloat16, "fp8": torch.bfloat16, "fp16": torch.float16}
            if launched.output.recon is not None:
                assert launched.output.recon.dtype == low.get(precision, torch.float32)
            looks = READ_AT_ONCE if precision == "fp16" else set()
            assert met.keys() - looks == {"ops/readback.py:__init__"}, met  # which is waited for later
            trainer.read(replace(launched, output=None))
