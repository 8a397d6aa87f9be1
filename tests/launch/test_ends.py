"""Every combination of what accounting and a run's records may say of a job that is over."""

from __future__ import annotations

import itertools

import pytest

from launch.run_states import ends
from launch.slurm.client import EndedJob
from vocl.rundir.causes import Cause

WORDS = ("CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "BOOT_FAIL", "DEADLINE")
EXITS = {"1:0": False, "2:0": False, "9:0": True, "0:9": True, "137:0": True, "0:15": True, "0:6": False}
OWN = ("", "stopped", "failed", "done")
ALWAYS = {
    "TIMEOUT": ("failed", Cause.TIME_LIMIT),
    "NODE_FAIL": ("failed", Cause.NODE_FAILURE),
    "OUT_OF_MEMORY": ("failed", Cause.OUT_OF_MEMORY),
    "PREEMPTED": ("interrupted", Cause.PREEMPTED),
    "BOOT_FAIL": ("interrupted", Cause.JOB_LOST),
    "DEADLINE": ("interrupted", Cause.JOB_LOST),
}


def decided(state: str | None, exit_code: str, began: bool, own: str) -> tuple[str, Cause]:
    ended = None if state is None else EndedJob(state, exit_code, "n1")
    return ends.of_job(ended, began, own)


@pytest.mark.parametrize(("began", "own"), list(itertools.product((False, True), OWN)))
def test_what_accounting_says_counts_before_what_the_run_says(began: bool, own: str) -> None:
    for word, expected in ALWAYS.items():
        for code in EXITS:
            assert decided(word, code, began, own) == expected, (word, code)
    pending = ("failed", Cause.CANCELLED_PENDING)
    for code in EXITS:
        cancelled = ("failed", Cause.CANCELLED) if began else pending
        assert decided("CANCELLED", code, began, own) == cancelled
        assert decided(None, code, began, own) == (("interrupted", Cause.JOB_GONE) if began else pending)


@pytest.mark.parametrize(("code", "was_killed"), list(EXITS.items()))
def test_of_a_job_that_failed_the_run_knows_more(code: str, was_killed: bool) -> None:
    lost, failed = ("interrupted", Cause.JOB_KILLED), ("failed", Cause.JOB_FAILED)
    for began in (False, True):
        assert decided("FAILED", code, began, "failed") == ("failed", Cause.FAILED)
        assert decided("FAILED", code, began, "stopped") == lost
        assert decided("FAILED", code, began, "done") == failed
        assert decided("FAILED", code, began, "") == (lost if was_killed and began else failed)


def everything() -> list[tuple[str, Cause] | None]:
    """What each combination comes to."""
    found: list[tuple[str, Cause] | None] = []
    for asked in itertools.product((None, *WORDS, "FAILED"), EXITS, (False, True), OWN):
        try:
            found.append(decided(*asked))
        except StopIteration:
            found.append(None)
    return found


def test_every_row_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, rows = everything(), ends.ROWS
    assert None not in whole
    for row in rows:
        monkeypatch.setattr(ends, "ROWS", tuple(other for other in rows if other is not row))
        assert everything() != whole, row
