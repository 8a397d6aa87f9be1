"""The cell of a run whose config is on disk: that of the run it starts from is read there too."""

from __future__ import annotations

from vocl.config import identity
from vocl.config.migrate import migrate
from vocl.config.schema import Config
from vocl.config.yaml_text import read_saved
from vocl.files import user_path
from vocl.rundir.find import find_run


def cell_of(config: Config) -> str:
    """`cell_id` of a config, its content. A source that cannot be read (any more) counts as itself alone, so
    the seeds of such a row are cells of their own.
    """
    warm = config["warm_start"]
    return identity.cell_id(config, _source(warm["run"], config["runtime"]["root"]) if warm else None)


def _source(run: str, root: str) -> str | None:
    try:
        path = find_run(run, user_path(root)) / "config.yaml"
        return cell_of(migrate(read_saved(path)))
    except (ValueError, OSError, KeyError, TypeError, AttributeError):
        return None
