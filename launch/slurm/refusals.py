"""Why sbatch failed, found out by asking SLURM again, not from the sentence that it failed with.

sbatch ends with 1 whatever the cause. What SLURM 22.05 answers on top, each tried on a real cluster:

======================================  ====  ===========  ==================================================
sbatch failed because of                ping  --test-only  the error, or a code, on a line of its own
======================================  ====  ===========  ==================================================
a partition, constraint, account, QOS,  0     1            `Invalid ...`, `Requested node configuration ...`
 memory, GPUs, array beyond the site's
a limit on the user's number of jobs    0     1            `AssocMaxSubmitJobLimit`, a code; also from
                                                           --test-only
a limit on the size of a job            0     1            `QOSMaxCpuPerJobLimit`, another
a controller that is away or hangs      1     1, slowly    `Unable to contact ...`, `Socket timed out ...`
MaxJobCount, the limit on all jobs      0     1            `Resource temporarily unavailable`
whatever is over by now                 0     0
======================================  ====  ===========  ==================================================

So --test-only does not tell a limit from a mistake, but SLURM's code does. `scontrol ping` tells whether
anybody answers. Words count in the last place, where the controller answers and refuses the test, and for
one decision: that it had no room, or stopped answering in between (`vocl.rundir.causes.of_refusal`).
"""

from __future__ import annotations

from collections.abc import Sequence

from launch.slurm import client
from launch.slurm.client import SlurmError
from vocl.rundir import causes
from vocl.rundir.causes import Cause


class Refused(SlurmError):
    """A submission that did not come about, and why."""

    def __init__(self, said: str, cause: Cause) -> None:
        super().__init__(said)
        self.cause = cause


def refused(command: Sequence[str], said: str) -> Refused:
    """What to raise for `command`, an sbatch that failed and `said` this; asks SLURM about it."""
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["sbatch: failed without a word"]
    return Refused(next((line for line in lines if "error:" in line), lines[-1]), _cause(command, said))


def _cause(command: Sequence[str], said: str) -> Cause:
    if causes.of_refusal(said) is Cause.LIMIT:
        return Cause.LIMIT
    try:
        if client.run("scontrol", "ping").returncode != 0:
            return Cause.UNREACHABLE
        test = client.run(command[0], "--test-only", *command[1:])
    except SlurmError:
        return Cause.UNREACHABLE
    if test.returncode == 0:
        return Cause.BUSY
    found = causes.of_refusal(test.stderr)
    return causes.of_refusal(said) if found is Cause.REJECTED else found
