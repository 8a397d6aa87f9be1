"""result.json: what a finished run says. Its presence means "done"."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vocl import config as configs
from vocl.cell import cell_of
from vocl.config import Config
from vocl.errors import UserError
from vocl.files import read_json, write_json
from vocl.record import Attempts, code_digest

SCHEMA = 1


def is_done(folder: Path) -> bool:
    """Whether the run in `folder` has been trained and evaluated."""
    return (folder / "result.json").is_file()


def read(folder: Path) -> dict[str, Any]:
    """The result of the run in `folder`."""
    try:
        result = read_json(folder / "result.json")
    except UserError:
        result = {}
    if "evals" not in result:
        raise UserError(f"{folder}/result.json: damaged; remove it, and the same command evaluates again")
    return result


def write(folder: Path, config: Config, attempts: int, device: str, evals: dict[str, Any]) -> None:
    """Write the result of the run in `folder`; its `metrics` are those of the first of `evals`."""
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
