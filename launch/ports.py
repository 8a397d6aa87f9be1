"""Ports at which the ranks of an element's runs meet, chosen on its first node just before they start.

    python -m launch.ports COUNT        prints COUNT ports, with commas between them

The job's script calls this: only what comes before `srun` can tell all ranks the same. Two jobs on one
node look from different ports on, so that they do not choose the same while neither listens yet. Ports
from which outgoing connections begin (32768 and above on Linux) are left alone.
"""

from __future__ import annotations

import itertools
import os
import socket
import sys
from collections.abc import Iterator

VARIABLE = "VOCL_PORTS"  # in which the job's script hands them on
FIRST, LAST = 20000, 32000
APART = 16  # runs that share a job seldom are more


def free(count: int, job: int) -> list[int]:
    """`count` ports that nobody listens on; OSError if this machine has no more so many."""
    number = LAST - FIRST
    ports = (FIRST + (job * APART + step) % number for step in range(number))
    found = list(itertools.islice(_unused(ports), count))
    if len(found) < count:
        raise OSError(f"fewer than {count} ports from {FIRST} to {LAST - 1} are free")
    return found


def given(count: int) -> list[int]:
    """The first `count` of the ports that the job's script has handed on; `RuntimeError` if it did not."""
    words = os.environ.get(VARIABLE, "").split(",")[:count]
    if len(words) < count or not all(word.isdecimal() for word in words):
        told = repr(os.environ.get(VARIABLE))
        raise RuntimeError(f"{VARIABLE}={told}: expected {count} ports; python -m launch.ports prints them")
    return [int(word) for word in words]


def _unused(ports: Iterator[int]) -> Iterator[int]:
    for port in ports:
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
        yield port


if __name__ == "__main__":
    print(",".join(map(str, free(int(sys.argv[1]), int(os.environ.get("SLURM_JOB_ID", "0"))))))
