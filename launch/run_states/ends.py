"""What a job that is over means for its run: a table from accounting's word and the run's own records."""

from __future__ import annotations

import re

from launch.slurm.client import EndedJob
from vocl.rundir.causes import Cause

ANY = None
NOTHING = ""  # accounting does not know the job; the run left no record of its end
KILLED = "killed"  # FAILED, with an exit code that says that the job's script or srun was killed:
# by the shell's count or by SLURM's, or of the signal itself
EXIT_OF_KILLED = re.compile(r"(?:9|15|129|137|143):0|\d+:(?:1|9|15)")
# accounting's word, whether the job began, the outcome that the run recorded: the state, and its cause.
# The first row that fits counts.
ROWS: tuple[tuple[str | None, bool | None, str | None, str, Cause], ...] = (
    (NOTHING, False, ANY, "failed", Cause.CANCELLED_PENDING),
    (NOTHING, True, ANY, "interrupted", Cause.JOB_GONE),
    ("CANCELLED", False, ANY, "failed", Cause.CANCELLED_PENDING),
    ("CANCELLED", True, ANY, "failed", Cause.CANCELLED),
    ("TIMEOUT", ANY, ANY, "failed", Cause.TIME_LIMIT),
    ("NODE_FAIL", ANY, ANY, "failed", Cause.NODE_FAILURE),
    ("OUT_OF_MEMORY", ANY, ANY, "failed", Cause.OUT_OF_MEMORY),
    ("PREEMPTED", ANY, ANY, "interrupted", Cause.PREEMPTED),
    (KILLED, True, NOTHING, "interrupted", Cause.JOB_KILLED),
    (KILLED, ANY, "stopped", "interrupted", Cause.JOB_KILLED),  # it saved, its agent did not live to tell
    (KILLED, ANY, "failed", "failed", Cause.FAILED),
    (KILLED, ANY, ANY, "failed", Cause.JOB_FAILED),
    ("FAILED", ANY, "stopped", "interrupted", Cause.JOB_KILLED),
    ("FAILED", ANY, "failed", "failed", Cause.FAILED),
    ("FAILED", ANY, ANY, "failed", Cause.JOB_FAILED),
    (ANY, ANY, ANY, "interrupted", Cause.JOB_LOST),  # BOOT_FAIL, DEADLINE, REVOKED, ...
)


def of_job(ended: EndedJob | None, began: bool, own: str) -> tuple[str, Cause]:
    """State and cause of a run whose job is over. `own`: the outcome that the run recorded under it."""
    given = (_word(ended), began, own)
    fits = (
        row for row in ROWS if all(asked in (ANY, has) for asked, has in zip(row[:3], given, strict=True))
    )
    return next(fits)[3:]


def _word(ended: EndedJob | None) -> str:
    if ended is None:
        return NOTHING
    was_killed = ended.state == "FAILED" and EXIT_OF_KILLED.fullmatch(ended.exit_code)
    return KILLED if was_killed else ended.state
