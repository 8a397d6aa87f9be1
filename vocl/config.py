"""A composed config: check it, sign it, carry it across versions. Imports no torch.

`check` proves, from source text alone, that a config says exactly what the code it names takes;
`sign` derives the run's identity from what affects training and nothing else.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import annotated_types

from vocl import signature
from vocl.coerce import coerce, mapping, same_keys
from vocl.errors import UserError
from vocl.files import user_path
from vocl.secret import refuse_secrets

Config = dict[str, Any]

CONF = Path(__file__).resolve().parent.parent / "conf"
HASHED = ("seed", "train", "model", "backbone", "loss", "curriculum", "dataset", "optim", "warm_start")
SECTIONS = {"train": "Train", "dataset": "Dataset", "runtime": "Runtime", "cluster": "Cluster"}
PARTS = ("model", "backbone", "curriculum", "optim")
ROOT = (*HASHED, "project", "eval", "runtime", "cluster")
SEED = Annotated[int, annotated_types.Ge(0), annotated_types.Lt(2**63)]
PLACES = {"runtime": CONF / "runtime" / "default.yaml", "cluster": CONF / "cluster" / "here.yaml"}
TERM = tuple(signature.read("vocl.settings.TermSettings", {"vocl": Path(__file__).parent}).parameters)


def packages(project: str | None) -> dict[str, Path]:
    """Packages that may define a `_target_`, with their folders: vocl, and those of `project`."""
    allowed = {"vocl": Path(__file__).resolve().parent}
    if project is not None:
        folder = user_path(project).resolve()
        if not folder.is_dir():
            raise UserError(f"project={project}: no such folder")
        found = {p.parent.name: p.parent for p in folder.glob("*/__init__.py")}
        if not found:
            raise UserError(f"project={project}: holds no Python package (a folder with an __init__.py)")
        for name, path in found.items():
            spec = importlib.util.find_spec(name)
            if spec is not None and spec.origin and Path(spec.origin).resolve().parent != path:
                raise UserError(f"project={project}: its package {name!r} has the name of an installed one")
        allowed |= found
    return allowed


# ------------------------------------------------------------------------------------------ check


def check(config: Config) -> Config:
    """A copy of `config` with every value coerced to its annotation (so that 1 and 1.0 are one run).

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
        out[name] = _section(config[name], section, name, allowed)
    for name in PARTS:
        out[name] = coerce(config[name], signature.Part, name, allowed)
    out["loss"] = {
        name: _term(node, f"loss.{name}", allowed) for name, node in mapping(config["loss"], "loss")
    }
    out["eval"] = {
        n: coerce(v, signature.Part, f"eval.{n}", allowed) for n, v in mapping(config["eval"], "eval")
    }
    warm = config["warm_start"]
    out["warm_start"] = None if warm is None else _section(warm, "WarmStart", "warm_start", allowed)
    _check_together(out, allowed)
    return {key: out[key] for key in ROOT}


def weights_source(config: Config) -> tuple[str, str] | None:
    """File name and hub of the pretrained weights that the backbone starts from; None where it needs none.

    Its class says `hub`, and `weights_file` with a place for its setting `name`.
    """
    found = signature.read(config["backbone"]["_target_"], packages(config["project"])).attributes
    return (found.get("weights_file", "{name}.safetensors"), found["hub"]) if "hub" in found else None


def _term(node: Any, path: str, allowed: dict[str, Path]) -> Config:
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise UserError(f"{path}: no such term is chosen; add it to loss=[...]")
    common = {key: node[key] for key in TERM if key in node}
    own = {key: value for key, value in node.items() if key not in TERM}
    return _section(common, "TermSettings", path, allowed) | coerce(own, signature.Part, path, allowed)


def _section(values: Any, name: str, path: str, allowed: dict[str, Path]) -> Config:
    found = signature.read(f"vocl.settings.{name}", allowed).parameters
    same_keys(dict(mapping(values, path)), tuple(found), path)
    return {key: coerce(values[key], kind, f"{path}.{key}", allowed) for key, kind in found.items()}


def _check_together(config: Config, allowed: dict[str, Path]) -> None:
    """What no single value can get wrong alone."""
    if not config["loss"]:
        raise UserError("loss=[]: nothing to train on, choose at least one term")
    model = signature.read(config["model"]["_target_"], allowed).attributes
    for name, node in config["loss"].items():
        declared = signature.read(node["_target_"], allowed).attributes
        _check_needs(config, name, node, declared.get("needs", frozenset()), allowed)
        if (model.get("output_frames") or declared.get("min_frames", 1)) < declared.get("min_frames", 1):
            raise UserError(
                f"loss.{name}: needs at least {declared['min_frames']} frames, but the output of model "
                f"{config['model']['_target_']} is of {model['output_frames']}; leave the term out"
            )
        for stage in config["curriculum"].get("stages", {}).values():
            if stage["terms"] == "all" or name in stage["terms"]:
                _check_feed(config, stage["feed"] or {}, name, node, declared.get("min_frames", 1))
    drop, backbone = config["model"].get("token_drop"), config["backbone"]["_target_"]
    if drop and not signature.read(backbone, allowed).attributes.get("drops_tokens", False):
        raise UserError(
            f"model.token_drop={drop}: backbone {backbone} cannot drop tokens; "
            "choose 0, or a vision transformer or filters"
        )
    if len(config["dataset"]["size_px"]) != 2 or min(config["dataset"]["size_px"]) < 1:
        raise UserError(f"dataset.size_px={config['dataset']['size_px']}: expected [height, width] in pixels")
    if config["model"].get("features") == "keys" and not _gives_keys(config["backbone"], allowed):
        raise UserError(
            f"model.features=keys: backbone {backbone} gives none; choose tokens, "
            "or a vision transformer with backbone.keys=true"
        )
    _check_presets(config)
    _check_stages(config)
    _check_spawning(config, allowed)


def _check_needs(
    config: Config, name: str, node: Config, needs: frozenset[str], allowed: dict[str, Path]
) -> None:
    """Whether the model's Output has what a term reads; "{of}" among `needs` is its setting `of`."""
    model, backbone = config["model"], config["backbone"]
    provides = signature.read(model["_target_"], allowed).attributes.get("provides", frozenset())
    wanted = {node["level"]} if node["level"] else {need.format_map(node) for need in needs}
    lacking = sorted(wanted - provides)
    if lacking:
        raise UserError(
            f"loss.{name}: needs {', '.join(lacking)}, which model {model['_target_']} does not provide; "
            f"it provides {', '.join(sorted(provides))}"
        )
    if "recon" in wanted and model.get("target", "") is None:
        raise UserError(f"model.target=null: loss.{name} needs a reconstruction, choose features")
    if "keys" in wanted and not _gives_keys(backbone, allowed):
        told = "backbone.keys=false" if "keys" in backbone else f"backbone._target_={backbone['_target_']}"
        settings = [key for key in node if f"{{{key}}}" in needs]
        other = f", or another loss.{name}.{settings[0]}" if settings else ""
        raise UserError(
            f"{told}: gives no keys, which loss.{name} needs; choose a vision transformer "
            f"with backbone.keys=true{other}"
        )


def _gives_keys(backbone: Config, allowed: dict[str, Path]) -> bool:
    """Whether the backbone gives keys: its setting, or what its class says."""
    declared = signature.read(backbone["_target_"], allowed).attributes.get("keys", False)
    return backbone.get("keys", declared)


def _check_presets(config: Config) -> None:
    """Parts labelled with a `preset` follow one source, a paper's text or its release, not some of each."""
    nodes = {"model": config["model"]} | {f"loss.{name}": node for name, node in config["loss"].items()}
    found = {f"{path}.preset": node["preset"] for path, node in nodes.items() if node.get("preset")}
    if len(set(found.values())) > 1:
        told = ", ".join(f"{path}={preset}" for path, preset in found.items())
        raise UserError(f"{told}: two presets in one run; choose one, or null for what is meant to differ")


def _check_spawning(config: Config, allowed: dict[str, Path]) -> None:
    """Whether there are learned slots to fill, each with a mask of its own to be judged by."""
    if not config["curriculum"].get("spawn"):
        return
    initializer = config["model"].get("initializer") or {}
    target = initializer.get("_target_")
    if target is None or not signature.read(target, allowed).attributes.get("learned", False):
        raise UserError(
            f"curriculum.spawn: fills learned slots, and model.initializer._target_={target} has none; "
            "choose vocl.nn.slot_init.Learned there, or curriculum.spawn=null"
        )
    if config["model"].get("merge"):
        raise UserError(
            "curriculum.spawn: judges slots by their masks, and model.merge puts slots together; "
            "choose model.merge=null, or curriculum.spawn=null"
        )


def _check_feed(config: Config, feed: Config, name: str, node: Config, min_frames: int) -> None:
    """Whether the clips that a stage feeds suit a term."""
    frames = feed.get("clip_frames") or config["dataset"]["clip_frames"]
    if frames < min_frames:
        raise UserError(f"dataset.clip_frames={frames}: loss.{name} needs at least {min_frames}")
    group, batch = node.get("group"), feed.get("batch") or config["train"]["batch"]
    if group and batch % group:
        raise UserError(f"loss.{name}.group={group}: does not divide train.batch={batch}")


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


# ------------------------------------------------------------------------------------------- sign


def run_id(config: Config) -> str:
    """10 hex digits that name the run: blake2s over everything that affects training."""
    return _digest({key: config[key] for key in HASHED})


def cell_id(config: Config, source: str | None = None) -> str:
    """Like `run_id`, without the seed: the runs of a cell differ in their seed alone.

    `source`: the cell of the run that `warm_start` names, which then stands for it: each seed of a
    row starts from a run of its own seed.
    """
    content = {key: config[key] for key in HASHED if key != "seed"}
    if source is not None:
        content["warm_start"] = config["warm_start"] | {"run": source}
    return _digest(content)


def evaluation_id(parts: Mapping[str, Any]) -> str:
    """Name of an evaluation: the run, the checkpoint's digest and the evaluation's settings (`eval`)."""
    before = _as_before({"eval": {"": copy.deepcopy(parts["eval"])}})  # the rules name evaluations by *
    return _digest({**parts, "eval": before["eval"][""]})


def _digest(content: Mapping[str, Any]) -> str:
    hashed = _as_before(copy.deepcopy(dict(content)))
    if "curriculum" in hashed:  # where order means something: stages follow, the first glob wins
        for stage in hashed["curriculum"]["stages"].values():
            stage |= {key: list(stage[key].items()) for key in ("lr", "weight_decay") if key in stage}
        hashed["curriculum"]["stages"] = list(hashed["curriculum"]["stages"].items())
    text = json.dumps(hashed, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.blake2s(text.encode(), digest_size=5).hexdigest()


# ---------------------------------------------------------------------------------------- migrate


def _migrations() -> Config:
    return _read_yaml(CONF / "migrations.yaml", (CONF / "migrations.yaml").stat().st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _read_yaml(path: Path, mtime_ns: int) -> Config:
    import yaml

    return yaml.safe_load(path.read_text())


def _as_before(content: Config) -> Config:
    """Today's config as the first release would have said it: old names, without keys added since
    that still have the value that means "as before"."""
    rules = _migrations()
    for old, new in rules["renamed"].items():
        _move(content, new, old)
    for path, before in rules["added"].items():
        for parent, key in _places(content, path):
            if key in parent and parent[key] == before:
                del parent[key]
    return content


def migrate(config: Config) -> Config:
    """A config that an earlier version saved, in today's keys: renamed, and completed as before.

    What is not part of a run's identity has the keys of today, with the saved values where they exist.
    """
    config, rules = copy.deepcopy(config), _migrations()
    for old, new in rules["renamed"].items():
        _move(config, old, new)
    for path, before in rules["added"].items():
        for parent, key in _places(config, path):
            if _takes(parent, key, config.get("project")):
                parent.setdefault(key, copy.deepcopy(before))
    for section, file in PLACES.items():
        saved = config.get(section)
        if isinstance(saved, Mapping):
            today = _read_yaml(file, file.stat().st_mtime_ns)
            config[section] = today | {key: value for key, value in saved.items() if key in today}
    return config


def _takes(node: Config, key: str, project: str | None) -> bool:
    """Whether the part that `node` describes has a parameter `key`; a section of plain values has."""
    try:
        return "_target_" not in node or key in signature.read(node["_target_"], packages(project)).parameters
    except UserError:  # a target that is not there: `check` says so
        return False


def _move(config: Config, source: str, target: str) -> None:
    for parent, key in _places(config, source):
        if key in parent:
            for place, name in _places(config, target):
                place[name] = parent.pop(key)


def _places(config: Config, path: str) -> list[tuple[Config, str]]:
    """The mappings that have, or could have, the last key of a dotted path; * stands for any key."""
    *parents, last = path.split(".")
    nodes: list[Any] = [config]
    for key in parents:
        found = (node for node in nodes if isinstance(node, Mapping))
        nodes = [child for node in found for child in (node.values() if key == "*" else [node.get(key)])]
    return [(node, last) for node in nodes if isinstance(node, dict)]


def diff(a: Any, b: Any, path: str = "") -> list[str]:
    """Dotted paths at which two configs differ, with both values."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        keys = sorted(set(a) | set(b))
        return [line for k in keys for line in diff(a.get(k), b.get(k), f"{path}.{k}" if path else k)]
    return [] if a == b else [f"{path}: {a} -> {b}"]
