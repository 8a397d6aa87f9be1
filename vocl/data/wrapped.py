"""A source that stands before another."""

from __future__ import annotations

from typing import Any

from vocl.interface import Source


class WrappedSource(Source):
    """Says of its videos what `source` says; subclasses change which there are, or what they give."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.annotated = getattr(source, "annotated", {})

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
