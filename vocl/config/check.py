"""Checks a composed config. Imports no torch.

`check` proves, from source text alone, that a config says exactly what the code it names takes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from vocl.config.cluster import CLUSTERS
from vocl.config.folders import packages
from vocl.config.proof import signature
from vocl.config.proof.classes import Packages
from vocl.config.proof.coerce import coerce, mapping, same_keys
from vocl.config.proof.consistency import check_together, refuse_own_options
from vocl.config.proof.evaluations import check_evaluations
from vocl.config.run_config import RunConfig
from vocl.config.schema import (
    EVALUATION,
    EVALUATION_SETTINGS,
    LOSS,
    PARTS,
    ROOT,
    SECTIONS,
    SEED,
    TERM,
    Config,
)
from vocl.config.secret import refuse_secrets
from vocl.errors import UserError

CLASSES = "vocl.config.sections"


def check(config: Config) -> RunConfig:
    """What `config` says, with every value coerced to its annotation (so that 1 and 1.0 are one run).

    Raises `UserError` for a secret, for what is unknown, missing, wrongly typed or out of range, for targets
    outside the allow-list, terms whose `needs` the model does not provide, and stages that do not
    add up.
    """
    refuse_secrets(config)
    config = copy.deepcopy(dict(config))
    same_keys(config, ROOT, "")
    allowed = packages(config["project"])
    out = {"project": config["project"], "seed": coerce(config["seed"], SEED, "seed", allowed)}
    for name, section in SECTIONS.items():
        out[name] = _section(config[name], f"{CLASSES}.{section}", name, allowed)
    for name, kind in PARTS.items():
        out[name] = coerce(config[name], kind, name, allowed)
    out["loss"] = {
        name: _term(node, f"loss.{name}", allowed) for name, node in mapping(config["loss"], "loss")
    }
    out["eval"] = {n: _evaluation(v, f"eval.{n}", allowed) for n, v in mapping(config["eval"], "eval")}
    out["cluster"] = _cluster(config["cluster"], allowed)
    warm = config["warm_start"]
    out["warm_start"] = (
        None if warm is None else _section(warm, f"{CLASSES}.WarmStart", "warm_start", allowed)
    )
    check_together(out, allowed)
    check_evaluations(out, allowed)
    return RunConfig.of(out)


def check_section(name: str, values: Mapping[str, Any]) -> Config:
    """A section of plain values alone, coerced as `check` does. Raises `UserError`."""
    if name == "cluster":
        found = _cluster(values, packages(None))
        refuse_own_options(found)
        return found
    return _section(values, f"{CLASSES}.{SECTIONS[name]}", name, packages(None))


def weights_source(config: RunConfig) -> tuple[str, str] | None:
    """File name and hub of the pretrained weights that the backbone starts from; None where it needs none.

    Its class says `hub`, and `weights_file` with a place for its setting `name`.
    """
    found = signature.read(config.backbone["_target_"], packages(config.project)).attributes
    return (found.get("weights_file", "{name}.safetensors"), found["hub"]) if "hub" in found else None


def _term(node: Any, path: str, allowed: Packages) -> Config:
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise UserError(f"{path}: no such term is chosen; add it to loss=[...]")
    common = {key: node[key] for key in TERM if key in node}
    own = {key: value for key, value in node.items() if key not in TERM}
    return _section(common, f"{CLASSES}.TermSettings", path, allowed) | coerce(own, LOSS, path, allowed)


def _evaluation(node: Any, path: str, allowed: Packages) -> Config:
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise UserError(f"{path}: no such evaluation is chosen; add it to eval=[...]")
    own = {key: value for key, value in node.items() if key not in EVALUATION_SETTINGS}
    checked = coerce(own, EVALUATION, path, allowed)
    common = {key: node[key] for key in EVALUATION_SETTINGS if key in node}
    same_keys(common, EVALUATION_SETTINGS, path)
    if common["dataset"] is not None:
        common["dataset"] = _section(common["dataset"], f"{CLASSES}.Dataset", f"{path}.dataset", allowed)
    return common | checked


def _cluster(values: Any, allowed: Packages) -> Config:
    """The section `cluster`; its `kind` says which keys it has."""
    kind = dict(mapping(values, "cluster")).get("kind")
    if not isinstance(kind, str) or kind not in CLUSTERS:
        raise UserError(f"cluster.kind={kind}: choose from {', '.join(CLUSTERS)}")
    return _section(values, f"vocl.config.cluster.{CLUSTERS[kind].__name__}", "cluster", allowed)


def _section(values: Any, target: str, path: str, allowed: Packages) -> Config:
    found = signature.read(target, allowed).parameters
    same_keys(dict(mapping(values, path)), tuple(found), path)
    return {key: coerce(values[key], kind, f"{path}.{key}", allowed) for key, kind in found.items()}
