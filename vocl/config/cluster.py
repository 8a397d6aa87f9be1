"""The section `cluster` of a config: what it takes, by its kind. Boards read it in each submission's record,
so it imports next to nothing; its numbers stand in `conf/`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

if TYPE_CHECKING:
    from annotated_types import Ge, Gt


@dataclass(frozen=True, kw_only=True)
class LocalCluster:
    """Runs on this machine: `here` in this process, `local` in `slots` child processes."""

    kind: Literal["here", "local"]
    slots: Annotated[int, Ge(1)]
    wait: bool  # block until all runs have ended; on this machine that is so anyhow


@dataclass(frozen=True, kw_only=True)
class SlurmCluster:
    """Runs in jobs of a SLURM cluster."""

    kind: Literal["slurm"]
    wait: bool  # block until all runs have ended
    account: str | None
    partition: str | None
    qos: str | None
    constraint: str | None
    exclude: str | None  # nodes
    gres: str | None  # generic resources by name; gpus is the short way
    nodes: Annotated[int, Ge(1)]
    tasks: Annotated[int, Ge(1)]  # processes of a run on each node, one rank each
    gpus: Annotated[int, Ge(0)]  # on each node
    gpu_mem_gb: Annotated[float, Gt(0)] | None  # of one GPU, 10^9 bytes; `vocl plan --memory` warns beyond it
    cpus: Annotated[int, Ge(1)]  # per task
    mem_gb: Annotated[float, Gt(0)] | None
    time_min: Annotated[int, Ge(1)]  # limit of one job; longer runs chain
    signal_s: Annotated[int, Ge(1)]  # before the limit a run is told to save and leave
    max_requeues: Annotated[int, Ge(0)]  # of one job, at its limit
    max_resubmits: Annotated[int, Ge(0)]  # of one run, by `vocl tend`
    mem_factor: Annotated[float, Ge(1)]  # more memory for a run that ran out of it, by `vocl tend`
    runs_per_job: Annotated[int, Ge(1)]  # runs that share an allocation
    max_running: Annotated[int, Ge(1)] | None  # jobs of one submission at a time
    max_jobs: Annotated[int, Ge(1)] | None  # jobs of yours in the queue; the rest waits for `vocl tend`
    setup: list[str]  # shell lines before the run, e.g. module load cuda
    container: str | None  # command that starts Python in a container, e.g. apptainer exec --nv X.sif
    python: str | None  # interpreter on the nodes; null: this one
    env_file: str | None  # KEY=value lines read on the node; for secrets, so nobody else may read it
    export: list[str]  # variables of the submitting shell that jobs see
    sbatch: dict[str, str]  # further options of sbatch, as they are


Cluster = LocalCluster | SlurmCluster
CLUSTERS: dict[str, type[Cluster]] = {"here": LocalCluster, "local": LocalCluster, "slurm": SlurmCluster}
