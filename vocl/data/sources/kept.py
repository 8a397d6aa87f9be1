"""Datasets that may be kept in several ways, of which nothing else is to know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vocl.interface import Source, Video


class Kept(Source):
    """Videos as they are kept in a folder, in one of several ways: `_source`; a base of sources."""

    annotated: Mapping[str, str] = {  # of a store; folders have masks and boxes at most
        "masks": "labels",
        "boxes": "boxes",
        "points": "points",
        "flow": "vectors",
        "depth": "dense",
    }
    _source: Source

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Video:
        return self._source[index]

    def truth(self, name: str) -> Any | None:
        """What is true about the video `name`; None when it has no truth."""
        return self._source.truth(name)

    def fingerprint(self, name: str) -> str:
        """What changes when the files of the video's frames do."""
        return self._source.fingerprint(name)

    def check(self) -> None:
        """Look at the headers of all files, or the lengths of all shards. UserError."""
        self._source.check()
