"""What a run said at a step before its end, where `runtime.stop_at` had it scored and left. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vocl.files import Kinds, holds
from vocl.rundir.result import ENTRY

RUNG: Kinds = {"step": int, "evals": dict, "failed": dict}


@dataclass(frozen=True)
class Rung:
    """The scores of the state after `step` steps: an entry (`vocl.rundir.result.ENTRY`) per evaluation, and
    why others say nothing."""

    step: int
    evals: dict[str, dict[str, Any]]
    failed: dict[str, str]

    @classmethod
    def of_json(cls, content: Any) -> Rung | None:
        """The rung that a file holds; None where something that is relied on is not there."""
        if not holds(content, RUNG) or not all(holds(entry, ENTRY) for entry in content["evals"].values()):
            return None
        return cls(**{key: content[key] for key in RUNG})
