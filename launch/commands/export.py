"""`vocl export`: a finished run as a folder that stands alone: weights, config, scores, code, a card.

It is made to be given away, and holds of the run's folder: the newest checkpoint and the frozen weights;
result.json and the reports and rows of evaluations (scores, names of videos, kind of device: no host,
user or path); config.yaml. Of the code it has what a snapshot has (`launch.submission.codebase`), without
changes as a diff. Not in it are: the run's config sections `runtime` and `cluster` (the checkout's own
defaults stand there, without names of a site); conf/cluster, but for three files that are shipped,
without their texts; events, claims, logs, the ledger and its job scripts, W&B files, soft masks. What the
run id is a hash of stays as it is: a `warm_start.run`, or a setting of a project's own source, that is a
path of this machine is in the config; so is what people wrote into their code and other configs. The
command on the card has its paths cut to their last names.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from launch.escape import markdown
from launch.selection.submitted import is_word, root_of
from launch.slurm.ledger import By, Submission
from launch.submission import codebase, resubmit, snapshot
from launch.submission.job_config import PATHS
from vocl.command_line import defaults
from vocl.command_line.verb import RUN, RUNS, Line, verb, words
from vocl.config import migrate
from vocl.config.compose import compose
from vocl.errors import UserError
from vocl.files import (
    json_or_none,
    make_folder,
    open_regular,
    refuse_planted,
    share,
    user_path,
    write_text,
)
from vocl.rundir import claims, events, result
from vocl.rundir.checkpoint_files import checkpoints
from vocl.rundir.new_folder import new_folder
from vocl.rundir.provenance import REPOSITORY, SNAPSHOT, code_digest, commit
from vocl.rundir.saved_config import trusted_run

PROJECT = "code/project"  # where a project's own code lies in the folder
SITE = ("runtime.", "runtime=", "cluster.", "cluster=", "cluster/", "hydra.", "hydra/", "-")
PATH = re.compile(r"(?<![\w.~-])~?/(?:[^\s,'\"\]}]*/)?(?=[^\s,'\"\]}])")  # all but the last name of one


@verb("export")
@words(
    "RUN OUT [runtime.root=PATH]",
    f"{RUN} OUT: a new folder.",
    names=2,
    keys=defaults.OF_ROOT,
    takes=defaults.ROOT,
    offers=(RUNS,),
)
def main(line: Line) -> int:
    """Make a folder of a finished run that stands alone: `vocl.load("OUT")` gives its model, elsewhere too.

    Paths and cluster settings of this machine are left out; what lies beside the code and is not
    copied is said on stderr. Returns 0.
    """
    root, _ = root_of(line.words)
    run, out = line.names
    folder = trusted_run(run, str(root))
    if not (folder / "result.json").exists():
        raise UserError(f"{folder}: has not finished; only finished runs are exported")
    for part in (folder, folder / "checkpoints", folder / "eval", *sorted((folder / "eval").glob("*"))):
        refuse_planted(part)
    path = user_path(out)
    with new_folder(path, "OUT") as place:
        _fill(place, folder, root)
    print(path)
    return 0


def _fill(place: Path, folder: Path, root: Path) -> None:
    config, scores = resubmit.config_of(folder), result.read(folder)
    for source in (_checkpoint(folder), *sorted((folder / "checkpoints").glob("frozen-*.safetensors"))):
        _copy(source, place / "checkpoints" / source.name)
    _copy(folder / "result.json", place / "result.json")
    for report in sorted((folder / "eval").glob("*/*.json")):
        _copy(report, place / report.relative_to(folder))
    code = _copy_code(place, folder, root, config["project"], scores.get("code"))
    try:
        card = _card(folder, config, scores, code)
    except (KeyError, TypeError, AttributeError) as error:
        told = f"{type(error).__name__}: {error}"
        raise UserError(f"{folder}: its config.yaml or result.json is damaged: {told}") from None
    write_text(place / "config.yaml", yaml.safe_dump(_of_no_site(config), sort_keys=False))
    if (REPOSITORY / "LICENSE").is_file():
        shutil.copyfile(REPOSITORY / "LICENSE", place / "LICENSE")
        share(place / "LICENSE")
    write_text(place / "README.md", card)


def _copy(source: Path, copy: Path) -> None:
    """Copy a file of a run, for those who may read what lies in the folder of the copy. A link is refused:
    it would give away what this user alone can read."""
    make_folder(copy.parent)
    with open_regular(source, links=False) as content, copy.open("xb") as file:
        shutil.copyfileobj(content, file)
    share(copy)


def _checkpoint(folder: Path) -> Path:
    """The newest checkpoint whose content matches its name."""
    for found in checkpoints(folder / "checkpoints"):
        if found.is_intact:
            return found.path
    raise UserError(f"{folder}: has no valid checkpoint")


def _of_no_site(config: dict[str, Any]) -> dict[str, Any]:
    """`config` with the checkout's defaults, none of one site, for what is no part of a run's identity."""
    cluster = yaml.safe_load(migrate.PLACES["cluster"].read_bytes())
    runtime = compose([])["runtime"] | {"wandb_entity": None}
    runtime |= {key: PATH.sub("", runtime[key]) for key in PATHS}
    project = None if config["project"] is None else PROJECT
    return config | {"project": project, "runtime": runtime, "cluster": codebase.general(cluster)}


def _copy_code(place: Path, folder: Path, root: Path, project: str | None, digest: str | None) -> str:
    """Copy the code that the run was trained with, if it is known; says which it is."""
    source = None
    with suppress(UserError):  # the snapshot is gone
        source = resubmit.code_of(root, folder.name, claims.newest(folder))
    if source is not None:
        head = (json_or_none(source / SNAPSHOT) or {}).get("commit")
        _write_code(codebase.collect_copy(source), head, place)
        return f"the snapshot {source.name} that the run was submitted with; digest {digest}"
    if project is not None and not user_path(project).is_dir():
        raise UserError(f"{folder}: the code it was submitted with is gone, and so is {project}")
    _write_code(codebase.collect(project), commit(), place)
    now = code_digest(project)
    if now == digest:
        return f"the run's own; digest {digest}"
    return f"of the day of the export, digest {now}; the run was trained with {digest}, which is not kept"


def _write_code(code: codebase.Code, head: str | None, place: Path) -> None:
    for line in code.lines():
        print(f"note: {line}", file=sys.stderr)
    codebase.write(codebase.without_site(code), place / "code")
    snapshot.write_record(place / "code", head, None, 0o444)


def _card(folder: Path, config: dict[str, Any], scores: dict[str, Any], code: str) -> str:
    """README.md of the folder."""
    dataset, model = markdown(config["dataset"]["name"]), config["model"]["_target_"].rpartition(".")[2]
    backbone = config["backbone"].get("name") or config["backbone"]["_target_"].rpartition(".")[2]
    took = f" in {scores['wall_s'] / 3600:.2f} h" if scores.get("wall_s") is not None else ""
    lines = [f"# {model} on {dataset}, seed {config['seed']}", ""]
    lines += [
        f"Run {scores['run_id']}: backbone {backbone}, loss {', '.join(config['loss'])}, "
        f"{scores.get('steps')} steps{took} on {scores.get('device')}.",
        "",
    ]
    for name, entry in scores["evals"].items():
        count, protocol = entry["num_videos"], entry["protocol"]
        title = f"{markdown(name)} ({count} videos, protocol {markdown(str(protocol))})"
        lines += [f"## Scores: {title}", "", "| metric | value |"]
        lines += ["|---|---|"]
        lines += [
            f"| {markdown(key)} | {value:.4f} |"
            for key, value in entry["metrics"].items()
            if isinstance(value, int | float)
        ]
        lines += [""]
    lines += [
        "## Use",
        "",
        "```python",
        "import vocl",
        'model = vocl.load("this folder").model',
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
            "where it lies, and put this folder among your runs.",
        ]
    return "\n".join(lines) + "\n"


def _command(folder: Path) -> str:
    """How the run was asked for; a job's own command line names nothing but its config."""
    for claim in claims.history(folder):
        submission = resubmit.submission_of(folder.parent.parent, claim)
        if submission is not None and _selects(submission, folder.name):
            return shlex.join(["vocl", "submit", *_without_site(submission.arguments)])
    start = next(iter(events.starts(folder)), {})
    command = [str(word) for word in start.get("command") or []]
    if "--config" in command:  # a job's
        return "python -m vocl.train --config config.yaml"
    return shlex.join(["python", "-m", "vocl.train", *_without_site(command[1:])])


def _without_site(words: Sequence[str]) -> list[str]:
    """Words of a command, without what says where it was done."""
    kept = [word for word in words if not word.lstrip("+~").startswith(SITE)]
    return [f"project={PROJECT}" if word.startswith("project=") else PATH.sub("", word) for word in kept]


def _selects(submission: Submission, run: str) -> bool:
    """Whether `vocl submit` takes the arguments of a submission: neither those of `vocl tend`, nor an
    id of `run`, by which `vocl retry` names it."""
    named = any(is_word(word) and run.startswith(word) for word in submission.arguments)
    return bool(submission.arguments) and submission.by is By.USER and not named
