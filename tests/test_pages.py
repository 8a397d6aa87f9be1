"""The documentation leads where it says: its links to files and headings, its names to code."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
LINK = re.compile(r"\]\(([^)\s#]*)(?:#([^)\s]*))?\)")
NAME = re.compile(r"`(?!vocl\.yaml`)((?:vocl|launch)(?:\.\w+)+)`")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
MOVED = ("CHANGELOG.md",)  # its names are also those of before
LONGEST_README = 250  # lines


def prose(page: Path) -> str:
    return FENCED.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def exists(name: str) -> bool:
    """Whether `name` is a module, or something in one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if not hasattr(found, part):
                return part in getattr(found, "__annotations__", {})
            found = getattr(found, part)
        return True
    return False


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= LONGEST_README


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(prose(page)):
        if "://" in target:
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), f"{target}#{anchor}"


@pytest.mark.parametrize("page", [p for p in PAGES if p.name not in MOVED], ids=lambda page: page.name)
def test_names_are_those_of_the_code(page: Path) -> None:
    assert [name for name in sorted({*NAME.findall(prose(page))}) if not exists(name)] == []


def test_what_the_demonstration_printed_is_above_a_grid_of_labels() -> None:
    """The README's rows against the baseline that `benchmarks/learning.py` prints, in docs/results.md."""
    readme, results = (ROOT / name for name in ("README.md", "docs/results.md"))
    rows = re.findall(
        r"^\| (?:no contrast|within \w+) +\| +\**([\d.]+)\** ±", readme.read_text(), re.MULTILINE
    )
    grid = re.search(r"^grid 2x2 +([\d.]+)", results.read_text(), re.MULTILINE)
    assert len(rows) == 3 and grid
    assert all(float(row) > 100 * float(grid[1]) for row in rows)
