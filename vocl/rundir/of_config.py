"""What follows from a config and a results folder: where its run lies, and of which cell it is."""

from __future__ import annotations

from vocl.config import identity
from vocl.config.run_config import RunConfig
from vocl.config.schema import Config
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import RunDir


def run_dir_of(config: RunConfig) -> RunDir:
    """Where the run of `config` lies: <runtime.root>/runs/<run_id>."""
    return ResultsRoot.of(config.runtime.root).run(config.run_id)


def cell_of(config: Config) -> str:
    """`cell_id` of a config, its content; that of the run it starts from is read from its folder. A source
    that cannot be read (any more) counts as itself alone, so the seeds of such a row are cells of their own.
    """
    warm = config["warm_start"]
    return identity.cell_id(config, _source(warm["run"], config["runtime"]["root"]) if warm else None)


def _source(run: str, root: str) -> str | None:
    try:
        return cell_of(ResultsRoot.of(root).find(run).config_unchecked())
    except (ValueError, OSError, KeyError, TypeError, AttributeError):
        return None
