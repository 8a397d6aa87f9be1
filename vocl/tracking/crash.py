"""What is on record of an error that ended a run."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from vocl import dist
from vocl.config import folders
from vocl.config.run_config import RunConfig
from vocl.errors import NonFinite, UserError
from vocl.rundir.attempts import Attempts

logger = logging.getLogger(__name__)


def record(error: BaseException, config: RunConfig, attempts: Attempts) -> None:
    """Leave a record of what went wrong; says so in one line even where the disk is full."""
    packages = folders.packages(None)
    with suppress(UserError):  # the project's folder may be what went missing
        packages = folders.packages(config.project)
    found = facts(error, packages)
    if isinstance(error, NonFinite):  # all ranks agree on it
        found["non_finite"] = error.record
        if dist.rank() != 0:
            return
    try:
        path = str(attempts.end("failed", dist.rank(), **found))
    except OSError as failure:
        path = f"nowhere, it could not be written: {failure}"
    logger.error("failed: %s; record: %s", line(found), path)


def facts(error: BaseException, packages: Mapping[str, Path]) -> dict[str, Any]:
    """Its class, message, traceback, and where in the code of `packages` (name -> folder) it came from."""
    return {
        "kind": type(error).__name__,
        "message": str(error),
        "where": where(error, packages),
        "traceback": "".join(traceback.format_exception(error)),
    }


def where(error: BaseException, packages: Mapping[str, Path]) -> str | None:
    """File and line of the innermost frame in one of `packages`, such as vocl/losses/contrast.py:62."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename).resolve()
        for folder in packages.values():
            if path.is_relative_to(folder):
                return f"{path.relative_to(folder.parent)}:{frame.lineno}"
    return None


def line(found: Mapping[str, Any]) -> str:
    """The error in one line."""
    message = " ".join(found["message"].split())
    place = f" ({found['where']})" if found["where"] else ""
    return f"{found['kind']}: {message}{place}"
