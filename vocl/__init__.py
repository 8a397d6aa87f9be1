"""The workbench for research in video object-centric learning.

    import vocl
    vocl.load("4f1c9e0a7b").model     # the trained model of a run
    vocl.runs("demo")                 # runs as a pandas DataFrame: state, config, scores
    vocl.table("demo")                # the cells of a declared table as another

All three are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ("__version__", "load", "runs", "table")


def __getattr__(name: str) -> Any:
    if name == "load":
        return importlib.import_module("vocl.loading").load
    if name in ("runs", "table"):
        launching = importlib.import_module("vocl.commands.launching")
        return getattr(launching.module("tables.frames"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
