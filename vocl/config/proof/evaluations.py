"""Whether evaluations fit the model of a config, from source text alone. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocl.config.proof import signature
from vocl.config.proof.classes import Packages
from vocl.config.proof.inputs import clip_needs
from vocl.errors import UserError

if TYPE_CHECKING:
    from vocl.config.run_config import RunConfig

TRUTH = "truth"  # the one need of an evaluation that its dataset has to meet, not the model


def check_evaluations(config: dict[str, Any], allowed: Packages) -> None:
    """Refuse an evaluation that asks the model for what it does not give, or whose own dataset has frames
    that the model cannot take, or whose protocol is for models that are told more."""
    target = config["model"]["_target_"]
    model = signature.read(target, allowed).attributes
    answers = model.get("answers", frozenset())
    for name, node in config["eval"].items():
        needs = declared(node, allowed, "needs", frozenset()) - {TRUTH}
        if needs - answers:
            raise UserError(
                f"eval.{name}: needs {', '.join(sorted(needs - answers))}, which model {target} does not "
                f"give; its `answers` are {', '.join(sorted(answers))}"
            )
        _check_condition(config, name, allowed)
        if node["dataset"] is not None:
            any_size = bool(needs) and needs <= model.get("any_size", frozenset())
            _check_dataset(config, name, any_size and _takes_any_size(config, allowed))


def refuse_vain_probes(config: RunConfig, allowed: Packages) -> None:
    """Refuse a best probe without probes, and a score to tell them by that no evaluation of the run gives, as
    far as their source text says what they give."""
    metric = config.runtime.probe_metric
    if config.runtime.probe_best and not config.runtime.probe_every:
        raise UserError("runtime.probe_best=true: there are no probes, set runtime.probe_every too")
    if metric is None or not config.runtime.probe_every:
        return
    name, slash, score = metric.rpartition("/")
    scores = {each: declared(own.part, allowed, "scores", None) for each, own in config.eval.items()}
    asked = {each: given for each, given in scores.items() if not slash or each == name}
    if any(given is None or score in given for given in asked.values()):
        return
    choices = sorted(f"{each}/{one}" for each, given in scores.items() for one in given or ())
    raise UserError(
        f"runtime.probe_metric={metric}: no evaluation of the run gives it, choose from {', '.join(choices)}"
    )


def _check_condition(config: dict[str, Any], name: str, allowed: Packages) -> None:
    protocol = config["eval"][name].get("protocol")
    if not isinstance(protocol, dict) or not protocol.get("conditional"):
        return
    if "boxes" not in clip_needs(config, allowed, ("model",)):
        raise UserError(
            f"eval.{name}.protocol.conditional=true: protocol {protocol.get('name')} scores models that "
            f"start from the boxes of a video's first frame, not {config['model']['_target_']}; "
            "choose another protocol, or false to score it as it is"
        )


def declared(node: dict[str, Any], allowed: dict[str, Path], attribute: str, otherwise: Any) -> Any:
    """What the class of an evaluation says of itself in `attribute`, a literal in its source text."""
    return signature.read(node["_target_"], allowed).attributes.get(attribute, otherwise)


def _takes_any_size(config: dict[str, Any], allowed: dict[str, Path]) -> bool:
    return signature.read(config["backbone"]["_target_"], allowed).attributes.get("any_size", False)


def _check_dataset(config: dict[str, Any], name: str, any_size: bool) -> None:
    own, trained = config["eval"][name]["dataset"], config["dataset"]
    where, size = f"eval.{name}.dataset", own["size_px"]
    if len(size) != 2 or min(size) < 1:
        raise UserError(f"{where}.size_px={size}: expected [height, width] in pixels")
    if own["normalise"] != trained["normalise"]:
        raise UserError(
            f"{where}.normalise={own['normalise']}: the model is trained on frames normalised otherwise; "
            f"choose {trained['normalise']}"
        )
    if size != trained["size_px"] and not any_size:
        raise UserError(
            f"{where}.size_px={size}: what this evaluation asks for, the model "
            f"{config['model']['_target_']} on its backbone gives for frames of the size of its training "
            f"alone; choose {trained['size_px']}"
        )
