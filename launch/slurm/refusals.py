"""What a refusal of SLURM's means for a second try."""

from __future__ import annotations

import re

LIMIT = re.compile(r"MaxSubmit|submit limit|max_jobs", re.IGNORECASE)  # of a user's jobs, in a refusal
NO_SOURCE = "starts from {source}, which is not done"  # and so is not queued, or does not begin
PASSING = re.compile(r"contact|timed out|temporar|connect|responding|no answer|socket", re.IGNORECASE)


def is_limit(trouble: str) -> bool:
    """Whether a submission was refused because the user has too many jobs: later there will be room."""
    return LIMIT.search(trouble) is not None


def is_passing(trouble: str) -> bool:
    """Whether what kept a submission out may be over by itself; a request that is wrong stays wrong."""
    return is_limit(trouble) or PASSING.search(trouble) is not None or not trouble.startswith("sbatch")
