"""From group choices and overrides to one plain config, through Hydra; every mistake is one line."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocl.config.changing import refuse_changing
from vocl.config.check import check
from vocl.config.folders import CONF, conf_folders, packages
from vocl.config.grammar import SIGNS, literal, quoted, quoting_hint, text_of
from vocl.config.hydra_settings import refuse_without_effect
from vocl.config.migrate import rename_targets
from vocl.config.proof import signature
from vocl.config.proof.evaluations import refuse_vain_probes
from vocl.config.resolvers import slot_count
from vocl.config.run_config import RunConfig
from vocl.config.safe_yaml import read_yaml, refuse_unreadable
from vocl.config.schema import Config
from vocl.config.wandb_names import refuse_names
from vocl.errors import UnknownChoice, UnknownKey, UserError, brief, near
from vocl.files import user_path

if TYPE_CHECKING:
    from omegaconf import DictConfig

CONFIG_NAME = "config"  # of the root config in conf/, as Hydra calls it


def compose(overrides: Iterable[str]) -> Config:
    """The resolved config of `overrides` as plain data, not yet checked.

    `project=PATH` among them adds PATH/conf to Hydra's search path. Raises `UserError` for an
    unknown group choice or key, a value that cannot be parsed, and broken YAML.
    """
    overrides = [quoted(override) for override in overrides]
    return finished(unresolved(overrides), overrides)


def finished(composed: DictConfig, overrides: list[str], refuse: bool = True) -> Config:
    """Resolve what Hydra composed of `overrides`; `refuse=False` where nothing in it can change."""
    from omegaconf import OmegaConf

    with _one_line():
        if refuse:
            refuse_changing(OmegaConf.to_container(composed, resolve=False))
        config: Any = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    rename_targets(config)  # a project may name a class as it was called
    if not isinstance(config.get("project"), str | None):
        raise UserError(f"project={config['project']}: expected a folder")
    if config.get("project") is not None:
        config["project"] = str(user_path(config["project"]).resolve())
    for name in ("loss", "eval"):  # an empty choice leaves no node behind
        config[name] = _chosen(name, config.get(name, {}), config["project"])
    for node in _evaluations_with_a_dataset(config):
        node["dataset"] = completed(node["dataset"])
    debug = [o.partition("=")[2] for o in overrides if o.startswith("debug=")]
    if debug and debug[-1] not in ("none", "null"):
        _drop_leftovers(config, debug[-1])
        if _replaces_dataset(debug[-1], config["project"]):
            for node in _evaluations_with_a_dataset(config):
                node["dataset"] = None
    if any(o.startswith("curriculum=") for o in overrides):
        _drop_stages(config["curriculum"])
    return config


def finished_alone(root: str, overrides: Sequence[str]) -> Config:
    """The resolved config of a root of its own, such as prepare/movi_c_128: no run's."""
    from omegaconf import OmegaConf

    typed = [quoted(override) for override in overrides]
    with _one_line(typed):
        known = list(
            _keys(OmegaConf.to_container(unresolved([o for o in typed if o.startswith("project=")], root)))
        )
        for key in (override.partition("=")[0] for override in typed if override[:1] not in SIGNS):
            if not any(one == key or one.startswith(f"{key}.") for one in known):
                raise UnknownKey(key, tuple(known))
        found: Any = OmegaConf.to_container(unresolved(typed, root), resolve=True, throw_on_missing=True)
    return found


def composed(overrides: Sequence[str]) -> RunConfig:
    """The checked config of `overrides`."""
    return checked(compose(overrides), overrides)


def checked(config: Config, overrides: Iterable[str]) -> RunConfig:
    """The checked config that was composed of `overrides`; a key that the experiment sets for a part
    which is not chosen now is told with the experiment's file."""
    try:
        found = check(config)
        # here alone: what is on disk with such a name stays readable
        refuse_names(found.runtime)
        refuse_vain_probes(found, packages(found.project))
        return found
    except UnknownKey as error:
        parent = error.path.rpartition(".")[0]
        for path in _experiments(list(overrides)):
            keys = [k for k in _keys(_content(path)) if k.rpartition(".")[0] == parent]
            left = [key for key in keys if key.rpartition(".")[2] not in error.expected]
            if error.path in left:
                raise UserError(
                    f"{error}; {path} sets it, for another {parent.replace('.', '/')}: "
                    f"drop it with {' '.join(f'~{key}' for key in left)}"
                ) from None
        raise


def _root_choices() -> dict[str, Any]:
    """What the root config chooses of its groups: experiment, debug, ..."""
    entries = _content(CONF / f"{CONFIG_NAME}.yaml")["defaults"]
    chosen = {group: name for entry in entries if isinstance(entry, dict) for group, name in entry.items()}
    return {group: name for group, name in chosen.items() if group.isidentifier()}


def _experiments(overrides: list[str]) -> Iterator[Path]:
    """The file of the experiment that `overrides` choose, and those that it inherits from."""
    chosen = [o.partition("=")[2] for o in overrides if o.startswith("experiment=")]
    names = chosen[-1:] or [_root_choices()["experiment"]]
    folders = conf_folders(project_of(overrides))
    while names:
        name = names.pop()
        for path in (folder / "experiment" / f"{name}.yaml" for folder in folders):
            if path.is_file():
                yield path
                parents = (entry for entry in _content(path).get("defaults", []) if isinstance(entry, str))
                names += [parent.removeprefix("/experiment/") for parent in parents]


def _content(path: Path) -> dict[str, Any]:
    content = read_yaml(path)
    return content if isinstance(content, dict) else {}


def _keys(node: Any, path: str = "") -> Iterator[str]:
    """The dotted path of every value below `node`."""
    if not isinstance(node, dict):
        yield path
        return
    for key, value in node.items():
        yield from _keys(value, f"{path}.{key}" if path else str(key))


def group_choices(group: str, project: str | None = None) -> list[str]:
    """Names of the options of config group `group`, e.g. "experiment"."""
    roots = conf_folders(project)
    files = [(root / group, path) for root in roots for path in (root / group).rglob("*.yaml")]
    return sorted({path.relative_to(base).with_suffix("").as_posix() for base, path in files})


def top_choices(group: str, project: str | None = None) -> list[str]:
    """Those of `group_choices` that are none of a group within this one, unless all are."""
    options = group_choices(group, project)
    return [option for option in options if "/" not in option] or options


def unresolved(overrides: list[str], root: str = CONFIG_NAME) -> DictConfig:
    """What Hydra composes of `overrides` and the config `root`, interpolations not yet resolved."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("slot_count", slot_count, replace=True)
    for override in overrides:
        if override.lstrip("+~").startswith("="):
            raise UserError(f"{override}: expected key=value")
    refuse_without_effect(overrides)
    project = project_of(overrides)
    own = user_path(project).resolve() / "conf" if project else None
    search = [f"hydra.searchpath=[{literal(f'file://{own}')}]"] if own is not None and own.is_dir() else []
    if own is not None:
        _refuse_unreadable(own, overrides)
    outer = GlobalHydra.instance().hydra  # of a program that runs under Hydra itself
    try:
        with _one_line(overrides):
            GlobalHydra.instance().clear()
            with hydra.initialize_config_dir(str(CONF), version_base="1.3", job_name="vocl"):
                return hydra.compose(root, overrides=[*overrides, *search])
    finally:
        GlobalHydra.instance().hydra = outer


def _refuse_unreadable(conf: Path, overrides: list[str]) -> None:
    """Refuse chosen files of a project that Hydra would read for hours, or end in a traceback over."""
    for override in overrides:
        group, _, name = override.lstrip("+").partition("=")
        path = conf / group.partition("@")[0] / f"{name}.yaml"
        if name and path.is_file():
            refuse_unreadable(path)


def project_of(overrides: Iterable[str]) -> str | None:
    """The folder that `project=PATH` names, made absolute by nobody; None without one."""
    found = [text_of(o.partition("=")[2]) for o in overrides if o.startswith("project=")]
    folder = found[-1] if found and found[-1] not in ("", "null") else None
    if folder and not user_path(folder).is_dir():
        raise UserError(f"project={folder}: no such folder")
    return folder


def _chosen(group: str, nodes: Any, project: str | None) -> Any:
    """Drop what an experiment set for a term or an evaluation that `loss=[...]`, `eval=[...]` leave out.

    Plain Hydra keeps such leftovers. One is recognised by having no `_target_` while a file of its
    name exists; anything else without a `_target_` is a typing error, left for `check`.
    """
    if not isinstance(nodes, dict):
        return nodes
    bare = [
        n for n, node in nodes.items() if isinstance(node, dict | None) and "_target_" not in (node or {})
    ]
    known = group_choices(group, project) if bare else []
    return {name: node for name, node in nodes.items() if name not in bare or name not in known}


def completed(dataset: Config) -> Config:
    """A dataset section from its file alone, with what the root config says of every dataset."""
    from omegaconf import OmegaConf

    general: Any = OmegaConf.to_container(OmegaConf.load(CONF / f"{CONFIG_NAME}.yaml"))
    return {**general.get("dataset", {}), **dataset}


def _evaluations_with_a_dataset(config: Config) -> list[Config]:
    nodes = config["eval"].values() if isinstance(config["eval"], dict) else ()
    return [node for node in nodes if isinstance(node, dict) and isinstance(node.get("dataset"), dict)]


def _replaces_dataset(debug: str, project: str | None) -> bool:
    """Whether the choice `debug` has a dataset of its own, for evaluations too."""
    files = [folder / "debug" / f"{debug}.yaml" for folder in conf_folders(project)]
    return any("override /dataset:" in file.read_text() for file in files if file.is_file())


def _drop_leftovers(config: Config, debug: str) -> None:
    """Drop what an experiment set for a backbone or source that debug=... has replaced since, and
    what debug=... sets to narrow parts of a model where the experiment has chosen other parts.

    Only keys that a part does not take; without a debug choice they are mistakes and stay.
    """
    for path in ("backbone", "dataset.source"):
        _drop_untaken(config, path, set(_at(config, path)))
    narrow = [folder / "debug" / "narrow" / debug for folder in conf_folders(config["project"])]
    for file in (file for folder in narrow for file in folder.glob("*.yaml")):
        for key in _keys(_content(file)):
            parent, _, name = key.rpartition(".")
            if parent != "model":  # a part of it
                _drop_untaken(config, parent, {name})


def _drop_untaken(config: Config, path: str, keys: set[str]) -> None:
    """Drop `keys` of the part at `path`, if there is one, that its class does not take."""
    node = _at(config, path)
    if isinstance(node, dict) and "_target_" in node:
        taken = signature.read(node["_target_"], packages(config["project"])).parameters
        for key in (keys & set(node)) - {"_target_", *taken}:
            del node[key]


def _at(config: Config, path: str) -> Any:
    """What stands at a dotted path, or None."""
    found: Any = config
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _drop_stages(curriculum: Any) -> None:
    """Drop what an experiment set for stages that the curriculum chosen instead does not have."""
    stages = curriculum.get("stages") if isinstance(curriculum, dict) else None
    if isinstance(stages, dict):
        kept = {name: stage for name, stage in stages.items() if "_target_" in (stage or {})}
        curriculum["stages"] = kept


@contextmanager
def _one_line(overrides: list[str] | None = None) -> Iterator[None]:
    """Turn whatever Hydra, OmegaConf or YAML raise into one `UserError`."""
    import yaml
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except UserError:
        raise
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{mark.name}:{mark.line + 1}:{mark.column + 1}" if mark else "a config file"
        raise UserError(f"{where}: not valid YAML: {getattr(error, 'problem', error)}") from None
    except (HydraException, OmegaConfBaseException) as error:
        raise _explained(error, overrides or []) from None
    except RecursionError:
        where = " ".join(map(brief, overrides or ["a config file"]))
        raise UserError(f"{where}: nested too deeply") from None
    except (ValueError, TypeError, AssertionError, LookupError, AttributeError) as error:
        # from inside Hydra: `loss=null`, `cluster=[1,[2]]`, an override of a group without a name
        raise UserError(f"{' '.join(overrides or [])}: cannot be composed: {error}") from None


def _explained(error: Exception, overrides: list[str]) -> UserError:
    text = " ".join(f"{error} {error.__cause__ or ''}".split())
    if override := getattr(error, "override", None):
        hint = quoting_hint(override)
        return UserError(f"{override}: cannot be read as key=value: {text.partition(' See http')[0]}{hint}")
    if "Ambiguous value" in text:
        swept = next((o for o in overrides if o.partition("=")[0] in text and "," in o), "")
        return UserError(
            f"{swept}: several values, but this trains one run; "
            f"for all of them: vocl submit {swept}{quoting_hint(swept, 'if it is one: ')}"
        )
    unknown = re.search(r"Could not override '([^']+)'", text)
    if unknown:
        return UserError(_explain_key(unknown.group(1), overrides))
    choice = re.search(r"Could not (?:find|load) '([^']+)'", text)
    if choice:
        given = (o.lstrip("+").partition("=") for o in overrides)
        spelt = next(((key, value) for key, _, value in given if f"{key}/{value}" == choice.group(1)), None)
        group, name = spelt or choice.group(1).split("/", 1)
        options = top_choices(group, project_of(overrides))
        parts = name.replace(",", " ").split()
        if len(parts) > 1 and set(parts) <= set(options):
            return UserError(f"{group}={name}: no such choice; write '{group}=[{','.join(parts)}]'")
        return UnknownChoice(group, name, options)
    if "full_key:" in text:
        key = text.split("full_key:")[1].split()[0]
        return UserError(f"{key}: {text.split('full_key:')[0].strip()}")
    return UserError(text)


def _explain_key(key: str, overrides: list[str]) -> str:
    """Name the keys that exist beside an unknown one, from the same composition without it."""
    part_of = re.fullmatch(r"(\w+)/\w+@(\1\.(\w+)\.\w+)", key)  # chosen by an experiment for what is left out
    for override in overrides:
        if part_of and override.startswith(f"{part_of[1]}="):
            return (
                f"{override}: the experiment chooses {part_of[2]}, so {part_of[3]} cannot be left out; "
                f"choose {part_of[1]}=[{part_of[3]}] or more"
            )
    rest = [o for o in overrides if o.split("=")[0].lstrip("+~") != key]
    node: Any = unresolved(rest) if len(rest) < len(overrides) else None
    path, wrong = "", key.split(".")[0]
    for part, wrong in itertools.pairwise(key.split(".")):
        if node is None or part not in node:
            wrong = part
            break
        node, path = node[part], f"{path}{part}."
    last = key.split(".")[-1]
    if hasattr(node, "keys") and last in node:  # a mapping, whose entries are not these
        return f"{key}: cannot be set as a whole; entry by entry: {key}.<name>=..., +{key}.<name>=... if new"
    known = [str(each) for each in node] if hasattr(node, "keys") else []
    known += [each for each in _root_choices() if each not in known] if known and not path else []
    choices = f", choose from {', '.join(path + each for each in known)}" if known else ""
    return f"{key}: no such key{choices}{near(wrong, known, path)}"
