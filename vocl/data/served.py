"""A split of a dataset, and what clips of it are to hold beside frames."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vocl.data.features.cache import FeatureCache
from vocl.data.wrapped import WrappedSource
from vocl.errors import UserError
from vocl.interface import Source, Video


class Served(WrappedSource):
    """`source`, whose videos are `ServedVideo`s.

    `needs`: fields of `Clip` that are read beside those that are always filled; names that are no
    fields go to `Clip.more`. `cache`: where clips get `features` from; then they get `video` only if
    `needs` has it.
    """

    def __init__(self, source: Source, needs: Iterable[str], cache: FeatureCache | None = None) -> None:
        super().__init__(source)
        self.needs, self.cache = frozenset(needs), cache

    @property
    def annotations(self) -> tuple[str, ...]:
        """Names of the annotations among `needs`. Raises `UserError` for one that the videos lack."""
        wanted = sorted(self.needs - {"video", "views"})
        for name in wanted:
            if name not in self.annotated:
                given = ", ".join(sorted(self.annotated)) or "none"
                raise UserError(f"the videos have no {name}, which the run reads; their annotations: {given}")
        return tuple(wanted)

    @property
    def reads_video(self) -> bool:
        """Whether clips need frames."""
        return self.cache is None or "video" in self.needs

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> ServedVideo:
        return ServedVideo(self.source[index], self)


class ServedVideo:
    """A video of a `Served` source (an `interface.Video`)."""

    def __init__(self, video: Video, source: Served) -> None:
        self.video, self.source = video, source
        self.name, self.length, self.size = video.name, video.length, video.size

    def __getattr__(self, name: str) -> Any:  # its frames, and what a project's video has of its own
        if name.startswith("__") or "video" not in vars(self):
            raise AttributeError(name)
        return getattr(self.video, name)
