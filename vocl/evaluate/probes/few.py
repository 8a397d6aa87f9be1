"""The first few videos of a source."""

from __future__ import annotations

from vocl.data.wrapped import WrappedSource
from vocl.interface import Source, Video


class FewVideos(WrappedSource):
    """The first `count` videos of `source`, or all where there are fewer."""

    def __init__(self, source: Source, count: int) -> None:
        super().__init__(source)
        self.count = min(count, len(source))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Video:
        if not 0 <= index < self.count:
            raise IndexError(index)
        return self.source[index]
