"""The door: `python -m vocl.train [group=choice ...] [key=value ...]` trains one run.

Options: `--cfg job` prints the composed config and stops (with `-m`: that of every run); `--config FILE`
runs a saved one; `-m` takes comma lists and hands all of their runs over, as `vocl submit` does.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from vocl.commands import launching
from vocl.config.run_config import RunConfig
from vocl.errors import EXIT_USER, RunIsTaken, UserError, say_everything
from vocl.rundir import saved_config
from vocl.rundir.lock import CLAIM
from vocl.rundir.of_config import run_dir_of
from vocl.rundir.run_dir import CONFIG
from vocl.stop import EXIT_STOPPED, EXIT_TAKEN, StopFlag, stop_on_signal
from vocl.tracking import log


def main(arguments: Sequence[str] | None = None) -> int:
    """Compose, check and run; returns the exit code (see `vocl.run.run`)."""
    say_everything()
    log.configure()
    try:
        with stop_on_signal() as stop:  # from the start: composing and importing take seconds
            return _main(_parse(list(sys.argv[1:] if arguments is None else arguments)), stop)
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_TAKEN if isinstance(error, RunIsTaken) and CLAIM in os.environ else EXIT_USER


INSTEAD = {
    ("-p", "--package"): "--cfg job prints the whole config",
    ("-cd", "--config-dir"): "project=PATH adds the folder PATH/conf",
    ("-cp", "--config-path"): "project=PATH adds the folder PATH/conf",
    ("-cn", "--config-name"): "choose an experiment=NAME, or run a saved config by --config FILE",
    ("-r", "--run"): "leave it out",
    ("-i", "--info"): "vocl plan says what would run",
    ("--hydra-help",): "see --help",
    ("-sc", "--shell-completion"): "there is none",
    ("--experimental-rerun",): "run a saved config by --config FILE",
}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as everything else here does."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}; see --help")


class _Refuse(argparse.Action):
    """An option of Hydra's that we lack: says what to use instead."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> NoReturn:
        raise UserError(f"python -m vocl.train: {option}: not here; {self.const}")


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = _Parser(prog="python -m vocl.train", description=__doc__)
    parser.add_argument("-c", "--cfg", choices=["job"], help="print the composed config and stop")
    parser.add_argument("--resolve", action="store_true", help="with --cfg, where it is so anyhow")
    parser.add_argument("--config", type=Path, help="run this saved config instead of composing one")
    parser.add_argument("-m", "--multirun", action="store_true", help="several runs: seed=0,1,2")
    parser.add_argument(
        "overrides", nargs="*", help="Hydra overrides, e.g. experiment=slotcontrast/movi_c seed=1"
    )
    for flags, instead in INSTEAD.items():
        parser.add_argument(*flags, action=_Refuse, nargs="?", const=instead, help=argparse.SUPPRESS)
    return parser.parse_intermixed_args(arguments)


def _main(options: argparse.Namespace, stop: StopFlag) -> int:
    if options.config and options.overrides:
        raise UserError(
            f"{options.overrides[0]}: a saved config takes no overrides; leave out --config or this"
        )
    if options.multirun:
        return _multirun(options)
    config = _saved(options.config) if options.config else _composed(options.overrides)
    if options.cfg:
        _print([config])
        return 0
    if config.cluster.kind != "here":
        return EXIT_STOPPED if stop else launching.module("commands.submit").submit_one(config)
    _refuse_taken(config)
    from vocl.run import run

    return run(config, stop)


def _multirun(options: argparse.Namespace) -> int:
    """Hand all runs over; a sweeper other than Hydra's own plain one steers through our launcher."""
    overrides = options.overrides
    if options.config:
        raise UserError("--config: a saved config is one run; leave out -m")
    steered = any(override.startswith("hydra/sweeper=") for override in overrides)
    if options.cfg and steered:
        raise UserError("--cfg: a sweeper chooses its runs as it goes; leave out hydra/sweeper or --cfg")
    if options.cfg:
        _print([spec.config for spec in launching.module("selection.plan").select(overrides).specs])
        return 0
    if not steered:
        return launching.module("commands.submit").main(overrides)
    return launching.module("submission.sweep").main(overrides)


def _print(configs: list[RunConfig]) -> None:
    """As YAML, a document for each."""
    import yaml

    print(yaml.safe_dump_all([config.content for config in configs], sort_keys=False), end="")


def _refuse_taken(config: RunConfig) -> None:
    """Say who works on the run of `config`, if anybody but the job that this process is does."""
    run = run_dir_of(config)
    if CLAIM in os.environ or not run.jobs.is_dir() or run.is_done():
        return
    launching.module("run_states.states").refuse_taken(run)


def _composed(overrides: Sequence[str]) -> RunConfig:
    from vocl.config.compose import composed

    return composed(overrides)


def _saved(path: Path) -> RunConfig:
    if not path.is_file():
        raise UserError(f"--config {path}: no such file")
    return saved_config.read(path / CONFIG if path.is_dir() else path)


if __name__ == "__main__":
    sys.exit(main())
