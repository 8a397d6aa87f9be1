"""What the default learns, beside baselines scored by the same code; about ten minutes on 2 cores.

    python benchmarks/learning.py [seed ...]

For each level of the synthetic data, on the same 64 held-out videos: one label for everything,
grids, k-means on the features that the model sees (k = its number of slots), the ceiling that the
patch grid sets (the truth, pooled to patches and upsampled like a prediction), and the model trained
by `python -m vocl.train dataset.source.level=LEVEL` for each seed (0 by default). No settings differ
between levels.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from scipy.cluster.vq import kmeans2
from torch import Tensor

from vocl import assemble
from vocl.config.compose import composed
from vocl.interface import Backbone, Clip, Grid, SegmentOptions, Segments, Source, Subject, VideoModel
from vocl.rundir.results_root import ResultsRoot

LEVELS = ("easy", "medium", "hard")
SHOWN = ("video_fg_ari", "video_mbo", "video_ari")


class Blocks(VideoModel):
    """A grid of rows x columns labels that never moves; 1 x 1 is one label for everything."""

    def __init__(self, grid: Grid, blocks: Grid) -> None:
        super().__init__()
        row = torch.arange(grid.rows) * blocks.rows // grid.rows
        column = torch.arange(grid.columns) * blocks.columns // grid.columns
        labels = rearrange(row[:, None] * blocks.columns + column, "r s -> (r s)")
        self.grid, self.masks = grid, F.one_hot(labels).T.float()

    def segment(self, clip: Clip, options: SegmentOptions, carry: Any = None) -> Segments:
        return Segments(
            masks=repeat(self.masks, "k n -> b t k n", b=1, t=clip.video.shape[1]), grid=self.grid
        )


class KMeans(VideoModel):
    """k-means over all patches of a video; the position channels come last and are left out."""

    def __init__(self, backbone: Backbone, num_clusters: int) -> None:
        super().__init__()
        self.backbone, self.num_clusters = backbone, num_clusters

    def segment(self, clip: Clip, options: SegmentOptions, carry: Any = None) -> Segments:
        features = self.backbone(clip.video)
        tokens = features.tokens[..., :-2]
        points = rearrange(tokens, "b t n e -> (b t n) e").double().numpy()
        best = min((self._cluster(points, seed) for seed in range(3)), key=lambda found: found[0])[1]
        labels = rearrange(torch.from_numpy(best).long(), "(t n) -> t n", t=tokens.shape[1])
        masks = rearrange(F.one_hot(labels, self.num_clusters).float(), "t n k -> 1 t k n")
        return Segments(masks=masks, grid=features.grid)

    def _cluster(self, points: np.ndarray, seed: int) -> tuple[float, np.ndarray]:
        centres, labels = kmeans2(points, self.num_clusters, minit="++", seed=seed)
        return float(((points - centres[labels]) ** 2).sum()), labels


class Ceiling(VideoModel):
    """The truth itself, averaged over each patch: what no mask on the patch grid can beat by much."""

    def __init__(self, source: Source, patch_px: int) -> None:
        super().__init__()
        self.source, self.patch_px = source, patch_px

    def segment(self, clip: Clip, options: SegmentOptions, carry: Any = None) -> Segments:
        labels, _ = self.source.truth(clip.names[0]).labels("drop")
        soft: Tensor = rearrange(F.one_hot(torch.from_numpy(labels).long()).float(), "t h w k -> t k h w")
        pooled = F.avg_pool2d(soft, self.patch_px)
        grid = Grid(*pooled.shape[-2:])
        return Segments(masks=rearrange(pooled, "t k r s -> 1 t k (r s)"), grid=grid)


def baselines(level: str) -> dict[str, dict[str, float]]:
    """Scores of everything that does not learn."""
    config = composed([f"dataset.source.level={level}"])
    dataset = assemble.make_dataset(config)
    evaluation = assemble.make_evaluation(config, "discovery")
    source = assemble.make_source(config, evaluation.split)
    model = assemble.make_model(config, pretrained=True)
    grid = model.backbone.grid(tuple(dataset.size_px))
    models = {
        "one label": Blocks(grid, Grid(1, 1)),
        "grid 2x2": Blocks(grid, Grid(2, 2)),
        "grid 3x3": Blocks(grid, Grid(3, 3)),
        f"k-means, k={model.num_slots}": KMeans(model.backbone, model.num_slots),
        "patch ceiling": Ceiling(source, model.backbone.patch_px),
    }
    subjects = {n: Subject(m, dataset, lambda split: source, torch.device("cpu")) for n, m in models.items()}
    return {name: evaluation.run(subject).metrics for name, subject in subjects.items()}


def trained(level: str, seed: int, root: str) -> tuple[dict[str, float], float]:
    """Scores of the default trained on `level`, and the seconds of the whole process."""
    began = time.monotonic()
    overrides = [
        f"dataset.source.level={level}",
        f"seed={seed}",
        f"runtime.root={root}",
        "runtime.progress=false",
    ]
    subprocess.run([sys.executable, "-m", "vocl.train", *overrides], check=True, stdout=subprocess.DEVNULL)
    folder = ResultsRoot(Path(root))
    found = [folder.run(run).result() for run in folder.run_ids()]
    (result,) = [r for r in found if r.seed == seed]
    return result.metrics, time.monotonic() - began


def line(name: str, metrics: dict[str, float], note: str = "") -> None:
    print(f"{name:24s}" + "".join(f"{metrics[key]:14.3f}" for key in SHOWN) + f"   {note}", flush=True)


def main() -> None:
    seeds = [int(word) for word in sys.argv[1:]] or [0]
    for level in LEVELS:
        print(f"\n{level:24s}" + "".join(f"{key:>14s}" for key in SHOWN))
        for name, metrics in baselines(level).items():
            line(name, metrics)
        for seed in seeds:
            with tempfile.TemporaryDirectory() as root:
                metrics, seconds = trained(level, seed, root)
            line(f"vocl, seed {seed}", metrics, f"{seconds:.0f} s")


if __name__ == "__main__":
    main()
