"""What a run reads of its clips, and whether its data can give it; from source text alone, without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vocl.config.proof import signature
from vocl.config.proof.classes import Packages
from vocl.errors import UserError

PREFIX = "clip."  # of a name in `needs` that is a field of `Clip`, not of `Output` or `Context`
ALWAYS = frozenset({"video", "valid", "key", "names", "frames", "flipped"})


def clip_needs(
    config: Mapping[str, Any], allowed: Packages, sections: Sequence[str] = ("model", "loss")
) -> dict[str, str]:
    """Fields of `Clip` that the model, its parts and the terms name in `needs`, each with who does.

    Of the model alone: what it reads at test, so not the parts that are `only_in_training`.
    """
    found: dict[str, str] = {}
    for section in sections:
        for path, node in parts_of(config[section], section):
            declared = signature.read(node["_target_"], allowed).attributes
            if declared.get("only_in_training", False) and "loss" not in sections:
                continue
            for name in sorted(declared.get("needs", ())):
                if name == "clip":  # all of it
                    found.setdefault("video", path)
                if name.startswith(PREFIX):
                    found.setdefault(name.removeprefix(PREFIX), path)
    return found


def check_needs(config: Mapping[str, Any], allowed: Packages) -> None:
    """Refuse a config whose data lacks an annotation that something reads: the run's in training, and
    those of evaluations that have their own, where the model itself reads it."""
    needs = clip_needs(config, allowed)
    if "views" in needs and not config["dataset"]["views"]:
        raise UserError(f"dataset.views=0: {needs['views']} needs another view of a clip, choose 1 or more")
    _check_annotated(config["dataset"], "dataset", needs, allowed)
    for name, node in config["eval"].items():
        if node.get("dataset") is not None:
            own = clip_needs(config, allowed, ("model",))
            _check_annotated(node["dataset"], f"eval.{name}.dataset", own, allowed)


def _check_annotated(
    dataset: Mapping[str, Any], path: str, needs: Mapping[str, str], allowed: Packages
) -> None:
    target = dataset["source"]["_target_"]
    annotated = signature.read(target, allowed).attributes.get("annotated", {})
    for name in needs.keys() - ALWAYS - {"views"} - annotated.keys():
        raise UserError(
            f"{path}.source._target_={target}: gives no {name}, which {needs[name]} needs; "
            f"it gives {', '.join(sorted(annotated)) or 'no annotation'}"
        )


def check_feature_cache(config: Mapping[str, Any], allowed: Packages) -> None:
    """Refuse `runtime.feature_cache=always` where cached features would not be exactly the run's own."""
    if config["runtime"]["feature_cache"] == "always":
        reason = not_cacheable(config, allowed) or not_exact(config["dataset"])
        if reason:
            raise UserError(f"{reason}, so runtime.feature_cache=always cannot be exact; choose none or auto")


def not_cacheable(config: Mapping[str, Any], allowed: Packages) -> str | None:
    """Why features of the run's backbone cannot be kept, as a place in the config; None where they can."""
    model, backbone = config["model"]["_target_"], config["backbone"]["_target_"]
    declared = signature.read(backbone, allowed).attributes
    if not declared.get("framewise", False) or declared.get("frames_per_token", 1) > 1:
        return f"backbone._target_={backbone}: computes no frame by itself"
    if config["backbone"].get("trainable", False):
        return "backbone.trainable=true: its features change"
    if not signature.read(model, allowed).attributes.get("reads_features", False):
        return f"model._target_={model}: does not read clip.features"
    return None


def not_exact(dataset: Mapping[str, Any]) -> str | None:
    """Why training clips show more than stored frames and their mirror images; None where they do not."""
    if dataset["fit"] == "crop":
        return "dataset.fit=crop: training cuts frames at random"
    if dataset["augment"]:
        return "dataset.augment: training changes frames at random"
    return None


def parts_of(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping with a `_target_` at or below `node`, with its dotted path."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield path, node
        for key, value in node.items():
            yield from parts_of(value, f"{path}.{key}" if path else key)
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from parts_of(value, f"{path}[{i}]")
