"""The way from here to `launch`, which owns many runs: in a wheel it lies inside of this package, in a
checkout and its copies beside it, where a user's own module of that name is not to be taken for it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from vocl.errors import UserError

HERE = Path(__file__).resolve().parents[1]


def main() -> Any:
    """The command `vocl`; returns its exit code."""
    return module("cli").main()


def module(name: str) -> ModuleType:
    """The module `name` of `launch`; `UserError` where another module of its name was imported before."""
    if (HERE / "launch").is_dir():
        return importlib.import_module(f"vocl.launch.{name}")
    other = sys.modules.get("launch")
    file = getattr(other, "__file__", None)
    if other is not None and file is None:  # no package, but a folder of that name on the path
        del sys.modules["launch"]
    elif file is not None and Path(file).resolve().parent != HERE.parent / "launch":
        raise UserError(f"{file}: was imported as launch, which is a package of vocl; rename it")
    sys.path.insert(0, str(HERE.parent))
    try:
        return importlib.import_module(f"launch.{name}")
    finally:
        sys.path.remove(str(HERE.parent))


if __name__ == "__main__":
    sys.exit(main())
