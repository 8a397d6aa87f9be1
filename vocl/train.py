"""The door: `python -m vocl.train [group=choice ...] [key=value ...]` trains one run.

Options: `--cfg job` prints the composed config and stops; `--config FILE` runs a saved one; `-m`
takes comma lists and hands all of their runs over, as `vocl submit` does.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from vocl import config as configs
from vocl import result
from vocl.claim import CLAIM
from vocl.config import Config
from vocl.errors import EXIT_USER, RunIsTaken, UserError
from vocl.files import user_path
from vocl.stop import EXIT_STOPPED, EXIT_TAKEN, StopFlag, stop_on_signal


def main(arguments: Sequence[str] | None = None) -> int:
    """Compose, check and run; returns the exit code (see `vocl.run.run`)."""
    try:
        with stop_on_signal() as stop:  # from the start: composing and importing take seconds
            return _main(_parse(list(sys.argv[1:] if arguments is None else arguments)), stop)
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_TAKEN if isinstance(error, RunIsTaken) and CLAIM in os.environ else EXIT_USER


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as everything else here does."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}; see --help")


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = _Parser(prog="python -m vocl.train", description=__doc__)
    parser.add_argument("--cfg", choices=["job"], help="print the composed config and stop")
    parser.add_argument("--config", type=Path, help="run this saved config.yaml instead of composing one")
    parser.add_argument("-m", "--multirun", action="store_true", help="several runs: seed=0,1,2")
    parser.add_argument(
        "overrides", nargs="*", help="Hydra overrides, e.g. experiment=slotcontrast/movi_c seed=1"
    )
    return parser.parse_args(arguments)


def _main(options: argparse.Namespace, stop: StopFlag) -> int:
    if options.config and options.overrides:
        raise UserError(
            f"{options.overrides[0]}: a saved config takes no overrides; leave out --config or this"
        )
    if options.multirun:
        return _multirun(options.overrides)
    config = _saved(options.config) if options.config else composed(options.overrides)
    if options.cfg:
        import yaml

        print(yaml.safe_dump(config, sort_keys=False), end="")
        return 0
    if config["cluster"]["kind"] != "here":
        from launch.submit import submit_one

        return EXIT_STOPPED if stop else submit_one(config)
    _refuse_taken(config)
    from vocl.run import run

    return run(config, stop)


def _multirun(overrides: list[str]) -> int:
    """Hand all runs over; a sweeper other than Hydra's own plain one steers through our launcher."""
    if not any(override.startswith("hydra/sweeper=") for override in overrides):
        from launch.submit import main as submit

        return submit(overrides)
    from launch.sweep import main as sweep

    return sweep(overrides)


def _refuse_taken(config: Config) -> None:
    """Say who works on the run of `config`, if anybody but the job that this process is does."""
    folder = user_path(config["runtime"]["root"]) / "runs" / configs.run_id(config)
    if CLAIM in os.environ or not (folder / "jobs").is_dir() or result.is_done(folder):
        return
    from launch.states import refuse_taken

    refuse_taken(folder)


def composed(overrides: Sequence[str]) -> Config:
    """The checked config of `overrides`."""
    from vocl.compose import checked, compose

    return checked(compose(overrides), overrides)


def _saved(path: Path) -> Config:
    from vocl.load import read_config

    if not path.is_file():
        raise UserError(f"--config {path}: no such file")
    return read_config(path)


if __name__ == "__main__":
    sys.exit(main())
