"""A frozen backbone's features of frames, exactly as they are in a batch of training or at test."""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vocl.config.migrate import targets_as_before
from vocl.config.sections import Dataset
from vocl.data.fitting import smaller_stored
from vocl.data.transforms import resized, seen_box
from vocl.errors import UserError
from vocl.interface import Backbone, Features
from vocl.nn.backbones.framewise import chunk_frames
from vocl.nn.execution.precision import autocast, of_autocast
from vocl.ops.narrow import pair
from vocl.ops.normalisation import normalised

FORMAT = 1  # of the files, and of how features come about in this code: another number, another cache


class Encoder:
    """Frames to the features of `backbone`, which is frozen, for the clips that `dataset` makes of them.

    `settings`: the backbone's node of the config; `precision`: of `train.precision`, as the model runs.
    A frame is seen as without any augmentation but a mirror image; of "crop", the centre.
    """

    def __init__(
        self,
        backbone: Backbone,
        settings: dict[str, Any],
        dataset: Dataset,
        device: torch.device,
        precision: str,
    ) -> None:
        assert backbone.framewise and not any(p.requires_grad for p in backbone.parameters())
        self.backbone, self.settings, self.dataset = backbone, settings, dataset
        self.device, self.precision = device, precision
        self._tried = False

    def about(self) -> dict[str, Any]:
        """All that the features of a frame depend on, beside the frame."""
        dataset = self.dataset
        return {
            "format": FORMAT,
            "backbone": targets_as_before(self.settings),  # where its class lies does not matter
            "weights": _digest_of(self.backbone),
            "transform": [list(dataset.size_px), dataset.fit, dataset.normalise],
            "precision": of_autocast(self.precision),
            "arithmetic": _arithmetic(self.device),
        }

    def folder(self, root: Path) -> Path:
        """Where these features live under a results folder."""
        text = json.dumps(self.about(), sort_keys=True)
        return root / "features" / hashlib.blake2s(text.encode(), digest_size=8).hexdigest()

    @torch.no_grad()
    def __call__(self, frames: np.ndarray, flipped: bool) -> Features:
        """Features, b = 1, on the host, of frames uint8 t h w 3. `UserError` where they are not exact."""
        size_px = pair(self.dataset.size_px)
        box = seen_box(pair(frames.shape[1:3]), size_px, self.dataset.fit, 0.5)
        video = torch.from_numpy(frames)
        if smaller_stored(box, size_px):  # else it is resized by who decodes it, as in training
            video = video.to(self.device)
        video = resized(video, box, size_px).to(self.device)
        video = normalised(video.flip(-1) if flipped else video, self.dataset.normalise)
        features = self._run(video)
        if not self._tried and chunk_frames(self.device) > 1:
            self._try(video, features)
        self._tried = True
        return features

    def _run(self, video: Tensor) -> Features:
        with autocast(self.precision, self.device):
            return self.backbone(video.unsqueeze(0).to(self.device)).to("cpu")

    def _try(self, video: Tensor, features: Features) -> None:
        """Refuse a device on which a frame's features depend on what shares its chunk."""
        size = chunk_frames(self.device)
        other = torch.rand(size, *video.shape[1:], generator=torch.Generator().manual_seed(0))
        for place in range(size):
            other[place] = video[0]
            found = self._run(other)
            if not torch.equal(found.tokens[0, place], features.tokens[0, 0]):
                raise UserError(
                    f"runtime.feature_cache: on {torch.cuda.get_device_name(self.device)} a frame's features "
                    "depend on its place in a batch, so a cache would not be exact; choose none"
                )


def _digest_of(backbone: Backbone) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(backbone.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _arithmetic(device: torch.device) -> list[str | int | bool]:
    """What the last bits depend on: which kernels run, on which processor."""
    if device.type == "cuda":
        flags = [torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32]
        return [torch.__version__, torch.cuda.get_device_name(device), *flags, chunk_frames(device)]
    return [torch.__version__, _processor(), torch.get_num_threads()]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor()
    return f"{name} {torch.backends.cpu.get_cpu_capability()}"
