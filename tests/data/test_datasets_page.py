"""docs/datasets.md names what there is to prepare, and no more."""

from __future__ import annotations

import re
from pathlib import Path

from vocl.config.compose import composed, group_choices

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "datasets.md").read_text()


def _column(number: int) -> list[str]:
    """The names in a column of the table of datasets."""
    table = PAGE.partition("| NAME | SOURCE |")[2].partition("\n\n")[0]
    lines = [line.split("|")[1:-1] for line in table.splitlines()[2:]]
    return [name for line in lines for name in re.findall(r"`(\w+)`", line[number])]


def test_every_dataset_that_can_be_prepared_stands_on_the_page() -> None:
    assert sorted(_column(0)) == [name for name in group_choices("prepare") if name != "default"]


def test_every_dataset_that_the_page_names_can_be_chosen() -> None:
    for name in set(_column(2)) - {"files"}:
        assert composed([f"dataset={name}"]).dataset.name == name
