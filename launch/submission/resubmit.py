"""Runs that were submitted once, read back from their folder and their ledger entry: nothing is composed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from launch.run_states.states import RunState
from launch.selection.plan import Spec
from launch.selection.submitted import PlacedRun
from launch.slurm import ledger
from launch.slurm.ledger import By, Submission
from launch.slurm.request import check_limit
from launch.submission.enqueue import Queued, enqueue
from vocl.config.check import check_section
from vocl.config.cluster import Cluster, LocalCluster, SlurmCluster
from vocl.config.compose import compose
from vocl.config.grammar import key_of
from vocl.config.migrate import migrate
from vocl.config.run_config import RunConfig, cluster_of, values
from vocl.config.safe_yaml import read_saved
from vocl.config.secret import refuse_secrets
from vocl.errors import UnknownKey, UserError
from vocl.rundir import claims
from vocl.rundir.causes import Cause
from vocl.rundir.claims import Claim
from vocl.rundir.of_config import cell_of
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import RunDir

AGAIN = "vocl submit writes it again"


def submission_of(root: ResultsRoot, claim: Claim | None) -> Submission | None:
    """The ledger entry of a claim; None where there is none that can be read."""
    return ledger.read(root, claim.token) if claim is not None else None


def spec_of(
    root: ResultsRoot, entry: PlacedRun, claim: Claim | None, cluster: Mapping[str, Any] | None = None
) -> Spec:
    """The run `entry` as it was frozen, for the cluster of its last submission with `cluster`'s changes.

    Raises `UserError` where its config or its ledger entry is damaged.
    """
    frozen = config_of(root.run(entry.id))
    owner = _valid(claim)
    submission = submission_of(root, owner)
    if owner is not None and "kind" not in (cluster or {}) and (name := ledger.damaged(root, owner.token)):
        raise UserError(
            f"{root.path / name}: damaged; say where: vocl retry {entry.id} --new-code cluster=NAME"
        )
    try:
        config = RunConfig.of(migrate(frozen))
        where = _merged(submission.cluster if submission else config.cluster, cluster or {})
        runtime = replace(config.runtime, root=str(root.absolute()))  # the folder may have moved since
        config = replace(config, runtime=runtime, cluster=where)
        cell, seed = cell_of(config.content), config.seed if entry.seed is None else entry.seed
    except (KeyError, TypeError, AttributeError) as error:
        path = root.run(entry.id).config_path
        raise UserError(f"{path}: damaged, {type(error).__name__}: {error}; {AGAIN}") from None
    if cluster and isinstance(config.cluster, SlurmCluster):
        check_limit(config.cluster)
    return Spec(entry.id, cell, config, entry.row, entry.column, seed, entry.after, frozen)


def _merged(cluster: Cluster, changes: Mapping[str, Any]) -> Cluster:
    """`cluster` with `changes`, or the one that they say all of; what maps options to values keeps the
    others, as in Hydra's overrides."""
    if "kind" in changes:
        return cluster_of(dict(changes))
    known = values(cluster)
    for key in sorted(changes.keys() - known.keys()):
        raise UserError(f"{UnknownKey(f'cluster.{key}', tuple(known))} (cluster.kind={cluster.kind})")
    merged: dict[str, Any] = {
        key: {**known[key], **v} if isinstance(v, Mapping) else v for key, v in changes.items()
    }
    return replace(cluster, **merged)


def config_of(run: RunDir) -> dict[str, Any]:
    """The config that was frozen for a run; `UserError` where there is none that can be read."""
    try:
        config = read_saved(run.config_path)
    except UserError as error:
        raise UserError(f"{error}; {AGAIN}") from None
    if not isinstance(config, dict) or "project" not in config:
        raise UserError(f"{run.config_path}: damaged, not the config of a run; {AGAIN}")
    return config


def code_of(root: ResultsRoot, run: str, claim: Claim | None) -> Path | None:
    """The snapshot that a run was last submitted with; None where it ran from a checkout. Raises
    `UserError` where it is gone, or nobody knows which it is."""
    owner = _valid(claim)
    submission = submission_of(root, owner)
    if owner is not None and (name := ledger.damaged(root, owner.token)):
        raise UserError(f"{root.path / name}: damaged, it says with which code {run} was submitted")
    if submission is None or submission.snapshot is None:
        return None
    folder = root.snapshots / submission.snapshot
    if not folder.is_dir():
        raise UserError(
            f"{folder}: is gone, and run {run} was submitted with it; vocl retry {run} --new-code"
        )
    return folder


def again(
    root: ResultsRoot,
    specs: Sequence[Spec],
    states: Mapping[str, RunState],
    arguments: Iterable[str],
    room: int | None = None,
    by: By = By.USER,
) -> Queued:
    """Queue runs with the snapshots that they had; those that had none get one of the present code."""
    groups: dict[Path | None, list[Spec]] = {}
    for spec in specs:
        groups.setdefault(code_of(root, spec.id, states[spec.id].claim), []).append(spec)
    whole = Queued()
    for code, group in groups.items():
        limit = {} if room is None else {"room": max(0, room - sum(map(len, whole.arrays.values())))}
        whole.add(enqueue(root, group, dict(states), arguments, code, by=by, **limit))
    return whole


def _valid(claim: Claim | None) -> Claim | None:
    """`claim`, or the newest before it whose request SLURM did not call wrong."""
    if claim is None or not _is_wrong(claim):
        return claim
    valid = [earlier for earlier in claims.history(claim.run) if not _is_wrong(earlier)]
    return valid[-1] if valid else claim


def _is_wrong(claim: Claim) -> bool:
    return (claim.end or {}).get("cause") is Cause.REJECTED


def asked_of_cluster(arguments: Sequence[str]) -> dict[str, Any]:
    """What overrides say of the cluster: all keys with cluster=NAME, else those that are named. Raises
    `UserError` where they hold a secret, or what cannot be asked for."""
    asked = {key for key in map(key_of, arguments) if key.partition(".")[0] == "cluster"}
    of_slurm = asked - {"cluster", *(f"cluster.{field.name}" for field in fields(LocalCluster))}
    base = [] if "cluster" in asked else ["cluster=slurm" if of_slurm else "cluster=here"]
    cluster, keys = _section("cluster", arguments, base)
    refuse_secrets({"cluster": cluster})
    return cluster if "" in keys else {key: cluster[key] for key in keys}


def asked_of_runtime(arguments: Sequence[str]) -> dict[str, Any]:
    """What overrides say of how a run executes, beside where; else as `asked_of_cluster`."""
    runtime, keys = _section("runtime", [a for a in arguments if not a.startswith("runtime.root=")])
    refuse_secrets({"runtime": runtime})
    return {key: runtime[key] for key in keys}


def _section(
    name: str, arguments: Sequence[str], base: Sequence[str] = ()
) -> tuple[dict[str, Any], list[str]]:
    """A section as composed of `base` and the overrides that are about it, and which of its keys these name
    ("": it)."""
    paths = {a: key_of(a) for a in arguments}
    overrides = [a for a, path in paths.items() if path == name or path.startswith(f"{name}.")]
    for removed in (o for o in overrides if o.startswith("~")):
        raise UserError(f"{removed}: what a run was submitted with is not removed but replaced: key=value")
    if not overrides:
        return {}, []
    section = check_section(name, compose([*base, *overrides])[name])
    return section, [paths[o].removeprefix(name).removeprefix(".").partition(".")[0] for o in overrides]
