"""The door: `python -m vocl.train [group=choice ...] [key=value ...]` trains one run.

Options: `--cfg job` prints the composed config and stops (with `-m`: that of every run); `--config FILE`
runs a saved one; `-m` takes comma lists and hands all of their runs over, as `vocl submit` does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from vocl.command_line import defaults
from vocl.command_line.verb import GROUPS, Line, option, verb, words
from vocl.commands import launching
from vocl.config.run_config import RunConfig
from vocl.errors import UserError
from vocl.rundir import saved_config
from vocl.rundir.lock import CLAIM
from vocl.rundir.of_config import run_dir_of
from vocl.rundir.run_dir import CONFIG
from vocl.stop import EXIT_STOPPED, StopFlag, stop_on_signal

PROGRAM = "python -m vocl.train"
INSTEAD = {
    ("-p", "--package"): "--cfg job prints the whole config",
    ("-cd", "--config-dir"): "project=PATH adds the folder PATH/conf",
    ("-cp", "--config-path"): "project=PATH adds the folder PATH/conf",
    ("-cn", "--config-name"): "choose an experiment=NAME, or run a saved config by --config FILE",
    ("-r", "--run"): "leave it out",
    ("-i", "--info"): "vocl plan says what would run",
    ("--hydra-help",): "see --help",
    ("-sc", "--shell-completion"): "_VOCL_COMPLETE=bash_source vocl prints one for vocl train",
    ("--experimental-rerun",): "run a saved config by --config FILE",
}


def _refuse(context: click.Context, option: click.Parameter, value: str | None) -> None:
    """Say what to use instead of an option of Hydra's that we lack."""
    if value is not None and not context.resilient_parsing:
        flags = tuple(option.opts)
        raise UserError(f"{context.command_path}: {', '.join(flags)}: not here; {INSTEAD[flags]}")


def _without_those_of_hydra(function: Callable[..., int]) -> Callable[..., int]:
    for flags in INSTEAD:
        takes = {"is_flag": False, "flag_value": "", "hidden": True, "expose_value": False}
        function = option(*flags, callback=_refuse, **takes)(function)
    return function


@verb("train", PROGRAM)
@words("[OVERRIDES...]", "Hydra overrides, e.g. experiment=slotcontrast/movi_c seed=1.", offers=(GROUPS,))
@option("-c", "--cfg", type=click.Choice(["job"]), help="Print the composed config and stop.")
@option("--resolve", is_flag=True, help="With --cfg, where it is so anyhow.")
@option("--config", "saved", type=click.Path(), help="Run this saved config instead of composing one.")
@option("-m", "--multirun", is_flag=True, help="Hand over several runs, as vocl submit does: seed=0,1,2.")
@_without_those_of_hydra
def main(line: Line, cfg: str | None, resolve: bool, saved: str | None, multirun: bool) -> int:
    """Train one run, in this process unless a cluster is chosen.

    Returns 0, 1 when it crashed or an evaluation failed, 75 when stopped: the same command goes on.
    """
    with stop_on_signal() as stop:  # from the start: composing and importing take seconds
        if saved is not None and line.typed:
            raise UserError(f"{line.typed[0]}: a saved config takes no overrides; leave out --config or this")
        if saved is not None and multirun:
            raise UserError("--config: a saved config is one run; leave out -m")
        if saved is not None:
            return _one(_saved(Path(saved)), bool(cfg), stop)
        taken = defaults.PLACED if multirun else defaults.RUNS
        asked = (*defaults.beside(line.typed, taken), *line.typed)
        return _multirun(asked, bool(cfg)) if multirun else _one(_composed(asked), bool(cfg), stop)


def _one(config: RunConfig, shows: bool, stop: StopFlag) -> int:
    if shows:
        _print([config])
        return 0
    if config.cluster.kind != "here":
        return EXIT_STOPPED if stop else launching.module("commands.submit").submit_one(config)
    _refuse_taken(config)
    return train_here(config, stop)


def train_here(config: RunConfig, stop: StopFlag) -> int:
    """Train the run of `config` in this process, with pictures for a tracker; its exit code."""
    from vocl.run import run

    pictures: dict[str, Any] = {}
    if config.runtime.tracking != "none":
        from vocl.commands.pictures import tracked

        pictures["draw"] = tracked.draw
    if config.runtime.probe_every:
        from vocl.commands.pictures import probed

        pictures["sketch"] = probed.draw
    return run(config, stop, **pictures)


def _multirun(overrides: Sequence[str], shows: bool) -> int:
    """Hand all runs over; a sweeper other than Hydra's own plain one steers through our launcher."""
    steered = any(override.startswith("hydra/sweeper=") for override in overrides)
    if shows and steered:
        raise UserError("--cfg: a sweeper chooses its runs as it goes; leave out hydra/sweeper or --cfg")
    if shows:
        _print([spec.config for spec in launching.module("selection.plan").select(overrides).specs])
        return 0
    if not steered:
        return launching.module("commands.submit").hand_over(overrides)
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
