"""`vocl verify`: does a released checkpoint score here what was published of it?"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.tables import reproduced
from launch.tables.claims import Claim, Findings, claimed, claims
from vocl.command_line import defaults
from vocl.command_line.verb import Line, verb, words
from vocl.config.compose import compose, project_of
from vocl.config.grammar import key_of
from vocl.config.run_config import RunConfig
from vocl.errors import UserError
from vocl.files import user_path
from vocl.rundir.results_root import ResultsRoot
from vocl.stop import EXIT_STOPPED, Stopped, stop_on_signal

if TYPE_CHECKING:
    from vocl.reference.score import Scored

USAGE = "usage: vocl verify METHOD/DATASET FILE [overrides]"
OUTSIDE = 1  # exit code
OWN = ("runtime", "cluster", "seed")  # keys that change no score


@verb("verify")
@words(
    "[METHOD/DATASET FILE] [OVERRIDES...]",
    "What was published, a released checkpoint, and Hydra overrides.",
    takes=defaults.RUNS,
)
def main(line: Line) -> int:
    """Score a released checkpoint beside what was published of it, and keep the finding.

    Scores FILE on the validation split under the method's protocol. Returns 0 when each score is within
    its tolerance of the published one, else 1. Without METHOD/DATASET: writes and prints the table of all.
    """
    words, overrides = line.names, list(line.overrides)
    project = project_of(overrides)
    if not words:
        print(reproduced.write(ResultsRoot.of(compose(overrides)["runtime"]["root"]), project), end="")
        return 0
    if len(words) != 2:
        known = ", ".join(c.name for own in claims(project).values() for c in own.values())
        raise UserError(f"{USAGE}; METHOD/DATASET is one of {known}")
    claim = claimed(words[0], project)
    try:
        return _verify(claim, user_path(words[1]), overrides)
    except Stopped as stopped:
        print(f"stopped at {stopped}; the same command begins it again", file=sys.stderr)
        return EXIT_STOPPED
    except OSError as error:
        raise UserError(f"{error.filename or words[1]}: {error.strerror or error}") from None


def _verify(claim: Claim, source: Path, overrides: list[str]) -> int:
    method = _importer(claim, project_of(overrides))
    if not source.is_file():
        raise UserError(f"{source}: no such checkpoint file")
    config = _config(claim, overrides)
    from vocl.reference.score import score_checkpoint

    with stop_on_signal() as stop:

        def advance() -> None:
            if stop:
                raise Stopped("the evaluation")

        scored = score_checkpoint(method, source, config, advance)
    findings = claim.compare(scored.metrics)
    root = _root(config)
    record = _record(claim, source, overrides, config, scored, findings)
    reproduced.keep(root, claim, record)
    reproduced.write(root, project_of(overrides))
    _show(claim, record, root)
    return 0 if record["within"] else OUTSIDE


def _importer(claim: Claim, project: str | None) -> Any:
    from vocl.reference.importer import find_method, methods

    known = methods(project)
    if claim.importer not in known:
        why = claim.no_importer or (
            f"there is no map of the names in its checkpoints: vocl/reference/{claim.importer}.py, or "
            f"reference/{claim.importer}.py in a package of project=PATH"
        )
        raise UserError(f"verify {claim.name}: {why}; choose a method from {', '.join(known)}")
    return find_method(claim.importer, project)


def _config(claim: Claim, overrides: Sequence[str]) -> RunConfig:
    """The experiment METHOD/DATASET with every evaluation that knows several under the claim's protocol."""
    from vocl.config.compose import composed

    for override in overrides:
        key = key_of(override)
        if key == "experiment" or key.startswith("eval/protocol"):
            raise UserError(f"{override}: METHOD/DATASET decides this; leave it out")
    asked = [f"experiment={claim.name}", *overrides]
    evaluations = compose(asked)["eval"]
    if not evaluations:
        raise UserError(f"verify {claim.name}: eval: no evaluation is chosen")
    scored = [name for name, node in evaluations.items() if "protocol" in node]
    protocols = [f"eval/protocol@eval.{name}.protocol={claim.protocol}" for name in scored]
    return composed([*asked, *protocols])


def _record(
    claim: Claim,
    source: Path,
    overrides: Sequence[str],
    config: RunConfig,
    scored: Scored,
    findings: Findings,
) -> dict[str, Any]:
    from vocl.rundir.provenance import code_digest, commit

    settings = sorted(o for o in overrides if key_of(o).split(".")[0] not in OWN)
    return {
        "method": claim.method,
        "dataset": claim.dataset,
        "within": all(found["within"] for found in findings.values()),
        "metrics": findings,
        "settings": settings,
        "protocol": claim.protocol,
        "num_videos": next(iter(scored.entries.values()))["num_videos"],
        "run": scored.run.path.relative_to(_root(config).path).as_posix(),
        "file": source.name,
        "sha256": scored.sha256,
        "code": code_digest(config.project),
        "commit": commit(),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "device": scored.device,
        "note": claim.note,
    }


def _show(claim: Claim, record: dict[str, Any], root: ResultsRoot) -> None:
    print(
        f"{claim.name}: {record['file']} on {record['num_videos']} videos, "
        f"protocol {record['protocol']}, fractions x 100"
    )
    width = max(map(len, record["metrics"]))
    for metric, found in record["metrics"].items():
        ours = "--" if found["ours"] is None else f"{100 * found['ours']:.2f}"
        stated = f"{100 * found['published']:.1f} ± {100 * found['tolerance']:.1f}"
        verdict = "within" if found["within"] else "outside"
        print(f"{metric:{width}}  ours {ours:>6}  published {stated}  {verdict}")
    if claim.note:
        print(f"note: {claim.note}")
    if record["settings"]:
        print(f"not the paper's settings: {' '.join(record['settings'])}")
    print(f"{root.path / record['run']}, {reproduced.place(root) / 'table.md'}")


def _root(config: RunConfig) -> ResultsRoot:
    return ResultsRoot.of(config.runtime.root)
