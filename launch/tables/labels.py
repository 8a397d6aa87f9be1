"""What metrics are called in a table: as in results, or as papers print them."""

from __future__ import annotations

import functools
from typing import Literal

from launch.ablations.overrides import read_mapping
from vocl.config.folders import CONF
from vocl.measure import Measure

FILE = CONF / "metric_names.yaml"
ARROWS = {True: " ↑", False: " ↓", None: ""}


def label(metric: str, measure: Measure, names: Literal["metrics", "paper"], arrow: bool = True) -> str:
    """The name of `metric`; papers' with an arrow towards better, and the evaluation where one is named."""
    if names == "metrics":
        return metric
    evaluation, slash, own = metric.rpartition("/")
    known = _known().get(own, own)
    return f"{evaluation}{slash and ' '}{known}{ARROWS[measure.higher_is_better] if arrow else ''}"


@functools.cache
def _known() -> dict[str, str]:
    return {name: str(text) for name, text in read_mapping(FILE).items()}
