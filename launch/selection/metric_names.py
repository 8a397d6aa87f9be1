"""Names of metrics and of a protocol in an ablation, proved before any run exists, as far as is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.ablations.overrides import read_mapping
from vocl.config import folders
from vocl.config.folders import conf_folders
from vocl.config.proof.evaluations import declared
from vocl.errors import UserError

if TYPE_CHECKING:
    from launch.selection.plan import Spec


def refuse_unknown_metrics(path: Path, metrics: Sequence[str], specs: Sequence[Spec]) -> None:
    """Refuse names of scores that no row's evaluations give, as far as their source text says what these
    give; the rest is seen once there are scores (`refuse_metrics_not_given`)."""
    nodes = {
        (name, own.part["_target_"]): declared(own.part, folders.packages(config.project), "scores", None)
        for config in {id(spec.config.eval): spec.config for spec in specs}.values()
        for name, own in config.eval.items()
    }
    if not all(spec.config.eval for spec in specs):
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


def refuse_unknown_protocol(where: str, protocol: str | None, specs: Sequence[Spec]) -> None:
    """Refuse a `table.protocol` by which nothing can be scored; `where` names it in the error.

    An evaluation without a setting `protocol` may name its own in its report: then nothing is known.
    """
    if protocol in (None, "same"):
        return
    configured = {id(spec.config.eval): spec.config for spec in specs}.values()
    nodes: list[Any] = [own.part.get("protocol") for config in configured for own in config.eval.values()]
    if not nodes or not all(isinstance(node, Mapping) and "name" in node for node in nodes):
        return
    projects = {config.project for config in configured}
    known = ["same", *sorted({str(node["name"]) for node in nodes}.union(*map(_protocols, projects)))]
    if protocol not in known:
        raise UserError(f"{where}={protocol}: unknown, choose from {', '.join(known)} or null")


def _protocols(project: str | None) -> set[str]:
    """Names of the protocols in conf/eval/protocol of vocl and of a project."""
    files = (
        path for folder in conf_folders(project) for path in (folder / "eval" / "protocol").rglob("*.yaml")
    )
    return {str(content["name"]) for content in map(read_mapping, files) if "name" in content}
