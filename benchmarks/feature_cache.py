"""One training step with cached features of the backbone against the same step without.

Run from the repository root: `python benchmarks/feature_cache.py`. The step is that of SlotContrast on
real video at 224 x 392: a frozen ViT-S/14, here with random weights, 7 slots of width 32 and the small
MLP decoder of experiment slotcontrast/synthetic, on 2 clips of 4 frames out of JPEG files of 854 x 480,
decoded and fitted by the feed. Both see the same clips; every loss and gradient norm must be equal to
the bit. They alternate, and the last figure compares the best of each.

`encoded_frames`: frames that went through the ViT for 12 runs of one sweep (six seeds, two numbers of
slots) that read one cache, beside what they would need without one for a single epoch.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from vocl import run
from vocl.config.compose import composed
from vocl.config.run_config import RunConfig
from vocl.data.features.encoder import Encoder
from vocl.data.sources.synthetic import Synthetic
from vocl.stop import StopFlag
from vocl.trainer import Trainer

SECONDS, MOST, FEWEST = 30.0, 12, 2
VIDEOS, FRAMES, SIZE = 2, 6, (480, 854)
RUN = [
    "experiment=slotcontrast/synthetic",
    "dataset=davis2016",
    "backbone=tiny_vit",
    "backbone.native_px=518",
    "backbone.dim=384",
    "backbone.depth=12",
    "backbone.block=12",
    "backbone.num_heads=6",
    "dataset.source.sequences=[v0,v1]",
    "dataset.size_px=[224,392]",
    "dataset.clip_frames=4",
    "train.batch=2",
    "model.num_slots=7",
    "runtime.threads=1",
    "runtime.device=cpu",
    "runtime.feature_cache=always",
]


def write_videos(root: Path) -> None:
    """Videos of sprites as JPEG files, in the layout of DAVIS-2016."""
    source = Synthetic(
        "train",
        None,
        level="hard",
        seed=0,
        size_px=256,
        num_frames=FRAMES,
        num_train=VIDEOS,
        num_dev=1,
        num_validation=1,
    )
    for v in range(VIDEOS):
        folders = [root / "davis2016" / kind / "480p" / f"v{v}" for kind in ("JPEGImages", "Annotations")]
        for folder in folders:
            folder.mkdir(parents=True)
        frames, labels = source[v].frames(range(FRAMES)), source[v].labels(range(FRAMES))
        for i, (frame, label) in enumerate(zip(frames, labels, strict=True)):
            Image.fromarray(frame).resize(SIZE[::-1]).save(folders[0] / f"{i:05d}.jpg", quality=90)
            mask = Image.fromarray(((label > 0) * 255).astype("uint8"))
            mask.resize(SIZE[::-1], Image.Resampling.NEAREST).save(folders[1] / f"{i:05d}.png")


def make_trainer(config: RunConfig) -> Trainer:
    """The run of `config` before its first step, its cache filled where it has one."""
    device = torch.device("cpu")
    folder = run.run_folder(config)
    trainer = run.make_trainer(config, folder, device, StopFlag(), fresh=True, silent=True)
    run.fill_cache(config, trainer)
    return trainer


def count_frames() -> list[int]:
    """The numbers of frames that encoders are given from here on."""
    seen: list[int] = []
    call = Encoder.__call__

    def counted(self, frames, flipped):
        seen.append(len(frames))
        return call(self, frames, flipped)

    Encoder.__call__ = counted
    return seen


def measure(trainers: dict[str, Trainer], began: float) -> dict[str, list[float]]:
    """Seconds per step of each, feed included, in alternation."""
    found: dict[str, list[float]] = {name: [] for name in trainers}
    for step in range(MOST):
        said = {}
        for name, trainer in trainers.items():
            start = time.perf_counter()
            taken = trainer.step(step, trainer.feed(step).batch(step))
            found[name].append(time.perf_counter() - start)
            said[name] = (taken.loss, taken.norm, taken.terms)
        assert said["cached"] == said["uncached"], f"step {step}: {said}"
        if step + 1 >= FEWEST and time.perf_counter() - began > SECONDS:
            break
    return found


def main() -> None:
    began = time.perf_counter()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_videos(root)
        seen = count_frames()
        start = time.perf_counter()
        config = composed([*RUN, f"runtime.root={root / 'results'}", f"runtime.data_root={root}"])
        trainers = {"cached": make_trainer(config)}
        print(f"fill {time.perf_counter() - start:.1f} s for {sum(seen)} frames")
        size = sum(path.stat().st_size for path in (root / "results" / "features").rglob("*.safetensors"))
        print(f"cache {size / 2**20:.1f} MiB, {size / 2**20 / (2 * VIDEOS * FRAMES):.2f} MiB per frame")
        for seed in range(6):
            for slots in (5, 7):
                other = replace(config, seed=seed, model=config.model | {"num_slots": slots})
                make_trainer(other).feed(0).batch(0)
        print(f"encoded_frames {sum(seen)} for 12 runs, {12 * VIDEOS * FRAMES} an epoch without a cache")
        config = replace(config, runtime=replace(config.runtime, feature_cache="none"))
        trainers["uncached"] = make_trainer(config)
        found = measure(trainers, began)
    for name, seconds in found.items():
        print(f"step {name} {min(seconds):.3f} s, {len(seconds)} rounds")
    print(f"ratio={min(found['cached']) / min(found['uncached']):.4f}")


if __name__ == "__main__":
    main()
