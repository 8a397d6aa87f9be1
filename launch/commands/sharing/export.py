"""`vocl export`: a finished run as a folder that stands alone: weights, config, scores, code, a card.

It is made to be given away, and holds of the run's folder: the newest checkpoint and the frozen weights;
its result and the reports and rows of evaluations (scores, names of videos, kind of device: no host,
user or path); its config. Of the code it has what a snapshot has (`launch.submission.codebase`), without
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
from launch.selection.submitted import is_word, root_in
from launch.slurm.ledger import By, Submission
from launch.submission import codebase, resubmit, snapshot
from launch.submission.job_config import PATHS
from vocl.command_line import defaults
from vocl.command_line.verb import RUN, RUNS, Line, option, verb, words
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
from vocl.rundir import claims
from vocl.rundir.checkpoint_files import frozen_name
from vocl.rundir.new_folder import new_folder
from vocl.rundir.provenance import REPOSITORY, SNAPSHOT, code_digest, commit
from vocl.rundir.result import Result
from vocl.rundir.results_root import ResultsRoot, root_of
from vocl.rundir.run_dir import CONFIG, RESULT, RunDir

LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,60}")
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
@option(
    "--license", "licence", default="other", help="Of the weights, as the Hub names it: mit, cc-by-4.0, ..."
)
def main(line: Line, licence: str) -> int:
    """Make a folder of a finished run that stands alone: `vocl.load("OUT")` gives its model, elsewhere too.

    Paths and cluster settings of this machine are left out; what lies beside the code and is not
    copied is said on stderr. Returns 0.
    """
    root, _ = root_in(line.words)
    name, out = line.names
    path = user_path(out)
    export(root, name, path, licence)
    print(path)
    return 0


def export(root: ResultsRoot, name: str, path: Path, licence: str) -> None:
    """Make the folder `path` of the finished run `name`; `licence`: of its weights, an identifier."""
    if not LICENCE.fullmatch(licence):
        raise UserError(f"--license {licence}: expected an identifier such as mit, cc-by-nc-4.0 or other")
    run = root.find_trusted(name)
    if not run.result_path.exists():
        raise UserError(f"{run}: has not finished; only finished runs are exported")
    for part in (run.path, run.checkpoints, run.evaluations, *sorted(run.evaluations.glob("*"))):
        refuse_planted(part)
    with new_folder(path, "OUT") as place:
        _fill(RunDir(place), run, root, licence)


def _fill(copy: RunDir, run: RunDir, root: ResultsRoot, licence: str) -> None:
    config, result = resubmit.config_of(run), run.result()
    for source in (_checkpoint(run), *sorted(run.checkpoints.glob(frozen_name("*")))):
        _copy(source, copy.checkpoints / source.name)
    _copy(run.result_path, copy.result_path)
    for report in sorted(run.evaluations.glob("*/*.json")):
        _copy(report, copy.path / report.relative_to(run.path))
    code = _copy_code(copy.path, run, root, config["project"], result.code)
    try:
        card = _metadata(licence, result) + _card(run, config, result, code)
    except (KeyError, TypeError, AttributeError) as error:
        told = f"{type(error).__name__}: {error}"
        raise UserError(f"{run}: its {CONFIG} or {RESULT} is damaged: {told}") from None
    copy.write_config(_of_no_site(config))
    if (REPOSITORY / "LICENSE").is_file():
        shutil.copyfile(REPOSITORY / "LICENSE", copy.path / "LICENSE")
        share(copy.path / "LICENSE")
    write_text(copy.path / "README.md", card)


def _copy(source: Path, copy: Path) -> None:
    """Copy a file of a run, for those who may read what lies in the folder of the copy. A link is refused:
    it would give away what this user alone can read."""
    make_folder(copy.parent)
    with open_regular(source, links=False) as content, copy.open("xb") as file:
        shutil.copyfileobj(content, file)
    share(copy)


def _checkpoint(run: RunDir) -> Path:
    """The newest checkpoint whose content matches its name."""
    for found in run.checkpoint_files():
        if found.is_intact:
            return found.path
    raise UserError(f"{run}: has no valid checkpoint")


def _of_no_site(config: dict[str, Any]) -> dict[str, Any]:
    """`config` with the checkout's defaults, none of one site, for what is no part of a run's identity."""
    cluster = yaml.safe_load(migrate.PLACES["cluster"].read_bytes())
    runtime = compose([])["runtime"] | {"wandb_entity": None}
    runtime |= {key: PATH.sub("", runtime[key]) for key in PATHS}
    project = None if config["project"] is None else PROJECT
    return config | {"project": project, "runtime": runtime, "cluster": codebase.general(cluster)}


def _copy_code(place: Path, run: RunDir, root: ResultsRoot, project: str | None, digest: str | None) -> str:
    """Copy the code that the run was trained with, if it is known; says which it is."""
    source = None
    with suppress(UserError):  # the snapshot is gone
        source = resubmit.code_of(root, run.id, claims.newest(run))
    if source is not None:
        head = (json_or_none(source / SNAPSHOT) or {}).get("commit")
        _write_code(codebase.collect_copy(source), head, place)
        return f"the snapshot {source.name} that the run was submitted with; digest {digest}"
    if project is not None and not user_path(project).is_dir():
        raise UserError(f"{run}: the code it was submitted with is gone, and so is {project}")
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


def _metadata(licence: str, result: Result) -> str:
    """What the Hub reads of a card."""
    tags = ["video", "object-centric-learning", "unsupervised-segmentation"]
    content = {"license": licence, "library_name": "vocl", "tags": tags, "vocl_code": result.code}
    return f"---\n{yaml.safe_dump(content, sort_keys=False)}---\n\n"


def _card(run: RunDir, config: dict[str, Any], result: Result, code: str) -> str:
    """README.md of the folder."""
    dataset, model = markdown(config["dataset"]["name"]), config["model"]["_target_"].rpartition(".")[2]
    backbone = config["backbone"].get("name") or config["backbone"]["_target_"].rpartition(".")[2]
    took = f" in {result.wall_s / 3600:.2f} h" if result.wall_s is not None else ""
    lines = [f"# {model} on {dataset}, seed {config['seed']}", ""]
    lines += [
        f"Run {result.run_id}: backbone {backbone}, loss {', '.join(config['loss'])}, "
        f"{result.steps} steps{took} on {result.device}.",
        "",
    ]
    for name, entry in result.evals.items():
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
        "In this folder, with vocl installed or `PYTHONPATH=code`:",
        "",
        "```python",
        "import vocl",
        'model = vocl.load(".").model',
        "```",
        "",
        f"Trained by `{_command(run)}`.",
        "",
        f"`code/`: {code}.",
        "",
        "The code's licence is in LICENSE. Weights that were trained on others' data or from others' "
        "weights come under those terms too.",
    ]
    if config["project"] is not None:
        lines += [
            "",
            f"The config names code of its own (project): copy code/project, set `project` in {CONFIG} to "
            "where it lies, and put this folder among your runs.",
        ]
    return "\n".join(lines) + "\n"


def _command(run: RunDir) -> str:
    """How the run was asked for; a job's own command line names nothing but its config."""
    for claim in claims.history(run):
        submission = resubmit.submission_of(root_of(run), claim)
        if submission is not None and _selects(submission, run.id):
            return shlex.join(["vocl", "submit", *_without_site(submission.arguments)])
    start = next(iter(run.starts()), {})
    command = [str(word) for word in start.get("command") or []]
    if "--config" in command:  # a job's
        return f"python -m vocl.train --config {CONFIG}"
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
