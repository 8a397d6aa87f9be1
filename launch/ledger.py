"""Submissions: `<root>/ledger/<token>.json` is written before its runs are claimed, `<token>.job.json`
once the scheduler has answered. In between, and after a crash in between, the job name finds the job."""

from __future__ import annotations

import functools
import getpass
import json
import os
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vocl.files import write_json

NAME = "vocl-{token}"  # of the job: job ids are reused, tokens are not


@dataclass(frozen=True)
class Submission:
    """One array of jobs (or one local pool); `elements` are the run ids of each of its jobs."""

    root: Path
    token: str
    cluster: dict[str, Any]
    elements: list[list[str]]
    snapshot: str | None
    user: str
    host: str
    pid: int
    time: float
    arguments: list[str]
    job: str | None = None  # the scheduler's id of the array
    after: dict[str, str] = field(default_factory=dict)  # run -> the run whose weights it starts from

    @property
    def name(self) -> str:
        """Job name."""
        return NAME.format(token=self.token)

    @property
    def folder(self) -> Path:
        """For the scheduler's and submitit's files."""
        return self.root / "ledger" / self.token

    def index(self, run: str) -> int:
        """The element that a run is in; -1 if none."""
        return self._indices.get(run, -1)

    @functools.cached_property
    def _indices(self) -> dict[str, int]:
        return {run: index for index, element in enumerate(self.elements) for run in element}


def write(
    root: Path,
    cluster: dict[str, Any],
    elements: list[list[str]],
    snapshot: Path | None,
    arguments: Iterable[str],
    after: dict[str, str] | None = None,
) -> Submission:
    """A new entry, not yet sent to the scheduler."""
    content: dict[str, Any] = {
        "token": secrets.token_hex(5),
        "cluster": cluster,
        "elements": elements,
        "snapshot": snapshot.name if snapshot else None,
        "user": getpass.getuser(),
        "host": os.uname().nodename,
        "pid": os.getpid(),
        "time": time.time(),
        "arguments": list(arguments),
        "after": after or {},
    }
    write_json(root / "ledger" / f"{content['token']}.json", content)
    return Submission(root=root, **content)


def narrow(submission: Submission, elements: list[list[str]]) -> Submission:
    """The entry with fewer elements: those that it could claim."""
    path = submission.root / "ledger" / f"{submission.token}.json"
    write_json(path, json.loads(path.read_text()) | {"elements": elements})
    return replace(submission, elements=elements)


def accepted(submission: Submission, job: str) -> None:
    """Record the scheduler's id."""
    write_json(submission.root / "ledger" / f"{submission.token}.job.json", {"job": job, "time": time.time()})


def read(root: Path, token: str) -> Submission | None:
    """The entry `token`; None where there is none (a results folder moved without its ledger)."""
    path = root / "ledger" / f"{token}.json"
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    try:
        content["job"] = json.loads(path.with_name(f"{token}.job.json").read_text())["job"]
    except FileNotFoundError:
        content["job"] = None
    return Submission(root=root, **content)
