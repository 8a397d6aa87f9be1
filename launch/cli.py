"""The `vocl` command: `vocl VERB [arguments]`. Each verb's module is imported when it is used."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vocl import __version__
from vocl.command_line.exit_codes import exit_code
from vocl.errors import UserError, near

if TYPE_CHECKING:  # the list of verbs is printed without click, whose import takes as long
    from vocl.command_line.verb import Verb, VerbGroup

COMPLETE = "_VOCL_COMPLETE"  # the variable by which a shell asks for completions

VERBS = {  # verb: (module:name of a `Verb`, what it does)
    "train": ("vocl.train:main", "train one run in this process, as python -m vocl.train does: [overrides]"),
    "plan": (
        "launch.commands.plan:main",
        "check the runs of SELECTOR and list them with their state; changes nothing",
    ),
    "submit": (
        "launch.commands.submit:main",
        "train the runs of SELECTOR that are absent or were interrupted: cluster=local [--first]",
    ),
    "search": (
        "launch.commands.search:main",
        "try settings of conf/search/NAME, the good ones to their end: NAME [--watch] [--table]",
    ),
    "cache": (
        "launch.commands.cache:main",
        "compute the features that the runs of SELECTOR would keep, before they start",
    ),
    "tend": (
        "launch.commands.tend:main",
        "see how lost jobs ended, queue again what deserves it: SELECTOR [--watch]",
    ),
    "retry": (
        "launch.commands.retry:main",
        "failed or interrupted runs of SELECTOR again, same code: [--exclude-node NODE] [--new-code]",
    ),
    "fill": ("launch.commands.fill:main", "whatever SELECTOR lacks: runs and evaluations"),
    "cancel": ("launch.commands.cancel:main", "end the jobs of SELECTOR, or of run ids: [--gone]"),
    "gc": ("launch.commands.gc:main", "list what nothing needs any more; --yes removes it"),
    "export": (
        "launch.commands.sharing.export:main",
        "a folder with weights, config, scores, code and a card: RUN OUT",
    ),
    "publish": (
        "launch.commands.sharing.publish:main",
        "push such a folder to the Hugging Face Hub: RUN OWNER/NAME [--dry-run] [--private]",
    ),
    "pull": (
        "launch.commands.sharing.pull:main",
        "merge another results folder, by run id: [USER@]HOST:PATH, or PATH",
    ),
    "status": (
        "launch.commands.status:main",
        "what has become of runs: [SELECTOR or run ids] [--watch]; of all without a selector",
    ),
    "why": (
        "launch.commands.why:main",
        "why runs failed or stopped, by cause, with the log's last lines: [SELECTOR]",
    ),
    "ls": (
        "launch.commands.ls:main",
        "runs on disk, also by what their configs say: [NAME] [model.num_slots=7 ...]",
    ),
    "tag": (
        "launch.commands.tag:main",
        "tags and notes of runs, for vocl ls tag=NAME: RUN... TAG [--remove], or RUN... --note TEXT",
    ),
    "logs": ("launch.commands.logs:main", "the end of what a run printed: RUN [-n LINES] [-f]"),
    "diff": ("launch.commands.diff:main", "how two runs differ in config, code and scores: A B"),
    "table": (
        "launch.commands.table:main",
        "scores of ABLATION as table.md, .csv, .tex: [table.digits=2 ...] [--pictures]",
    ),
    "report": (
        "launch.commands.report:main",
        "ABLATION as one page: table, curves, videos, slots, states and costs of its runs: [--videos N]",
    ),
    "eval": (
        "vocl.commands.verbs:evaluate",
        "score a trained run again, otherwise or on other data: RUN [eval=[...]] [dataset=...] [--again]",
    ),
    "data": (
        "vocl.commands.data:main",
        "published datasets as stores: prepare NAME SOURCE OUT, verify STORE, info STORE, preview STORE",
    ),
    "rescore": (
        "vocl.commands.verbs:rescore",
        "score kept masks of a run by another protocol, without its model: RUN protocol=NAME",
    ),
    "score": (
        "vocl.commands.verbs:score",
        "score the masks of any method: TRUTH LABELS protocol=NAME [out=FILE]; folders of PNG, or JSON",
    ),
    "predict": (
        "vocl.commands.verbs:predict",
        "segment a video: video=FILE checkpoint=RUN [fps= max_frames= fit=]",
    ),
    "show": (
        "vocl.commands.verbs:show",
        "masks of runs on held-out videos, beside the truth: RUN... [--worst N --by METRIC] [out=PATH]",
    ),
    "import": ("vocl.commands.verbs:import_", "official weights to a run: METHOD FILE OUT experiment=..."),
    "verify": (
        "launch.commands.verify:main",
        "official weights scored beside the published scores: METHOD/DATASET FILE; alone: the table of all",
    ),
    "fetch": (
        "vocl.commands.verbs:fetch",
        "download backbone weights, for machines without network: NAME or experiment=...",
    ),
    "sync": (
        "launch.commands.sharing.sync:main",
        "upload to W&B, or show in trackio, what it lacks: RUN..., --all, or --table NAME",
    ),
    "replay": (
        "vocl.commands.verbs:replay",
        "run steps of a run again and name the first module that fails: RUN steps=A:B",
    ),
}
USAGE = """usage: vocl VERB [arguments]

{verbs}

SELECTOR: an ablation (demo, or ablation=demo) and overrides for all of its runs, or Hydra overrides
alone (experiment=slotcontrast/synthetic seed=0,1,2). RUN: a run id, its beginning, or a folder.
vocl VERB --help lists its options, vocl --version says which vocl this is."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit code: 0, 1 crashed, 2 the user's mistake, 75 stopped."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    return exit_code(lambda: _complete() if os.environ.get(COMPLETE) else _run(words))


def _run(words: Sequence[str]) -> int:
    """What `words` ask for."""
    if not words or words[0] in ("-h", "--help", "help"):
        verbs = "\n".join(f"  {verb:8} {text}" for verb, (_, text) in VERBS.items())
        print(USAGE.format(verbs=verbs), flush=True)
        return 0
    if words[0] == "--version":
        print(f"vocl {__version__}")
        return 0
    verb, *rest = words
    if verb not in VERBS:
        choices = ", ".join(VERBS)
        raise UserError(f"vocl {verb}: no such verb, choose from {choices}{near(verb, VERBS)}")
    return load(verb)(rest)


def load(verb: str) -> Verb | VerbGroup:
    """Import a verb."""
    module, _, name = VERBS[verb][0].partition(":")
    found: Verb | VerbGroup = getattr(importlib.import_module(module), name)
    return found


def _complete() -> int:
    """Print what a shell asks for."""
    from vocl.command_line.completion import answer

    texts = {verb: text for verb, (_, text) in VERBS.items()}
    return answer(texts, lambda verb: load(verb).command, COMPLETE)


if __name__ == "__main__":
    sys.exit(main())
