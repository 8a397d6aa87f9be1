"""Batches as a pure function of the step, and whole videos for evaluation."""

from __future__ import annotations

import functools
from collections.abc import Generator

import numpy as np
import torch
from torch import Tensor

from vocl import dist
from vocl.data.loaders import Loaders
from vocl.data.transforms import to_input
from vocl.errors import UserError
from vocl.interface import Clip, Source, Video
from vocl.ops.random import seed_of
from vocl.settings import Dataset

CACHE_BYTES = 256 * 2**20  # of input frames, oldest out first: a small set is fitted only once


class Feed:
    """Training clips. The GLOBAL batch of a step depends on (source, seed, step) alone.

    Clip p = step * batch + i is drawn from an endless sequence of permutations of the videos (every
    video once per epoch: the releases draw with replacement), with its start, flip, direction and
    crop from a generator seeded by (seed, p). Rank r of w takes the r-th slice of the batch, so w
    may change at a resume; no state needs saving.
    """

    def __init__(self, source: Source, dataset: Dataset, seed: int, batch: int, frames: int) -> None:
        self.source, self.dataset, self.seed = source, dataset, seed
        self.frames, self.size = frames, batch
        if batch % dist.world():
            raise UserError(f"train.batch={batch}: not a multiple of the {dist.world()} processes")
        self._order: dict[int, np.ndarray] = {}
        self._inputs: dict[tuple[str, int], Tensor] = {}

    def check(self) -> None:
        """Refuse an empty source and videos that are shorter than a clip."""
        if len(self.source) == 0:
            raise UserError(f"dataset {self.dataset.name}: its training split has no videos")
        short = [v for v in (self.source[i] for i in range(len(self.source))) if v.length < self.frames]
        if short:
            raise UserError(
                f"dataset.clip_frames={self.frames}: {len(short)} of {len(self.source)} training videos are "
                f"shorter, the first is {short[0].name} with {short[0].length} frames"
            )

    def batch(self, step: int) -> Clip:
        """This rank's slice of the batch of `step`."""
        local = self.size // dist.world()
        first = step * self.size + dist.rank() * local
        clips = [self._clip(position) for position in range(first, first + local)]
        names = tuple(name for name, _ in clips)
        key = torch.tensor([seed_of(self.seed, "clip", p) for p in range(first, first + local)])
        videos = torch.stack([frames for _, frames in clips])
        return Clip(video=videos, valid=torch.ones(videos.shape[:2], dtype=torch.bool), key=key, names=names)

    def batches(self, start: int, stop: int, workers: int) -> Generator[Clip, None, None]:
        """The batches of steps `start` to `stop`; with `workers`, prepared ahead by processes, which
        last until this generator is closed."""
        if workers == 0:
            yield from (self.batch(step) for step in range(start, stop))
            return
        make = functools.partial(_batch, self, dist.world(), dist.rank())
        with Loaders(make, range(start, stop), workers) as loaders:
            for _ in range(start, stop):
                yield loaders.take()

    def _clip(self, position: int) -> tuple[str, Tensor]:
        """Name and input frames t c h w of clip `position`."""
        epoch, place = divmod(position, len(self.source))
        video = self.source[int(self._permutation(epoch)[place])]
        rng = np.random.Generator(np.random.Philox(seed_of(self.seed, "draw", position)))
        start_u, flip_u, reverse_u, window = rng.random(4)
        stride = self.frames if self.dataset.clip_starts == "aligned" else 1
        starts = range(0, video.length - self.frames + 1, stride)
        start = starts[int(start_u * len(starts))]
        frames = self._to_input(video, range(start, start + self.frames), window)
        chances = {-1: (flip_u, self.dataset.flip), 0: (reverse_u, self.dataset.reverse)}
        return video.name, frames.flip([axis for axis, (draw, chance) in chances.items() if draw < chance])

    def _to_input(self, video: Video, indices: range, window: float) -> Tensor:
        """Frames of `video` as the model takes them; a crop is random, so only the others are kept."""
        dataset = self.dataset
        shape = (tuple(dataset.size_px), dataset.fit, dataset.normalise)
        if dataset.fit == "crop":
            return to_input(torch.from_numpy(video.frames(indices)), *shape, window)
        missing = [i for i in indices if (video.name, i) not in self._inputs]
        if missing:
            for i, frame in zip(
                missing, to_input(torch.from_numpy(video.frames(missing)), *shape), strict=True
            ):
                self._inputs[video.name, i] = frame
        frames = torch.stack([self._inputs[video.name, i] for i in indices])
        while len(self._inputs) * frames[0].nbytes > CACHE_BYTES:
            del self._inputs[next(iter(self._inputs))]
        return frames

    def _permutation(self, epoch: int) -> np.ndarray:
        if epoch not in self._order:
            rng = np.random.Generator(np.random.Philox(seed_of(self.seed, "epoch", epoch)))
            self._order = {k: v for k, v in self._order.items() if abs(k - epoch) < 2}
            self._order[epoch] = rng.permutation(len(self.source))
        return self._order[epoch]


def _batch(feed: Feed, world: int, rank: int, step: int) -> Clip:
    """A slice of the batch of `step` in a loader process, which knows no process group."""
    with dist.pretend(world, rank):
        return feed.batch(step)


def whole_video(video: Video, dataset: Dataset, start: int, stop: int, seed: int) -> Clip:
    """Frames `start` to `stop` of one video as a clip of batch 1, as the model sees it at test."""
    frames = torch.from_numpy(np.ascontiguousarray(video.frames(range(start, stop))))
    fitted = to_input(frames, tuple(dataset.size_px), dataset.fit, dataset.normalise).unsqueeze(0)
    return Clip(
        video=fitted,
        valid=torch.ones(fitted.shape[:2], dtype=torch.bool),
        key=torch.tensor([seed_of(seed, "evaluation", video.name)]),
        names=(video.name,),
    )
