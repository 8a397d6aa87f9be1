"""Names of metrics in an ablation, proved as far as the source text of evaluations says what they give."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vocl import config as configs
from vocl.errors import UserError
from vocl.evaluate.proof import declared

if TYPE_CHECKING:
    from launch.plan import Spec


def refuse_unknown_metrics(path: Path, metrics: Sequence[str], specs: Sequence[Spec]) -> None:
    """Refuse names of scores that no row's evaluations give, as far as their source text says what these
    give; the rest is seen once there are scores (`refuse_metrics_not_given`)."""
    nodes = {
        (name, node["_target_"]): declared(node, configs.packages(config["project"]), "scores", None)
        for config in {id(spec.config["eval"]): spec.config for spec in specs}.values()
        for name, node in config["eval"].items()
    }
    if not all(spec.config["eval"] for spec in specs):
        return
    for metric in metrics:
        name, slash, own = metric.partition("/")
        if slash and name not in {evaluation for evaluation, _ in nodes}:
            choices = ", ".join(dict.fromkeys(evaluation for evaluation, _ in nodes))
            raise UserError(
                f"{path}: metrics: {metric}: no row has evaluation {name!r}, choose from {choices}"
            )
        given = [scores for (each, _), scores in nodes.items() if not slash or each == name]
        if None in given:
            continue
        known = sorted(frozenset().union(*given))
        if (own if slash else metric) not in known:
            raise UserError(
                f"{path}: metrics: no evaluation gives {metric!r}, choose from "
                f"{', '.join(f'{name}/{each}' if slash else each for each in known)}; an evaluation names a "
                "metric of its own in its `scores`"
            )
