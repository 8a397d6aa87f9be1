"""What no single value of a config can get wrong alone: its parts against what they declare.

Classes say what they need and give by class attributes that are read from their source
(`vocl.config.proof.signature`); here they are held against each other. No part's name is known here.

    needs       names of what it reads: fields of Output (losses), of Context (parts), "clip.x"
    provides    names of what it gives: fields of Output (models), "extra.x" (parts)
    optional    {name: setting}: given only where the setting is neither null nor false
    requires    {setting: {place.attribute: reason}}: what other places must have while the setting is set;
                where the place has a setting of the attribute's name, that says whether it has it
    excludes    {setting: {place: reason}}: places that must be null or absent while the setting is set
    gives_context  names of the parts of a model that it calls with a Context
    min_frames, output_frames, divides_batch, scored_masks, one_frame_per_token: see the checks below
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from vocl.config.proof import signature
from vocl.config.proof.classes import Packages
from vocl.config.proof.inputs import check_feature_cache, check_needs, parts_of
from vocl.errors import UserError

Config = dict[str, Any]
CONTEXT = frozenset({"clip", "features", "inputs", "grid", "target", "slots", "frame", "extra"})
NONE: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Declarations:
    """The class attributes of the part that a node names."""

    allowed: Packages

    def __call__(self, node: Config) -> dict[str, Any]:
        return signature.read(node["_target_"], self.allowed).attributes


def check_together(config: Config, allowed: Packages) -> None:
    """Refuse sections that do not fit each other; every value is of its type already."""
    declared = _Declarations(allowed)
    if not config["loss"] and declared(config["model"]).get("provides", NONE):
        raise UserError("loss=[]: nothing to train on, choose at least one term")
    if len(config["dataset"]["size_px"]) != 2 or min(config["dataset"]["size_px"]) < 1:
        raise UserError(f"dataset.size_px={config['dataset']['size_px']}: expected [height, width] in pixels")
    refuse_own_options(config["cluster"])
    given = _provided(config, declared)
    for name, node in config["loss"].items():
        _check_term(config, name, node, given, declared)
    for path, node in parts_of(config):
        _check_required(config, path, node, declared)
        _check_excluded(config, path, node, declared)
    _check_presets(config)
    _check_context(config, declared)
    _check_scored_masks(config, declared)
    _check_tokens(config, declared)
    _check_stages(config)
    check_needs(config, allowed)
    check_feature_cache(config, allowed)


def refuse_own_options(cluster: Config) -> None:
    """Refuse options of sbatch that the keys of the section `cluster` decide."""
    if "signal" in cluster.get("sbatch", {}):
        raise UserError("cluster.sbatch.signal: is vocl's own; how long before the limit: cluster.signal_s")


def _provided(config: Config, declared: _Declarations) -> frozenset[str]:
    """Names of what the model of `config`, and the parts that it calls with a context, give to losses."""
    given, calls = _given(config["model"], declared), declared(config["model"]).get("gives_context", NONE)
    for path, part in parts_of(config["model"]):
        if any(path == call or path.startswith(f"{call}.") for call in calls):
            given |= {name for name in _given(part, declared) if name.startswith("extra.")}
    if "keys" in given and "keys" not in _given_by_backbone(config, declared):
        given -= {"keys"}
    return given


def _given(node: Config, declared: _Declarations) -> frozenset[str]:
    without = {name for name, setting in declared(node).get("optional", {}).items() if not node.get(setting)}
    return frozenset(declared(node).get("provides", NONE)) - without


def _given_by_backbone(config: Config, declared: _Declarations) -> frozenset[str]:
    node = config["backbone"]
    return frozenset({"keys"}) if node.get("keys", declared(node).get("keys", False)) else NONE


def _check_term(
    config: Config, name: str, node: Config, given: frozenset[str], declared: _Declarations
) -> None:
    own, model = declared(node), declared(config["model"])
    level = f"{node['level']}." if node["level"] else ""
    wanted = {need.format_map(node) for need in own.get("needs", NONE)}
    lacking = sorted(
        level + need for need in wanted if not need.startswith("clip.") and level + need not in given
    )
    if lacking:
        _refuse_term(config, name, node, lacking, given, declared)
    min_frames = own.get("min_frames", 1)
    if (model.get("output_frames") or min_frames) < min_frames:
        raise UserError(
            f"loss.{name}: needs at least {min_frames} frames, but the output of model "
            f"{config['model']['_target_']} is of {model['output_frames']}; leave the term out"
        )
    for stage in config["curriculum"].get("stages", {}).values():
        if stage["terms"] == "all" or name in stage["terms"]:
            _check_feed(config, stage["feed"] or {}, name, node, own)


def _refuse_term(
    config: Config,
    name: str,
    node: Config,
    lacking: list[str],
    given: frozenset[str],
    declared: _Declarations,
) -> None:
    """Say why the model does not give what a term needs: never, not as it is set, or for its backbone."""
    model, backbone = config["model"], config["backbone"]
    ever = frozenset(declared(model).get("provides", NONE)) | given
    if missing := [need for need in lacking if need not in ever]:
        raise UserError(
            f"loss.{name}: needs {', '.join(missing)}, which model {model['_target_']} does not provide; "
            f"it provides {', '.join(sorted(ever))}"
        )
    for need in lacking:
        if setting := declared(model).get("optional", {}).get(need):
            value = "null" if model.get(setting) is None else "false"
            choices = " or ".join(_choices(model, setting, declared.allowed))
            raise UserError(
                f"model.{setting}={value}: gives no {need}, and loss.{name} needs it; "
                f"choose {choices or 'another value'}"
            )
    told = "backbone.keys=false" if "keys" in backbone else f"backbone._target_={backbone['_target_']}"
    settings = [key for key in node if f"{{{key}}}" in declared(node).get("needs", NONE)]
    other = f", or another loss.{name}.{settings[0]}" if settings else ""
    raise UserError(
        f"{told}: gives no keys, which loss.{name} needs; choose a vision transformer "
        f"with backbone.keys=true{other}"
    )


def _check_feed(config: Config, feed: Config, name: str, node: Config, own: Mapping[str, Any]) -> None:
    """Whether the clips that a stage feeds suit a term: `min_frames` of a clip; `divides_batch`, the
    setting whose number of clips must divide the batch."""
    frames = feed.get("clip_frames") or config["dataset"]["clip_frames"]
    if frames < own.get("min_frames", 1):
        raise UserError(f"dataset.clip_frames={frames}: loss.{name} needs at least {own['min_frames']}")
    setting = own.get("divides_batch")
    group, batch = node.get(setting) if setting else None, feed.get("batch") or config["train"]["batch"]
    if group and batch % group:
        raise UserError(f"loss.{name}.{setting}={group}: does not divide train.batch={batch}")


def _check_required(config: Config, path: str, node: Config, declared: _Declarations) -> None:
    for setting, places in declared(node).get("requires", {}).items():
        for required, reason in places.items() if node.get(setting) else ():
            place, _, attribute = required.rpartition(".")
            part = _at(config, place)
            found = part.get("_target_") if isinstance(part, Mapping) else None
            if found is None or not part.get(attribute, declared(part).get(attribute, False)):
                raise UserError(
                    f"{path}.{setting}{_shown(node[setting])}: {place} {found or 'null'} {reason}"
                )


def _check_excluded(config: Config, path: str, node: Config, declared: _Declarations) -> None:
    for setting, places in declared(node).get("excludes", {}).items():
        for place, reason in places.items() if node.get(setting) else ():
            if _at(config, place):
                raise UserError(f"{path}.{setting}{_shown(node[setting])}: {place} {reason}")


def _check_presets(config: Config) -> None:
    """Parts labelled with a `preset` follow one source, a paper's text or its release, not some of each."""
    found = {path: node["preset"] for path, node in parts_of(config) if node.get("preset")}
    if len(set(found.values())) > 1:
        told = ", ".join(f"{path}.preset={preset}" for path, preset in found.items())
        raise UserError(f"{told}: two presets in one run; choose one, or null for what is meant to differ")


def _check_context(config: Config, declared: _Declarations) -> None:
    """Whether each part of the model that needs more than its arguments is given it, and it exists."""
    model = config["model"]
    calls = declared(model).get("gives_context", NONE)
    extras = {name for _, part in parts_of(model, "model") for name in _given(part, declared)}
    for path, part in parts_of(model, "model"):
        needs = NONE if part is model else declared(part).get("needs", NONE)
        if needs and path.removeprefix("model.") not in calls:
            raise UserError(
                f"{path}._target_={part['_target_']}: needs {', '.join(sorted(needs))}, and model "
                f"{model['_target_']} calls only {', '.join(sorted(calls)) or 'no part'} with a context"
            )
        for need in sorted(needs):
            if need not in CONTEXT | extras and not need.startswith("clip."):
                raise UserError(
                    f"{path}._target_={part['_target_']}: needs {need}, which nothing gives; "
                    f"choose from {', '.join(sorted(CONTEXT | extras))}, clip.<annotation>"
                )


def _check_scored_masks(config: Config, declared: _Declarations) -> None:
    """Whether the model can give the masks that an evaluation asks it for."""
    can = declared(config["model"]).get("scored_masks", NONE)
    for name, node in config["eval"].items():
        asked = (node.get("options") or {}).get("masks")
        if asked is not None and asked not in can:
            raise UserError(
                f"eval.{name}.options.masks={asked}: model {config['model']['_target_']} gives no choice of "
                f"it; choose from {', '.join(['null', *sorted(can)])}"
            )


def _check_tokens(config: Config, declared: _Declarations) -> None:
    """Whether a model that cannot do with a token for several frames has a backbone without such."""
    backbone = config["backbone"]["_target_"]
    span = declared(config["backbone"]).get("frames_per_token", 1)
    if span > 1 and declared(config["model"]).get("one_frame_per_token", False):
        raise UserError(
            f"backbone._target_={backbone}: its tokens span {span} frames, and model "
            f"{config['model']['_target_']} needs those of single frames; choose another backbone"
        )


def _check_stages(config: Config) -> None:
    stages = config["curriculum"].get("stages", {})
    total = sum(stage["length"] for stage in stages.values())
    if not stages or abs(total - 1) > 1e-6:
        shares = " + ".join(f"{stage['length']:g}" for stage in stages.values())
        raise UserError(
            "curriculum.stages: lengths are shares of train.steps and must add up to 1, "
            f"not {shares}={total:g}"
        )
    slots = config["model"].get("num_slots")
    for name, stage in stages.items():
        for key in ("train", "terms"):
            if stage[key] == []:
                raise UserError(f"curriculum.stages.{name}.{key}=[]: nothing to train, choose all or a list")
        active = stage["active_slots"]
        if active is not None and slots is not None and active > slots:
            raise UserError(
                f"curriculum.stages.{name}.active_slots={active}: the model has model.num_slots={slots}; "
                "choose at most that many, or null for all"
            )
        for term in stage["terms"] if isinstance(stage["terms"], list) else ():
            if term not in config["loss"]:
                raise UserError(
                    f"curriculum.stages.{name}.terms: no term {term!r}, "
                    f"choose from {', '.join(config['loss'])}"
                )


def _choices(node: Config, setting: str, allowed: Packages) -> list[str]:
    """The words that a setting may be, where its type lists them."""
    kind = signature.read(node["_target_"], allowed).parameters[setting]
    literals = [each for each in (kind, *get_args(kind)) if get_origin(each) is Literal]
    return [str(word) for each in literals for word in get_args(each)]


def _at(config: Config, place: str) -> Any:
    node: Any = config
    for key in place.split("."):
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


def _shown(value: Any) -> str:
    """A setting as an error names it; a part speaks for itself."""
    return "" if isinstance(value, Mapping) else f"={value}"
