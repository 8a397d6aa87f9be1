"""Scoring 250 videos of MOVi-C on a GPU, by count, and what decoding the next video meanwhile saves.

Run from the repository root: `python benchmarks/evaluation.py`. No GPU is needed. By count: matrix products
of the published model (ViT-S/14, 336 px) on 24 frames over 0.4 of an A100's TF32 rate, and the bytes that
pass between host and GPU. Measured, as object discovery scores them from a store, with masks of 256 px:
seconds per video, where a model that sleeps as long as that GPU would compute stands for it; upsampling and
counting, which the GPU does, are done here. `seconds_250` is what follows, to be below 60. The baseline
decodes a video when its turn comes.
"""

from __future__ import annotations

import functools
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import counts
import stores
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vocl import assemble
from vocl.config.compose import composed
from vocl.data.served import Served
from vocl.data.store.source import Stored, StoredVideo
from vocl.dryrun.clips import empty_clip
from vocl.dryrun.memory import HOST, faked
from vocl.interface import Clip, Grid, SegmentOptions, Segments, Source, Subject

EXPERIMENT, VIDEOS, ALL, LENGTH, SIDE, ROUNDS = "slotcontrast/movi_c", 10, 250, 24, 256, 4
TF32 = 156e12  # of an A100, FLOP/s


class Sleeps(nn.Module):
    """Takes as long as it is told to and says that all is one slot's."""

    def __init__(self, seconds: float, slots: int, grid: Grid) -> None:
        super().__init__()
        self.seconds, self.grid = seconds, grid
        self.masks = torch.zeros(slots, grid.rows * grid.columns)
        self.masks[0] = 1

    def segment(self, clip: Clip, options: SegmentOptions, carry: object = None) -> Segments:
        time.sleep(self.seconds)
        return Segments(masks=self.masks.expand(*clip.valid.shape, -1, -1), grid=self.grid)


def flops_of_video() -> tuple[int, tuple[int, ...], Grid]:
    """Of `segment` on a whole video; the shape of its masks, and their grid."""
    config = composed([f"experiment={EXPERIMENT}"])
    model = assemble.make_model(config, pretrained=False).to("meta").requires_grad_(False)
    with faked(2**37), torch.no_grad():
        model.to(HOST)
        clip = empty_clip(config, model, 1, LENGTH)
        with FlopCounterMode(display=False) as counter:
            found = model.eval().segment(clip, SegmentOptions(cyclic=False, iterations=None, seed=0))
        return counter.get_total_flops(), tuple(found.masks.shape), found.grid


def seconds(source: Source, model: nn.Module, ahead: bool) -> float:
    """Per video, of an evaluation."""
    config = composed([f"experiment={EXPERIMENT}"])
    dataset = replace(assemble.make_dataset(config), size_px=[14, 14])  # resizing is the GPU's
    name = next(name for name in config.eval if "discovery" in name)
    evaluation = assemble.make_evaluation(config, name)
    StoredVideo.in_threads = ahead
    began = time.perf_counter()
    subject = Subject(model=model, dataset=dataset, source=lambda split: source, device=HOST)
    report = evaluation.run(subject)
    assert len(report.rows) == VIDEOS
    return (time.perf_counter() - began) / VIDEOS


def main() -> None:
    flops, shape, grid = flops_of_video()
    gpu_s = flops / (TF32 * counts.REACHED)
    model = Sleeps(gpu_s, 2, grid)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        stores.make_folders(root / "source", VIDEOS, LENGTH, (SIDE, SIDE), masks=True, kind="png")
        stores.make_store(root / "source", root / "store", workers=2, shard_mb=512)
        source = Served(Stored("train", root, name="store", train="train"), {"video"})
        decode = functools.partial(source[0].frames, range(LENGTH))
        began = time.perf_counter()
        decode()
        decode_s = time.perf_counter() - began
        ours, theirs = [], []
        for _ in range(ROUNDS):
            theirs.append(seconds(source, model, ahead=False))
            ours.append(seconds(source, model, ahead=True))
    up, down = LENGTH * SIDE * SIDE * (3 + 8), LENGTH * 12 * shape[2] * 8
    print(f"by count: {ALL * flops / 1e15:.2f} PFLOP, {ALL * gpu_s:.1f} s of an A100")
    print(f"MiB of {ALL}: {ALL * up / 2**20:.0f} up (frames, labels), {ALL * down / 2**20:.1f} down (counts)")
    print(f"decode_s_per_video={decode_s:.3f} gpu_s_per_video={gpu_s:.3f}")
    print(f"s_per_video={min(ours):.3f} one_after_the_other={min(theirs):.3f}")
    print(f"seconds_{ALL}={ALL * min(ours):.0f} limit_s=60")
    print(f"ratio={min(ours) / min(theirs):.3f}")


if __name__ == "__main__":
    main()
