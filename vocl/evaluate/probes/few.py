"""The first few videos of a source."""

from __future__ import annotations

from typing import Any

from vocl.interface import Source, Video


class FewVideos(Source):
    """The first `count` videos of `source`, or all where there are fewer."""

    def __init__(self, source: Source, count: int) -> None:
        self.source, self.count = source, min(count, len(source))
        self.annotated = getattr(source, "annotated", {})

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Video:
        if not 0 <= index < self.count:
            raise IndexError(index)
        return self.source[index]

    def __getattr__(self, name: str) -> Any:  # what a project's source has beside the contract
        if name.startswith("__") or "source" not in vars(self):
            raise AttributeError(name)
        return getattr(self.source, name)

    def truth(self, name: str) -> Any | None:
        return self.source.truth(name)

    def fingerprint(self, name: str) -> str:
        return self.source.fingerprint(name)

    def check(self) -> None:
        self.source.check()
