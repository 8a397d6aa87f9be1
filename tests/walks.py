"""The walks of the README and of docs/extending.md, as files and commands."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = "\n".join((ROOT / name).read_text() for name in ("README.md", "docs/extending.md"))
FILE = re.compile(r"`my_project/([^`]+)`:\n\n```\w+\n(.*?)```", re.DOTALL)
COMMAND = re.compile(r"^\$ python -m vocl\.train (project=my_project .*)$", re.MULTILINE)


def walk(word: str) -> list[str]:
    """The arguments of the pages' command that mentions `word`."""
    (found,) = [c for c in COMMAND.findall(PAGES) if word in c]
    return found.split()


def project(folder: Path, package: str = "mine") -> Path:
    """The pages' `my_project`, written to `folder`, with its package under another name if asked."""
    files = FILE.findall(PAGES)
    assert len(files) == 19, [name for name, _ in files]
    for name, text in files:
        path = folder / "my_project" / re.sub(r"^mine/", f"{package}/", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(re.sub(r"\bmine\.", f"{package}.", text))
    (folder / "my_project" / package / "__init__.py").touch()
    return folder / "my_project"
