"""The `vocl` command: `vocl VERB [arguments]`. Each verb's module is imported when it is used."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from vocl import __version__
from vocl.errors import EXIT_USER, UserError, say_everything
from vocl.stop import EXIT_STOPPED
from vocl.tracking import log

VERBS = {  # verb: (module whose main(arguments) it is, what it does)
    "train": ("vocl.train", "train one run in this process, as python -m vocl.train does: [overrides]"),
    "plan": (
        "launch.commands.plan",
        "check the runs of SELECTOR and list them with their state; changes nothing",
    ),
    "submit": (
        "launch.commands.submit",
        "train the runs of SELECTOR that are absent or were interrupted: cluster=local cluster.slots=N",
    ),
    "cache": (
        "launch.commands.cache",
        "compute the features that the runs of SELECTOR would keep, before they start",
    ),
    "tend": (
        "launch.commands.tend",
        "see how lost jobs ended, queue again what deserves it: SELECTOR [--watch]",
    ),
    "retry": (
        "launch.commands.retry",
        "failed or interrupted runs of SELECTOR again, same code: [--exclude-node NODE] [--new-code]",
    ),
    "fill": ("launch.commands.fill", "whatever SELECTOR lacks: runs and evaluations"),
    "cancel": ("launch.commands.cancel", "end the jobs of SELECTOR, or of run ids: [--gone]"),
    "gc": ("launch.commands.gc", "list what nothing needs any more; --yes removes it"),
    "export": ("launch.commands.export", "a folder with weights, config, scores, code and a card: RUN OUT"),
    "pull": ("launch.commands.pull", "merge another results folder, by run id: [USER@]HOST:PATH, or PATH"),
    "status": (
        "launch.commands.status",
        "what has become of runs: [SELECTOR or run ids] [--watch]; of all without a selector",
    ),
    "why": (
        "launch.commands.why",
        "why runs failed or stopped, by cause, with the log's last lines: [SELECTOR]",
    ),
    "ls": (
        "launch.commands.ls",
        "runs on disk, also by what their configs say: [NAME] [model.num_slots=7 ...]",
    ),
    "logs": ("launch.commands.logs", "the end of what a run printed: RUN [-n LINES] [-f]"),
    "diff": ("launch.commands.diff", "how two runs differ in config, code and scores: A B"),
    "table": (
        "launch.commands.table",
        "scores of ABLATION as table.md, .csv, .tex: [table.digits=2 ...] [--pictures]",
    ),
    "eval": (
        "vocl.commands.evaluate",
        "score a trained run again, otherwise or on other data: RUN [eval=[...]] [dataset=...] [--again]",
    ),
    "predict": (
        "vocl.commands.predict",
        "segment a video: video=FILE checkpoint=RUN [fps= max_frames= fit=]",
    ),
    "show": (
        "vocl.commands.show",
        "a picture of a run's masks on a held-out video, beside the truth: RUN [out=PATH]",
    ),
    "import": ("vocl.commands.import_", "official weights to a run: METHOD FILE OUT experiment=..."),
    "verify": (
        "launch.commands.verify",
        "official weights scored beside the published scores: METHOD/DATASET FILE; alone: the table of all",
    ),
    "fetch": (
        "vocl.commands.fetch",
        "download backbone weights, for machines without network: NAME or experiment=...",
    ),
    "sync": ("launch.commands.sync", "upload to W&B what was tracked offline: RUN... or --all"),
    "replay": (
        "vocl.commands.replay",
        "run steps of a run again and name the first module that fails: RUN steps=A:B",
    ),
}
USAGE = """usage: vocl VERB [arguments]

{verbs}

SELECTOR: an ablation (demo, or ablation=demo) and overrides for all of its runs, or Hydra overrides
alone (experiment=slotcontrast/synthetic seed=0,1,2). RUN: a run id, its beginning, or a folder.
vocl VERB --help says what VERB does, vocl --version which vocl this is."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit code: 0, 1 crashed, 2 the user's mistake, 75 stopped."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    say_everything()
    log.configure()
    try:
        return _run(arguments)
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_USER
    except KeyboardInterrupt:
        return EXIT_STOPPED
    except BrokenPipeError:  # whoever read our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None:
            raise
        print(UserError(f"{error.filename}: {error.strerror or error}"), file=sys.stderr)
        return EXIT_USER


def _run(arguments: list[str]) -> int:
    """What `arguments` ask for."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(
            USAGE.format(verbs="\n".join(f"  {verb:8} {text}" for verb, (_, text) in VERBS.items())),
            flush=True,
        )
        return 0
    if arguments[0] == "--version":
        print(f"vocl {__version__}")
        return 0
    verb, *rest = arguments
    if verb not in VERBS:
        raise UserError(f"vocl {verb}: no such verb, choose from {', '.join(VERBS)}")
    if rest and rest[0] in ("-h", "--help"):
        print(f"vocl {verb}: {VERBS[verb][1]}", flush=True)
        return 0
    return importlib.import_module(VERBS[verb][0]).main(rest)


if __name__ == "__main__":
    sys.exit(main())
