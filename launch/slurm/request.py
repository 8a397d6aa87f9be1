"""What no SLURM could do: it is refused before anything is written or queued."""

from __future__ import annotations

import re
from dataclasses import replace

from vocl.config.cluster import SlurmCluster
from vocl.config.run_config import RunConfig
from vocl.errors import UserError
from vocl.files import user_path

# In the folder of a submission these are read as more than a name: patterns of output files, by SLURM and
# in part by submitit, and SLURM takes them escaped (%%) in some places only; a backslash, after which SLURM
# reads no pattern at all; a line's end, by the script.
UNFIT = re.compile(r"%\d*[A-Za-z%]|\\|[\x00-\x1f\x7f]")


def check_request(config: RunConfig) -> None:
    """Raise `UserError` where the runs of `config` go to SLURM and could not run as they ask for it."""
    if not isinstance(config.cluster, SlurmCluster):
        return
    check_limit(config.cluster)
    root = config.runtime.root
    if unfit := UNFIT.search(str(user_path(root).absolute())):
        raise UserError(
            f"runtime.root={root}: SLURM cannot write in a folder with {unfit[0]!r} in its path; rename it"
        )


def check_limit(cluster: SlurmCluster) -> None:
    """Raise `UserError` where a job would be signalled to stop before it has begun."""
    minutes, signal_s = cluster.time_min, cluster.signal_s
    limit_s = 60 * minutes
    if signal_s >= limit_s:
        raise UserError(
            f"cluster.signal_s={signal_s}: a job of cluster.time_min={minutes} ({limit_s} s) would be "
            f"told to leave before it has begun; choose signal_s below {limit_s}, or a longer time_min"
        )


def with_paths(cluster: SlurmCluster) -> SlurmCluster:
    """`cluster` with its env_file where it lies, seen from any folder: a job starts in another one."""
    name = cluster.env_file
    return replace(cluster, env_file=str(user_path(name).absolute())) if name else cluster
