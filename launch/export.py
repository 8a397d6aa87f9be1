"""`vocl export`: a finished run as a folder that stands alone: weights, config, scores, code, a card."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from launch import frozen, snapshot
from launch.runs import is_word, root_of
from vocl import claims, recorded, result
from vocl.compose import compose
from vocl.errors import UserError
from vocl.files import user_path
from vocl.find import find_run
from vocl.folder import new_folder
from vocl.record import REPOSITORY, code_digest
from vocl.saved import checkpoints

OWN = ("runtime", "cluster")  # of this machine: paths, accounts


def main(arguments: Sequence[str]) -> int:
    """`vocl export RUN OUT [runtime.root=PATH]`: `vocl.load.load("OUT")` gives its model, elsewhere too.

    Paths and cluster settings of this machine are left out of the config. Returns 0.
    """
    root, words = root_of(arguments)
    if len(words) != 2 or not all(is_word(word) for word in words):
        raise UserError("vocl export: expected a run and a folder, e.g. vocl export 3f2a9c01bd ~/model")
    run, out = words
    folder = find_run(run, root)
    if not (folder / "result.json").exists():
        raise UserError(f"{folder}: has not finished; only finished runs are exported")
    path = user_path(out)
    with new_folder(path, "OUT") as place:
        _fill(place, folder, root)
    print(path)
    return 0


def _fill(place: Path, folder: Path, root: Path) -> None:
    config, scores = frozen.config_of(folder), result.read(folder)
    (place / "checkpoints").mkdir()
    for source in (_checkpoint(folder), *sorted((folder / "checkpoints").glob("frozen-*.safetensors"))):
        shutil.copyfile(source, place / "checkpoints" / source.name)
    shutil.copyfile(folder / "result.json", place / "result.json")
    for report in sorted((folder / "eval").glob("*/*.json")):
        copy = place / report.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(report, copy)
    code = _copy_code(place, folder, root, config["project"], scores.get("code"))
    try:
        card = _card(folder, config, scores, code)
    except (KeyError, TypeError, AttributeError) as error:
        told = f"{type(error).__name__}: {error}"
        raise UserError(f"{folder}: its config.yaml or result.json is damaged: {told}") from None
    general = compose([])
    shared = config | {key: general[key] for key in OWN}
    (place / "config.yaml").write_text(yaml.safe_dump(shared, sort_keys=False))
    if (REPOSITORY / "LICENSE").is_file():
        shutil.copyfile(REPOSITORY / "LICENSE", place / "LICENSE")
    (place / "README.md").write_text(card)


def _checkpoint(folder: Path) -> Path:
    """The newest checkpoint whose content matches its name."""
    for found in checkpoints(folder / "checkpoints"):
        if found.is_intact:
            return found.path
    raise UserError(f"{folder}: has no valid checkpoint")


def _copy_code(place: Path, folder: Path, root: Path, project: str | None, digest: str | None) -> str:
    """Copy the code that the run was trained with, if it is known; says which it is."""
    source = None
    with suppress(UserError):  # the snapshot is gone
        source = frozen.code_of(root, folder.name, claims.newest(folder))
    if source is not None:
        shutil.copytree(source, place / "code")
        return f"the snapshot {source.name} that the run was submitted with; digest {digest}"
    if project is not None and not user_path(project).is_dir():
        raise UserError(f"{folder}: the code it was submitted with is gone, and so is {project}")
    taken = snapshot.take(place, project)
    taken.rename(place / "code")
    (place / "snapshots").rmdir()
    now = code_digest(project)
    if now == digest:
        return f"the run's own; digest {digest}"
    return f"of the day of the export, digest {now}; the run was trained with {digest}, which is not kept"


def _card(folder: Path, config: dict[str, Any], scores: dict[str, Any], code: str) -> str:
    """README.md of the folder."""
    dataset, model = config["dataset"]["name"], config["model"]["_target_"].rpartition(".")[2]
    backbone = config["backbone"].get("name") or config["backbone"]["_target_"].rpartition(".")[2]
    lines = [f"# {model} on {dataset}, seed {config['seed']}", ""]
    lines += [
        f"Run {scores['run_id']}: backbone {backbone}, loss {', '.join(config['loss'])}, "
        f"{scores['steps']} steps in {scores['wall_s'] / 3600:.2f} h on {scores['device']}.",
        "",
    ]
    for name, entry in scores["evals"].items():
        count, protocol = entry["num_videos"], entry["protocol"]
        lines += [f"## Scores: {name} ({count} videos, protocol {protocol})", "", "| metric | value |"]
        lines += ["|---|---|"]
        lines += [
            f"| {key} | {value:.4f} |"
            for key, value in entry["metrics"].items()
            if isinstance(value, int | float)
        ]
        lines += [""]
    lines += [
        "## Use",
        "",
        "```python",
        "from vocl.load import load",
        'model = load("this folder").model',
        "```",
        "",
        f"Trained by `{_command(folder)}`.",
        "",
        f"`code/`: {code}.",
        "",
        "The code's licence is in LICENSE. Weights that were trained on others' data or from others' "
        "weights come under those terms too.",
    ]
    if config["project"] is not None:
        lines += [
            "",
            "The config names code of its own (project): copy code/project, set `project` in config.yaml to "
            "it, and put this folder among your runs.",
        ]
    return "\n".join(lines) + "\n"


def _command(folder: Path) -> str:
    """How the run was asked for; a job's own command line names nothing but its config."""
    for claim in claims.history(folder):
        submission = frozen.submission_of(folder.parent.parent, claim)
        if submission is not None and _selects(submission.arguments, folder.name):
            words = [a for a in submission.arguments if not a.startswith(("runtime.", "cluster", "--"))]
            return shlex.join(["vocl", "submit", *words])
    start = next(iter(recorded.starts(folder)), {})
    command = [str(word) for word in start.get("command") or []]
    words = [w for w in command[1:] if not w.startswith(("runtime.", "cluster"))]
    return shlex.join(["python", "-m", "vocl.train", *words])


def _selects(arguments: Sequence[str], run: str) -> bool:
    """Whether `vocl submit` takes the arguments of a submission: neither those of `vocl tend`, nor an
    id of `run`, by which `vocl retry` names it."""
    named = any(is_word(word) and run.startswith(word) for word in arguments)
    return bool(arguments) and arguments[0] != "tend" and not named
