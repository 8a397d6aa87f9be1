"""The features of a split's videos: computed once, then read."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vocl import dist
from vocl.data.features.encoder import Encoder
from vocl.data.features.store import Store, bytes_per_frame
from vocl.errors import UserError
from vocl.files import refuse_planted, write_json
from vocl.interface import Features, Source, Video

WINDOW = 16  # frames decoded and encoded at a time
SPARE = 1.02  # of the room that a whole split is said to need


class FeatureCache:
    """Features of the videos of `source`, kept under `root`.

    A video's features are computed when they are first asked for, or all of them by `fill`. A loader
    process computes nothing: what it reads must be there. `fallback`: names the pixels where the
    source itself does not (`Source.fingerprint`).
    """

    def __init__(self, source: Source, encoder: Encoder, root: Path, fallback: str) -> None:
        self.source, self.encoder, self.fallback = source, encoder, fallback
        self.store = Store(encoder.folder(root))
        self._names: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"encoder": None}

    def features(self, clips: Sequence[tuple[Video, Sequence[int], bool]]) -> Features:
        """Of each clip, a row b, the features of frames of a video, or of their mirror images."""
        return self.store.read([(self._kept(video, flipped), frames) for video, frames, flipped in clips])

    def _kept(self, video: Video, flipped: bool) -> str:
        """The file of a video, which is there now."""
        name = self._name(video, flipped)
        if not self.store.has(name, video.length):
            if self.encoder is None or torch.utils.data.get_worker_info() is not None:
                raise UserError(f"{self.store.folder / name}: cached features are gone; start the run again")
            self.store.write(name, self._encode(video, flipped), video.length)
        return name

    def fill(
        self, mirrored: Sequence[bool], advance: Callable[[], Any], report: Callable[[int, int], Any]
    ) -> int:
        """Compute what is missing of all videos; returns the number of frames computed here.

        `mirrored`: as they are (False), as mirror images (True), or both. The ranks share the work, and
        so do processes that do not know of each other, for each begins at another video. `advance` is
        called by every rank equally often, and may raise to stop; `report(done, all)` videos.
        """
        todo = [(i, flipped) for i in range(len(self.source)) for flipped in mirrored]
        missing = [job for job in todo if not self._is_there(*job)]
        self._check_room(missing)
        self._say_what_it_is()
        own, first = todo[dist.rank() :: dist.world()], os.getpid() * 7919
        computed = 0
        for n in range(-(-len(todo) // dist.world())):
            if n < len(own):
                computed += self._fill(*own[(first + n) % len(own)])
            report(min((n + 1) * dist.world(), len(todo)), len(todo))
            advance()
        dist.barrier()
        for job in todo:  # on another machine, the other ranks may have written elsewhere
            computed += self._fill(*job)
        return computed

    def _fill(self, index: int, flipped: bool) -> int:
        if self._is_there(index, flipped):
            return 0
        self._kept(self.source[index], flipped)
        return self.source[index].length

    def _is_there(self, index: int, flipped: bool) -> bool:
        video = self.source[index]
        return self.store.has(self._name(video, flipped), video.length)

    def _encode(self, video: Video, flipped: bool) -> Iterator[Features]:
        for start in range(0, video.length, WINDOW):
            frames = video.frames(range(start, min(start + WINDOW, video.length)))
            yield self.encoder(np.ascontiguousarray(frames), flipped)

    def _name(self, video: Video, flipped: bool) -> str:
        """File of a video: named by what its pixels are, so that another dataset's never is taken for it."""
        if video.name not in self._names:
            pixels = [self.source.fingerprint(video.name) or self.fallback, video.length, list(video.size)]
            text = json.dumps([video.name, *pixels])
            digest = hashlib.blake2s(text.encode(), digest_size=8).hexdigest()
            plain = re.sub(r"[^0-9A-Za-z_-]+", "_", video.name)[-60:]
            self._names[video.name] = f"{plain}-{digest}"
        return f"{self._names[video.name]}{'-mirrored' if flipped else ''}.safetensors"

    def _check_room(self, missing: Sequence[tuple[int, bool]]) -> None:
        if not missing:
            return
        index, flipped = missing[0]
        one = self.encoder(np.ascontiguousarray(self.source[index].frames([0])), flipped)
        needed = SPARE * bytes_per_frame(one) * sum(self.source[i].length for i, _ in missing)
        place = next(p for p in (self.store.folder, *self.store.folder.parents) if p.is_dir())
        free = shutil.disk_usage(place).free
        if needed > free:
            raise UserError(
                f"runtime.feature_cache: {needed / 1e9:.1f} GB of features would go to {self.store.folder}, "
                f"which has {free / 1e9:.1f} GB left; choose none, or another runtime.root"
            )

    def _say_what_it_is(self) -> None:
        """For people who find the folder; nothing reads it."""
        refuse_planted(self.store.folder.parent)
        if not (self.store.folder / "about.json").is_file():
            write_json(self.store.folder / "about.json", self.encoder.about())


def mirror_images(flip: float) -> list[bool]:
    """Which of frames and their mirror images training shows where the chance of a flip is `flip`."""
    return [flipped for flipped in (False, True) if (flip > 0 if flipped else flip < 1)]
