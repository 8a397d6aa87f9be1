"""result.json: what a finished run says. Its presence means "done", unless it is damaged.

Imports next to nothing at first: boards ask it about a thousand runs.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

from vocl.errors import UserError
from vocl.files import NUMBER, holds, record_or_none, write_json

if TYPE_CHECKING:
    from vocl.config import Config

SCHEMA = 1
RESULT = {
    "run_id": str,
    "metrics": dict,
    "evals": dict,
    "steps": (int, NoneType),
    "wall_s": (*NUMBER, NoneType),
    "gpu_hours": (*NUMBER, NoneType),
    "code": (str, NoneType),
}
ENTRY = {"eval_id": str, "protocol": (str, NoneType), "num_videos": int, "metrics": dict, "rows": str}
REPORT = {**ENTRY, "eval": dict}
DAMAGED = "result.json damaged"  # the reason of a run's state


def read(folder: str | Path) -> dict[str, Any]:
    """The result of the run in `folder`. Raises `UserError` when it is damaged, `OSError` when it
    cannot be read, as where there is none."""
    with open(f"{folder}/result.json", "rb") as file:
        content = file.read()
    with suppress(ValueError):
        result = json.loads(content)
        if holds(result, RESULT) and all(holds(entry, ENTRY) for entry in result["evals"].values()):
            return result
    name = Path(folder).name
    raise UserError(f"{folder}/result.json: damaged; to evaluate the run again: vocl retry {name}")


def read_or_none(folder: str | Path) -> dict[str, Any] | None:
    """The result of the run in `folder`; None where there is none that can be read."""
    try:
        return read(folder)
    except (UserError, OSError):
        return None


def is_done(folder: str | Path) -> bool:
    """Whether the run in `folder` has been trained and evaluated."""
    try:
        read(folder)
    except (UserError, FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # it is there, and nothing says that it is wrong: nobody is to train the run again
        return True
    return True


def is_damaged(folder: str | Path) -> bool:
    """Whether a result lies there that is none."""
    try:
        read(folder)
    except UserError:
        return True
    except OSError:
        pass
    return False


def set_aside(folder: Path) -> None:
    """Rename a damaged result to result.json.damaged; only for whoever has just claimed the run."""
    if is_damaged(folder):
        with suppress(OSError):  # then it is replaced once there is another
            (folder / "result.json").replace(folder / "result.json.damaged")


def report(folder: Path, eval_id: str) -> dict[str, Any] | None:
    """The record of an evaluation: its entry in the result, with its settings (`eval`); None without one."""
    return record_or_none(folder / "eval" / eval_id / "report.json", REPORT)


def write(folder: Path, config: Config, attempts: int, device: str, evals: dict[str, Any]) -> None:
    """Write the result of the run in `folder`; its `metrics` are those of the first of `evals`."""
    from vocl import config as configs
    from vocl.cell import cell_of
    from vocl.record import Attempts, code_digest

    seconds, gpu_hours = Attempts(folder).spent()
    result = {
        "schema": SCHEMA,
        "run_id": configs.run_id(config),
        "cell_id": cell_of(config),
        "seed": config["seed"],
        "steps": config["train"]["steps"],
        "attempts": attempts,
        "wall_s": round(seconds, 2),
        "gpu_hours": round(gpu_hours, 4),
        "device": device,
        "code": code_digest(config["project"]),
    }
    write_json(folder / "result.json", with_evals(result, evals))


def with_evals(result: dict[str, Any], evals: dict[str, Any]) -> dict[str, Any]:
    """`result` with the evaluations `evals`, in their order."""
    metrics = next(iter(evals.values()))["metrics"] if evals else {}
    return result | {"metrics": metrics, "evals": evals}


def show(folder: Path) -> None:
    """Print the scores of a finished run."""
    from rich.console import Console
    from rich.table import Table

    result = read(folder)
    table = Table("metric", *result["evals"], title=f"run {result['run_id']}, seed {result['seed']}")
    names = [n for e in result["evals"].values() for n in e["metrics"] if n.startswith(("video_", "image_"))]
    for name in dict.fromkeys(names):
        values = [entry["metrics"].get(name) for entry in result["evals"].values()]
        table.add_row(name, *("-" if value is None else f"{value:.3f}" for value in values))
    console = Console()
    if names:
        console.print(table)
    console.print(f"{folder}/result.json", soft_wrap=True, highlight=False)
