"""Settings of Hydra itself on our command lines: those without effect here say what to use instead."""

from __future__ import annotations

from collections.abc import Iterable

from vocl.config.grammar import key_of
from vocl.errors import UserError

EVERYWHERE = ("hydra.searchpath",)
OF_A_SWEEP = (  # -m hydra/sweeper=NAME runs Hydra's own multirun
    *("hydra/sweeper", "hydra.sweeper", "hydra.sweep.dir", "hydra.launcher.metric", "hydra.verbose"),
    *("hydra/hydra_logging", "hydra.hydra_logging"),
)
_SWEEPER = "only a sweeper has it: python -m vocl.train -m hydra/sweeper=NAME"
INSTEAD = {
    "hydra.run": "a run's folder is <runtime.root>/runs/<run id>; set runtime.root",
    "hydra.sweep": f"a run's folder is <runtime.root>/runs/<run id>; set runtime.root ({_SWEEPER})",
    "hydra/launcher": "runs are handed over by vocl itself; choose cluster=here, local or slurm",
    "hydra.launcher": f"runs are handed over by vocl itself; set cluster.* ({_SWEEPER})",
    "hydra/sweeper": _SWEEPER,
    "hydra.sweeper": f"{_SWEEPER}; without one, a list is key=1,2,3",
    "hydra.mode": "for several runs: python -m vocl.train -m, or vocl submit",
    "hydra.job": "runs keep the folder that they are started in; a run's name is its id",
}


def refuse_without_effect(overrides: Iterable[str], allowed: tuple[str, ...] = EVERYWHERE) -> None:
    """Refuse overrides of Hydra's own settings that nothing would heed. UserError for the first."""
    for override in overrides:
        key = key_of(override).partition("@")[0]
        if not key.startswith(("hydra.", "hydra/")) and key != "hydra":
            continue
        if any(_is_below(key, each) for each in allowed) or override == "hydra/launcher=vocl":
            continue
        why = next((text for each, text in INSTEAD.items() if _is_below(key, each)), "leave it out")
        raise UserError(f"{override}: has no effect here; {why}")


def _is_below(key: str, parent: str) -> bool:
    return key == parent or key.startswith(f"{parent}.")
