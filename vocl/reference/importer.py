"""An official checkpoint becomes a run folder.

A method is a module of this package, or of the folder `reference` of a package of `project=PATH`: a map
(`KEYS`, `DECIDED_BY`) from the names in the file to the names here. Only tensors are taken from the
file; every size and setting comes from the config, and has to agree.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from vocl.assemble import make_importable
from vocl.config.folders import packages
from vocl.config.run_config import RunConfig
from vocl.errors import UserError
from vocl.ops.random import seed_of
from vocl.rundir.run_dir import RunDir

WRAPPERS = ("model.", "module.", "net.", "network.")
SHOWN = 3  # wrong names in a message


def methods(project: str | None = None) -> list[str]:
    """Names of the methods whose checkpoints can be imported, by this package or that of a project folder."""
    return sorted(_maps(project))


def find_method(name: str, project: str | None = None) -> ModuleType:
    """The map of names of the method `name`; `UserError` with the choices for one that has none."""
    maps = _maps(project)
    if name not in maps:
        raise UserError(f"import {name}: no such method, choose from {', '.join(sorted(maps))}")
    make_importable(packages(project))
    return importlib.import_module(maps[name])


def _maps(project: str | None) -> dict[str, str]:
    """Modules with a map of names, by the name of the method; a project's own goes before one of vocl.

    Found by their source text: what nobody asks for is not imported.
    """
    found = {}
    for package, folder in packages(project).items():
        for path in sorted((folder / "reference").glob("*.py")):
            if _defines(path, "KEYS"):
                found[path.stem] = f"{package}.reference.{path.stem}"
    return found


def _defines(path: Path, name: str) -> bool:
    """Whether a module has a variable `name`, its own or another's."""
    try:
        body = ast.parse(path.read_bytes()).body
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{path}: not valid Python: {error}") from None
    targets = {t.id for n in body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
    targets |= {n.target.id for n in body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
    taken = {a.asname or a.name for n in body if isinstance(n, ast.ImportFrom) for a in n.names}
    return name in targets | taken


def import_checkpoint(method: ModuleType, source: Path, out: Path, config: RunConfig) -> Path:
    """Write the run folder `out` with the weights of the file `source` in the model of `config`.

    `config` is a checked one. The folder holds a checkpoint of the last step (without optimizer
    state: it can be loaded, evaluated and warm-started from, not resumed) and a record of the
    file's digest. Names that begin with one of the method's OUTSIDE are not in its files: they are
    as a run of `config` begins, a backbone with its pretrained weights. Raises `UserError` when file
    and config do not fit, and writes nothing then.
    """
    from vocl import assemble
    from vocl.rundir.new_folder import new_folder

    given = read_weights(method, source, config.project)
    torch.manual_seed(seed_of(config.seed, "weights"))
    outside = getattr(method, "OUTSIDE", ())
    model = assemble.make_model(config, pretrained=bool(outside))
    own = model.state_dict()
    came = {name: own[name] for name in own if name.startswith(outside)}
    weights = fit_weights(method, complete(method, came | given, own), own, source)
    model.load_state_dict(weights)
    frozen = {n: p for n, p in model.named_parameters() if not p.requires_grad}
    with new_folder(out, "OUT") as folder:
        record = _record(method, source, len(weights), config.project)
        _write(RunDir(folder), config, weights, frozen, record)
    return out


def read_weights(method: ModuleType, source: Path, project: str | None = None) -> dict[str, Tensor]:
    """The tensors of the file by their names here; `UserError` for a name that the map lacks."""
    from vocl.nn.backbones.weights_file import read_state_dict

    given = _unwrapped(method, read_state_dict(source))
    renamed = {name: rename(method, name) for name in given}
    unknown = [name for name, own in renamed.items() if own is None]
    if unknown:
        first = {name.partition(".")[0] for name in given}
        shared = f"; all names begin with {first.pop()}." if len(first) == 1 < len(given) else ""
        what = f"not a checkpoint of {_short(method)}: unknown {_first(unknown)}{shared}"
        raise UserError(f"{source}: {what}; METHOD is one of {', '.join(methods(project))}")
    return {own: given[name] for name, own in renamed.items() if own is not None}


def _unwrapped(method: ModuleType, given: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """`given` without what all names begin with because the model was a part of what was saved."""
    while any(rename(method, name) is None for name in given):
        wrapper = next((w for w in WRAPPERS if all(name.startswith(w) for name in given)), None)
        if wrapper is None:
            break
        given = {name.removeprefix(wrapper): tensor for name, tensor in given.items()}
    return given


def complete(method: ModuleType, given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`given` without what a model may have no place for (patterns SPARE of the method), and with what its
    files never hold: copies of other tensors (its map COPIED says of which), and those of a new model,
    `own` (patterns NEW)."""
    spare = [n for n in given if any(re.fullmatch(pattern, n) for pattern in getattr(method, "SPARE", ()))]
    out = {name: tensor for name, tensor in given.items() if name in own or name not in spare}
    for name in (n for n in own if n not in given):
        for pattern, source in getattr(method, "COPIED", ()):
            match = re.fullmatch(pattern, name)
            if match and match.expand(source) in given:
                out[name] = given[match.expand(source)]
        if name not in out and any(re.fullmatch(pattern, name) for pattern in getattr(method, "NEW", ())):
            out[name] = own[name]
    return out


def rename(method: ModuleType, name: str) -> str | None:
    """What `name` of a method's checkpoint is called here; None for a name that it does not have."""
    for pattern, replacement in method.KEYS:
        match = re.fullmatch(pattern, name)
        if match:
            return match.expand(replacement)
    return None


def fit_weights(
    method: ModuleType, given: Mapping[str, Tensor], own: Mapping[str, Tensor], source: Path
) -> dict[str, Tensor]:
    """`given` in the shapes and types of `own` (a difference in ones is none)."""
    lacking = [n for n in own if n not in given]
    extra = [n for n in given if n not in own]
    wrong = [n for n in own if n in given and _trimmed(given[n].shape) != _trimmed(own[n].shape)]
    complaints = []
    if wrong:
        spelt = [f"{n} is {_by(given[n])} in the file and {_by(own[n])} by the config" for n in wrong]
        complaints.append(_first(spelt))
    if lacking:
        complaints.append(f"the file lacks {_first(lacking)}")
    if extra:
        complaints.append(f"the config has no place for {_first(extra)}")
    if complaints:
        named = (key for name in (*wrong, *lacking, *extra) for key in _decided_by(method, name))
        keys = ", ".join(dict.fromkeys(named))
        problem = "; ".join(complaints)
        raise UserError(f"{source}: does not fit the config: {problem}; see experiment, {keys}")
    fitted = {n: given[n].reshape(tensor.shape).to(tensor.dtype) for n, tensor in own.items()}
    broken = [n for n, tensor in fitted.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise UserError(f"{source}: holds values that are not finite in {_first(broken)}")
    return fitted


def _write(
    run: RunDir,
    config: RunConfig,
    weights: Mapping[str, Tensor],
    frozen: Mapping[str, Tensor],
    record: dict[str, Any],
) -> None:
    from vocl.files import write_json
    from vocl.rundir.checkpoint import Checkpoints

    checkpoints = Checkpoints(run.checkpoints)
    digest = checkpoints.save_frozen(frozen, checkpoints.folder)
    state: dict[str, Any] = {
        "step": config.train.steps,
        "model": {n: tensor for n, tensor in weights.items() if n not in frozen},
        "loss": {},
        "optimizer": {},
        "scaler": {},
        "curriculum": {},
        "frozen": digest,
    }
    checkpoints.save(state["step"], state)
    write_json(run.events / "0001-imported.json", record)
    run.write_config(config.content)


def _record(method: ModuleType, source: Path, num_tensors: int, project: str | None) -> dict[str, Any]:
    from vocl.rundir.provenance import environment

    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    facts = {"method": _short(method), "file": source.name, "sha256": digest, "num_tensors": num_tensors}
    event = {"attempt": 1, "time": time.time(), "outcome": "imported", "wall_s": 0.0}
    return event | facts | {"environment": environment("cpu", torch.get_num_threads(), 1, project)}


def _decided_by(method: ModuleType, name: str) -> tuple[str, ...]:
    return next((keys for start, keys in method.DECIDED_BY if name.startswith(start)), ())


def _trimmed(shape: torch.Size) -> tuple[int, ...]:
    return tuple(side for side in shape if side != 1)


def _by(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _short(method: ModuleType) -> str:
    return method.__name__.rpartition(".")[2]
