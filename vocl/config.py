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
from vocl.classes import Packages
from vocl.coerce import coerce, mapping, same_keys
from vocl.consistency import check_together, refuse_own_options
from vocl.errors import UserError
from vocl.evaluate.proof import check_evaluations
from vocl.files import user_path
from vocl.secret import refuse_secrets

Config = dict[str, Any]

VOCL = Path(__file__).resolve().parent
CONF = VOCL / "conf" if (VOCL / "conf").is_dir() else VOCL.parent / "conf"  # in a wheel, in a checkout
HASHED = ("seed", "train", "model", "backbone", "loss", "curriculum", "dataset", "optim", "warm_start")
SECTIONS = {"train": "Train", "dataset": "Dataset", "runtime": "Runtime", "cluster": "Cluster"}
PARTS = {  # the kind of each section that is one part, and of what stands by name in `loss` and `eval`
    "model": signature.Part["vocl.interface.VideoModel"],
    "backbone": signature.Part["vocl.interface.Backbone"],
    "curriculum": signature.Part["vocl.curriculum.Curriculum"],
    "optim": signature.Part["vocl.optim.Optimizer"],
}
LOSS = signature.Part["vocl.interface.Loss"]
EVALUATION = signature.Part["vocl.interface.Evaluation"]
ROOT = (*HASHED, "project", "eval", "runtime", "cluster")
SEED = Annotated[int, annotated_types.Ge(0), annotated_types.Lt(2**63)]
PLACES = {"runtime": CONF / "runtime" / "default.yaml", "cluster": CONF / "cluster" / "here.yaml"}


def conf_folders(project: str | None) -> list[Path]:
    """The folders that config groups lie in: vocl's own, and that of a project."""
    return [CONF, *([user_path(project) / "conf"] if project else [])]


def packages(project: str | None) -> Packages:
    """Packages that may define a `_target_`, with their folders: vocl, and those of `project`."""
    allowed = {"vocl": VOCL}
    if project is not None:
        folder = user_path(project).resolve()
        if not folder.is_dir():
            raise UserError(f"project={project}: no such folder")
        found = {p.parent.name: p.parent for p in folder.glob("[!.]*/__init__.py")}
        if not found and not (folder / "conf").is_dir():
            what = "holds no Python package (a folder with an __init__.py) and no conf/"
            raise UserError(f"project={project}: {what}")
        for name, path in found.items():
            spec = importlib.util.find_spec(name)
            if spec is not None and spec.origin and Path(spec.origin).resolve().parent != path:
                raise UserError(f"project={project}: its package {name!r} has the name of an installed one")
        allowed |= found
    return Packages(allowed)


TERM = tuple(signature.read("vocl.settings.TermSettings", packages(None)).parameters)
EVALUATION_SETTINGS = tuple(signature.read("vocl.settings.EvaluationSettings", packages(None)).parameters)


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
    for name, kind in PARTS.items():
        out[name] = coerce(config[name], kind, name, allowed)
    out["loss"] = {
        name: _term(node, f"loss.{name}", allowed) for name, node in mapping(config["loss"], "loss")
    }
    out["eval"] = {n: _evaluation(v, f"eval.{n}", allowed) for n, v in mapping(config["eval"], "eval")}
    warm = config["warm_start"]
    out["warm_start"] = None if warm is None else _section(warm, "WarmStart", "warm_start", allowed)
    check_together(out, allowed)
    check_evaluations(out, allowed)
    return {key: out[key] for key in ROOT}


def check_section(name: str, values: Mapping[str, Any]) -> Config:
    """A section of plain values alone (of `SECTIONS`), coerced as `check` does. Raises `UserError`."""
    found = _section(values, SECTIONS[name], name, packages(None))
    if name == "cluster":
        refuse_own_options(found)
    return found


def weights_source(config: Config) -> tuple[str, str] | None:
    """File name and hub of the pretrained weights that the backbone starts from; None where it needs none.

    Its class says `hub`, and `weights_file` with a place for its setting `name`.
    """
    found = signature.read(config["backbone"]["_target_"], packages(config["project"])).attributes
    return (found.get("weights_file", "{name}.safetensors"), found["hub"]) if "hub" in found else None


def _term(node: Any, path: str, allowed: Packages) -> Config:
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise UserError(f"{path}: no such term is chosen; add it to loss=[...]")
    common = {key: node[key] for key in TERM if key in node}
    own = {key: value for key, value in node.items() if key not in TERM}
    return _section(common, "TermSettings", path, allowed) | coerce(own, LOSS, path, allowed)


def _evaluation(node: Any, path: str, allowed: Packages) -> Config:
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise UserError(f"{path}: no such evaluation is chosen; add it to eval=[...]")
    own = {key: value for key, value in node.items() if key not in EVALUATION_SETTINGS}
    checked = coerce(own, EVALUATION, path, allowed)
    common = {key: node[key] for key in EVALUATION_SETTINGS if key in node}
    same_keys(common, EVALUATION_SETTINGS, path)
    if common["dataset"] is not None:
        common["dataset"] = _section(common["dataset"], "Dataset", f"{path}.dataset", allowed)
    return common | checked


def _section(values: Any, name: str, path: str, allowed: Packages) -> Config:
    found = signature.read(f"vocl.settings.{name}", allowed).parameters
    same_keys(dict(mapping(values, path)), tuple(found), path)
    return {key: coerce(values[key], kind, f"{path}.{key}", allowed) for key, kind in found.items()}


def section_types(name: str) -> dict[str, Any]:
    """What the keys of a section of plain values take: a class of `vocl.settings`."""
    return signature.read(f"vocl.settings.{name}", packages(None)).parameters


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


def _rules() -> Config:
    """The rules of migrations.yaml; what is said of `dataset` also holds for an evaluation's own."""
    rules = _migrations()
    own = {f"eval.*.{key}": value for key, value in rules["added"].items() if key.startswith("dataset.")}
    moved = {
        f"eval.*.{old}": f"eval.*.{new}"
        for old, new in rules["renamed"].items()
        if old.startswith("dataset.") and new.startswith("dataset.")
    }
    return {"added": rules["added"] | own, "renamed": rules["renamed"] | moved}


def _as_before(content: Config) -> Config:
    """Today's config as the first release would have said it: old names, without keys added since
    that still have the value that means "as before"."""
    rules = _rules()
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
    config, rules = copy.deepcopy(config), _rules()
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
    """Whether the part that `node` describes has a parameter `key`, of its own or as every term and
    evaluation has; a section of plain values has."""
    if "_target_" not in node or key in (*TERM, *EVALUATION_SETTINGS):
        return True
    try:
        return key in signature.read(node["_target_"], packages(project)).parameters
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
