"""Submissions: `<root>/ledger/<token>.json` is written before its runs are claimed, `<token>.job.json`
once the scheduler has answered. In between, and after a crash in between, the job name finds the job, on
the cluster that the entry names: several may share a results folder."""

from __future__ import annotations

import functools
import getpass
import itertools
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from types import NoneType
from typing import Any

from vocl.config.cluster import CLUSTERS, Cluster, SlurmCluster
from vocl.files import NUMBER, Kinds, is_there, record_or_none, write_json
from vocl.rundir.claims import WORD
from vocl.rundir.results_root import ResultsRoot


class By(StrEnum):
    """Who asked for a submission."""

    USER = "user"
    TEND = "tend"


NAME = "vocl-{token}"  # of the job: job ids are reused, tokens are not
ENTRY: Kinds = {
    "token": str,
    "cluster": dict,
    "elements": list,
    "snapshot": (str, NoneType),
    "user": str,
    "host": str,
    "pid": int,
    "time": NUMBER,
    "arguments": list,
    "after": (dict, NoneType),
    "sent_to": (str, NoneType),
    "by": (str, NoneType),
}


@dataclass(frozen=True)
class Submission:
    """One array of jobs (or one local pool); `elements` are the run ids of each of its jobs."""

    root: ResultsRoot
    token: str
    cluster: Cluster
    elements: list[list[str]]
    snapshot: str | None
    user: str
    host: str
    pid: int
    time: float
    arguments: list[str]
    job: str | None = None  # the scheduler's id of the array
    after: dict[str, str] = field(default_factory=dict)  # run -> the run whose weights it starts from
    sent_to: str | None = (
        None  # the SLURM that was asked (see `client.Controller`); of old entries nobody knows
    )
    by: By = By.USER

    @property
    def name(self) -> str:
        """Job name."""
        return NAME.format(token=self.token)

    @property
    def on_slurm(self) -> SlurmCluster:
        """The cluster of one that SLURM has."""
        assert isinstance(self.cluster, SlurmCluster), self
        return self.cluster

    @property
    def folder(self) -> Path:
        """For the scheduler's and submitit's files."""
        return self.root.ledger / self.token

    def index(self, run: str) -> int:
        """The element that a run is in; -1 if none."""
        return self._indices.get(run, -1)

    @functools.cached_property
    def _indices(self) -> dict[str, int]:
        return {run: index for index, element in enumerate(self.elements) for run in element}


def write(
    root: ResultsRoot,
    cluster: Cluster,
    elements: list[list[str]],
    snapshot: Path | None,
    arguments: Iterable[str],
    after: dict[str, str] | None = None,
    sent_to: str | None = None,
    by: By = By.USER,
) -> Submission:
    """A new entry, not yet sent to the scheduler."""
    import secrets  # what reads the ledger, as boards do, starts without

    content: dict[str, Any] = {
        "token": secrets.token_hex(5),
        "cluster": vars(cluster),
        "elements": elements,
        "snapshot": snapshot.name if snapshot else None,
        "user": getpass.getuser(),
        "host": os.uname().nodename,
        "pid": os.getpid(),
        "time": time.time(),
        "arguments": list(arguments),
        "after": after or {},
        "sent_to": sent_to,
        "by": by,
    }
    write_json(_path(root, content["token"]), content)
    return Submission(root=root, **content | {"cluster": cluster})


def narrow(submission: Submission, elements: list[list[str]]) -> Submission:
    """The entry with fewer elements: those that it could claim."""
    narrower = replace(submission, elements=elements)
    content = {key: getattr(narrower, key) for key in ENTRY} | {"cluster": vars(narrower.cluster)}
    write_json(_path(narrower.root, narrower.token), content)
    return narrower


def accepted(submission: Submission, job: str) -> None:
    """Record the scheduler's id."""
    write_json(submission.root.ledger / f"{submission.token}.job.json", {"job": job, "time": time.time()})


def read(root: ResultsRoot, token: str) -> Submission | None:
    """The entry `token`; None where there is none (a results folder moved without its ledger), and where
    it is damaged."""
    content = record_or_none(_path(root, token), ENTRY) if WORD.fullmatch(token) else None
    if content is None or content["token"] != token or not _is_whole(content):
        return None
    cluster = _cluster(content["cluster"])
    if cluster is None:
        return None
    # a damaged answer counts as none: the queue knows the job by its name, and `enqueue.recover` asks it
    answer = record_or_none(root.ledger / f"{token}.job.json", {"job": str}) or {"job": None}
    known: dict[str, Any] = {
        key: content.get(key) for key in ENTRY if content.get(key) is not None or key == "snapshot"
    }
    known |= {"by": _asked_by(content), "cluster": cluster}
    return Submission(root=root, job=answer["job"], **known)


def _cluster(content: dict[str, Any]) -> Cluster | None:
    """The cluster of an entry, in the keys of today; None where it is none."""
    kind = CLUSTERS.get(str(content.get("kind")))
    if kind is None:
        return None
    if content.keys() != {field.name for field in fields(kind)}:
        from vocl.config.migrate import section_of_today  # of an earlier version

        content = section_of_today("cluster", content)
    return kind(**content)


def _asked_by(content: dict[str, Any]) -> By:
    """Who asked for an entry; those of earlier versions say it in the first of their arguments."""
    with suppress(ValueError):
        return By(str(content.get("by")))
    return By.TEND if content["arguments"][:1] == [By.TEND] else By.USER


def _is_whole(content: dict[str, Any]) -> bool:
    """Whether what an entry's lists and mappings hold is what they should."""
    elements, after = content["elements"], content.get("after") or {}
    if not all(isinstance(element, list) for element in elements):
        return False
    names = [*itertools.chain(*elements), *after, *after.values()]
    names += [content["snapshot"]] if content["snapshot"] is not None else []
    if not all(isinstance(word, str) for word in (*names, *content["arguments"])):
        return False
    return all(map(WORD.fullmatch, names))


def damaged(root: ResultsRoot, token: str) -> str:
    """The name under `root` of the entry `token` where it is there and cannot be read; else ""."""
    path = _path(root, token)
    return f"{root.ledger.name}/{path.name}" if is_there(path) and read(root, token) is None else ""


def _path(root: ResultsRoot, token: str) -> Path:
    return root.ledger / f"{token}.json"
