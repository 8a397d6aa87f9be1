"""Batches as a pure function of the step, and whole videos for evaluation."""

from __future__ import annotations

import functools
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vocl import dist
from vocl.config.build import Part
from vocl.config.sections import Dataset
from vocl.data.ahead import brought
from vocl.data.annotations import Placement, in_fields, placed, stacked
from vocl.data.augment import Geometric, Photometric, check_window
from vocl.data.fitting import Fitting, Unfitted, in_parts, smaller_stored
from vocl.data.loaders import Loaders
from vocl.data.sampling import Consecutive, Sampling
from vocl.data.served import Served, ServedVideo
from vocl.data.transforms import Box, resized, seen_box, to_input
from vocl.data.truth import refuse_without_object
from vocl.errors import UserError
from vocl.interface import Clip, Features, Source, Video
from vocl.ops.narrow import pair
from vocl.ops.random import generator, seed_of

CACHE_BYTES = 256 * 2**20  # of frames, oldest out first: a small set is decoded and fitted only once
HOST = torch.device("cpu")


@dataclass(frozen=True)
class Draw:
    """What clip number `position` of a feed shows: frames `indices` of `video`, mirrored or not.

    `backwards`: `indices` are in reversed order. `window`: where along its longer side a frame is cut.
    """

    position: int
    video: ServedVideo
    indices: list[int]
    flipped: bool
    backwards: bool
    window: float


class Feed:
    """Training clips. The GLOBAL batch of a step depends on (source, seed, step) alone.

    Clip p = step * batch + i is drawn from an endless sequence of permutations of the videos (every
    video once per epoch: the releases draw with replacement), with its frames, flip, direction, crop
    and augmentations from generators seeded by (seed, p). Rank r of w takes the r-th slice of the
    batch, so w may change at a resume; no state needs saving.

    What clips hold beside frames is for a `Served` source to say: annotations, cached features.
    """

    def __init__(
        self,
        source: Source,
        dataset: Dataset,
        seed: int,
        batch: int,
        frames: int,
        sampling: Part[Sampling] | None = None,
        device: torch.device = HOST,
    ) -> None:
        self.device = device
        self.source = source if isinstance(source, Served) else Served(source, {"video"})
        self.dataset, self.seed = dataset, seed
        self.frames, self.size = frames, batch
        if batch % dist.world():
            raise UserError(f"train.batch={batch}: not a multiple of the {dist.world()} processes")
        self.sampling: Sampling = (
            sampling(frames) if sampling else Consecutive(frames, starts=dataset.clip_starts)
        )
        # The first draw of a clip was its start before there was a choice of samplings.
        self._sampling_tag = "sampling" if sampling else "draw"
        augment = [part() for part in dataset.augment]
        self._geometric = [a for a in augment if isinstance(a, Geometric)]
        photometric = [a for a in augment if isinstance(a, Photometric)]
        if len(self._geometric) + len(photometric) < len(augment):
            raise UserError("dataset.augment: each is a Geometric or a Photometric of vocl.data.augment")
        assert self.source.cache is None or (dataset.fit != "crop" and not augment)
        self._order: dict[int, np.ndarray] = {}
        self.fitting = Fitting(dataset, seed, photometric)
        self._kept: dict[tuple[str, int], Tensor] = {}
        self._kept_bytes = 0

    def check(self) -> None:
        """Refuse an empty source, one without annotations that are read, and videos that are shorter than
        the sampling needs."""
        if len(self.source) == 0:
            raise UserError(f"dataset {self.dataset.name}: its training split has no videos")
        if {"masks", "boxes"} & {*self.source.annotations}:  # refuses what is not there
            name = f"dataset {self.dataset.name}"
            refuse_without_object(self.source, name, "the training split", "dataset", training=True)
        videos, shortest = (self.source[i] for i in range(len(self.source))), self.sampling.shortest
        short = [video for video in videos if video.length < shortest]
        if short:
            raise UserError(
                f"dataset.clip_frames={self.frames}: {len(short)} of {len(self.source)} training videos are "
                f"shorter, the first is {short[0].name} with {short[0].length} frames"
            )

    def batch(self, step: int) -> Clip:
        """This rank's slice of the batch of `step`."""
        return self.fitting(self.unfitted(step, stored=False))

    def unfitted(self, step: int, stored: bool) -> Unfitted:
        """What `fitting` makes `batch` of. `stored`: frames stay as they are stored where that is less."""
        step %= self.dataset.first_batches or step + 1
        local = self.size // dist.world()
        first = step * self.size + dist.rank() * local
        draws = [self._draw(position) for position in range(first, first + local)]
        reads = self.source.reads_video or self.dataset.views
        parts = in_parts([self._frames(draw, stored) for draw in draws]) if reads else ()
        annotations = [self._annotations(draw) for draw in draws]
        clip = Clip(
            video=None,
            valid=torch.ones(local, len(draws[0].indices), dtype=torch.bool),
            key=torch.tensor([seed_of(self.seed, "clip", draw.position) for draw in draws]),
            names=tuple(draw.video.name for draw in draws),
            frames=torch.tensor([draw.indices for draw in draws]),
            flipped=torch.tensor([draw.flipped for draw in draws]),
            features=_features([(draw.video, draw.indices, draw.flipped) for draw in draws]),
            **in_fields(self._stacked(annotations)),
        )
        return Unfitted(clip, parts, tuple(draw.position for draw in draws))

    def batches(self, start: int, stop: int, workers: int) -> Generator[Clip, None, None]:
        """The batches of steps `start` to `stop`, on the feed's device; with `workers`, prepared ahead by
        processes, which last until this generator is closed.

        A GPU gets frames as they are stored and fits them itself: fitting takes a core many times as long
        as decoding.
        """
        device = self.device
        stored = device.type == "cuda" and self.fitting.anywhere

        def bring(made: Clip | Unfitted) -> Clip:
            here = made.to(device)
            return self.fitting(here) if isinstance(here, Unfitted) else here

        with closing(self._made(range(start, stop), workers, stored)) as made:
            yield from brought(made, bring, device)

    def _made(self, steps: range, workers: int, stored: bool) -> Generator[Clip | Unfitted, None, None]:
        make = functools.partial(_batch, self, dist.world(), dist.rank(), stored)
        if workers == 0:
            yield from map(make, steps)
            return
        pinned = self.device.type == "cuda" and torch.cuda.is_available()
        with Loaders(make, steps, workers, pinned) as loaders:
            for _ in steps:
                yield loaders.take()

    def _draw(self, position: int) -> Draw:
        """Everything about clip `position` that is left to chance, but for the colours of its views."""
        epoch, place = divmod(position, len(self.source))
        video = self.source[int(self._permutation(epoch)[place])]
        indices = [int(i) for i in self.sampling(video, self._rng(self._sampling_tag, position))]
        _, flip_u, reverse_u, window = self._rng("draw", position).random(4)
        backwards = reverse_u < self.dataset.reverse
        return Draw(
            position=position,
            video=video,
            indices=indices[::-1] if backwards else indices,
            flipped=bool(flip_u < self.dataset.flip),
            backwards=bool(backwards),
            window=window,
        )

    def _box(self, draw: Draw, size: tuple[int, int]) -> Box:
        """The part that is seen of the clip's frames, which are of `size`."""
        size_px = pair(self.dataset.size_px)
        top, left, height, width = seen_box(size, size_px, self.dataset.fit, draw.window)
        chance = generator(self.seed, "geometric", draw.position)
        for augmentation in self._geometric:
            part = augmentation.window((height, width), chance)
            check_window(augmentation, part, (height, width))
            top, left, height, width = top + part[0], left + part[1], part[2], part[3]
        return top, left, height, width

    def _annotations(self, draw: Draw) -> dict[str, Tensor]:
        """The annotations of the clip's frames, where its frames are."""
        box, size_px = self._box(draw, draw.video.size), pair(self.dataset.size_px)
        return _annotations(draw.video, draw.indices, Placement(box, size_px, draw.flipped, draw.backwards))

    def _stacked(self, clips: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        names = self.source.annotations
        return {n: stacked([clip[n] for clip in clips], self.source.annotated[n]) for n in names}

    def _frames(self, draw: Draw, stored: bool) -> Tensor:
        """The clip's frames t ..., fitted or as they are `stored`; windows are random, so only whole frames
        are kept."""
        video, indices = draw.video, draw.indices
        if self.dataset.fit == "crop" or self._geometric:
            return self._seen(draw, indices, stored)
        missing = sorted({i for i in indices if (video.name, i) not in self._kept})
        if missing:
            seen = self._seen(draw, missing, stored)
            self._kept.update(zip(((video.name, i) for i in missing), seen, strict=True))
            self._kept_bytes += seen.nbytes
        frames = torch.stack([self._kept[video.name, i] for i in indices])
        while self._kept_bytes > CACHE_BYTES:
            self._kept_bytes -= self._kept.pop(next(iter(self._kept))).nbytes
        return frames

    def _seen(self, draw: Draw, indices: list[int], stored: bool) -> Tensor:
        frames, size_px = torch.from_numpy(draw.video.frames(indices)), pair(self.dataset.size_px)
        box = self._box(draw, pair(frames.shape[1:3]))
        if not (stored and smaller_stored(box, size_px)):
            return resized(frames, box, size_px)
        top, left, height, width = box
        return frames[:, top : top + height, left : left + width]

    def _rng(self, tag: str, position: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(seed_of(self.seed, tag, position)))

    def _permutation(self, epoch: int) -> np.ndarray:
        if epoch not in self._order:
            rng = np.random.Generator(np.random.Philox(seed_of(self.seed, "epoch", epoch)))
            self._order = {k: v for k, v in self._order.items() if abs(k - epoch) < 2}
            self._order[epoch] = rng.permutation(len(self.source))
        return self._order[epoch]


def _batch(feed: Feed, world: int, rank: int, stored: bool, step: int) -> Clip | Unfitted:
    """A slice of the batch of `step`, fitted or `stored`, also in a loader process, which knows no group."""
    with dist.pretend(world, rank):
        return feed.unfitted(step, stored) if stored else feed.batch(step)


def _features(parts: Sequence[tuple[ServedVideo, Sequence[int], bool]]) -> Features | None:
    """Cached features of frames of videos, mirrored or not, as one batch; None where there is no cache."""
    cache = parts[0][0].source.cache
    if cache is None:
        return None
    return cache.features([(served.video, indices, flipped) for served, indices, flipped in parts])


def _annotations(video: ServedVideo, indices: Sequence[int], at: Placement) -> dict[str, Tensor]:
    """The annotations of frames `indices` that are to be read, t ..., as the model sees them."""
    names = video.source.annotations
    if not names:
        return {}
    found, kinds = video.annotations(names, indices), video.source.annotated
    return {name: placed(found[name], kinds[name], at) for name in names}


class _Alone(Source):
    """A source of one video."""

    def __init__(self, video: Video) -> None:
        self.video = video

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Video:
        return (self.video,)[index]

    def truth(self, name: str) -> None:
        return None


def whole_video(
    video: Video, dataset: Dataset, start: int, stop: int, seed: int, device: torch.device = HOST
) -> Clip:
    """Frames `start` to `stop` of a video as a clip of batch 1 on `device`, as the model sees it at test."""
    video = video if isinstance(video, ServedVideo) else ServedVideo(video, Served(_Alone(video), {"video"}))
    indices, size_px, fitted = range(start, stop), pair(dataset.size_px), None
    if video.source.reads_video:
        frames = torch.from_numpy(np.ascontiguousarray(video.frames(indices))).to(device)
        fitted = to_input(frames, size_px, dataset.fit, dataset.normalise).unsqueeze(0)
    at = Placement(seen_box(video.size, size_px, dataset.fit, 0.5), size_px, flipped=False, backwards=False)
    annotations = _annotations(video, indices, at)
    return Clip(
        video=fitted,
        valid=torch.ones(1, stop - start, dtype=torch.bool),
        key=torch.tensor([seed_of(seed, "evaluation", video.name)]),
        names=(video.name,),
        frames=torch.arange(start, stop).unsqueeze(0),
        flipped=torch.zeros(1, dtype=torch.bool),
        features=_features([(video, indices, False)]),
        **in_fields({name: value.unsqueeze(0) for name, value in annotations.items()}),
    ).to(device)
