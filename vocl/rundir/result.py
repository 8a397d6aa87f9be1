"""result.json: what a finished run says. Its presence means "done", unless it is damaged.

Imports next to nothing at first: boards ask it about a thousand runs.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

from vocl.errors import UserError, printable
from vocl.files import NUMBER, Kinds, holds, is_a, parse_json, read_bytes, record_or_none, write_json
from vocl.measure import Measure

if TYPE_CHECKING:
    from vocl.config.run_config import RunConfig

SCHEMA = 1
RESULT: Kinds = {
    "run_id": str,
    "metrics": dict,
    "evals": dict,
    "failed": (dict, NoneType),  # {name: why} of the run's own evaluations that say nothing
    "seed": (int, NoneType),
    "steps": (int, NoneType),
    "wall_s": (*NUMBER, NoneType),
    "gpu_hours": (*NUMBER, NoneType),
    "code": (str, NoneType),
}
ENTRY: Kinds = {
    "eval_id": str,
    "protocol": (str, NoneType),
    "num_videos": int,
    "metrics": dict,
    "measures": (dict, NoneType),  # {metric: fields of a Measure}, of those that are not plain fractions
    "rows": str,
}
REPORT: Kinds = {**ENTRY, "eval": dict}
SCORE = (*NUMBER, NoneType)  # null: undefined
RUN_ID = re.compile("[0-9a-f]{10}")
DAMAGED = "result.json damaged"  # the reason of a run's state
UNTRAINED = "untrained"  # the checkpoint of an evaluation of the model before its first step


def read(folder: str | Path, seed: int | None = None) -> dict[str, Any]:
    """The result of the run in `folder`, which has `seed` if that is known here. Raises `UserError` when it
    is damaged or another run's, `OSError` when it cannot be read, as where there is none."""
    name, wrong = Path(folder).name, "damaged"
    with suppress(ValueError, IsADirectoryError):
        result = parse_json(read_bytes(f"{folder}/result.json"))
        if _is_sound(result) and not (wrong := _of_another(result, name, seed)):
            return result
    raise UserError(f"{folder}/result.json: {wrong}; to evaluate the run again: vocl retry {name}")


def _is_sound(result: Any) -> bool:
    """Whether everything that is relied on is there, and of the right kind."""
    return (
        holds(result, RESULT)
        and all(isinstance(why, str) for why in (result.get("failed") or {}).values())
        and all(holds(entry, ENTRY) for entry in result["evals"].values())
        and all(
            is_a(score, SCORE)
            for found in (result, *result["evals"].values())
            for score in found["metrics"].values()
        )
    )


def _of_another(result: Mapping[str, Any], name: str, seed: int | None) -> str:
    """Why a result is not that of the run in folder `name`, which may be a copy by any other name; or ""."""
    run, said = result["run_id"], result.get("seed")
    if run != name and RUN_ID.fullmatch(run) and RUN_ID.fullmatch(name):
        return f"damaged, that of another run, {run}"
    if None not in (seed, said) and seed != said:
        return f"damaged, says seed {said} where the run has {seed}; remove it"
    return ""


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


# ------------------------------------------------------------------------------------ evaluations


def report(folder: Path, eval_id: str) -> dict[str, Any] | None:
    """The record of an evaluation: its entry in the result, with its settings (`eval`, in today's keys);
    None without one."""
    from vocl.config.migrate import migrate

    found = record_or_none(folder / "eval" / eval_id / "report.json", REPORT)
    return found and found | {"eval": migrate({"eval": {"": found["eval"]}})["eval"][""]}


def reports(folder: Path, evals: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The records of the evaluations `evals` of a result, by their keys there; those of the trained model
    that are there."""
    found = {key: report(folder, entry["eval_id"]) for key, entry in evals.items()}
    return {key: each for key, each in found.items() if each and each.get("checkpoint") != UNTRAINED}


def measure(entry: Mapping[str, Any], metric: str) -> Measure:
    """How the score `metric` of an entry is read."""
    said = (entry.get("measures") or {}).get(metric)
    kinds: Kinds = {"higher_is_better": (bool, NoneType), "scale": NUMBER, "digits": (int, NoneType)}
    if not holds(said, kinds) or (said.get("digits") or 0) not in range(10):
        return Measure()
    fields: dict[str, Any] = {key: said.get(key) for key in kinds}
    return Measure(**fields)


def find_score(evals: Mapping[str, Any], metric: str) -> tuple[str, str] | None:
    """The evaluation and its metric that a name means: <evaluation>/<metric>, else the first evaluation
    that has it; None where there is none."""
    named = ((name, metric.removeprefix(f"{name}/")) for name in evals if metric.startswith(f"{name}/"))
    bare = ((name, metric) for name in evals)
    return next(((name, own) for name, own in (*bare, *named) if own in evals[name]["metrics"]), None)


def scores(result: Mapping[str, Any]) -> dict[str, float | None]:
    """Every score of a result: those of the first evaluation by their names, the others' as
    <evaluation>/<metric>."""
    found = {}
    for number, (name, entry) in enumerate((result.get("evals") or {}).items()):
        for metric, value in entry["metrics"].items():
            found[f"{name}/{metric}" if number else metric] = value
    return found


def with_evals(
    result: dict[str, Any], evals: Mapping[str, Any], failed: Mapping[str, str], own: Iterable[str]
) -> dict[str, Any]:
    """`result` with the evaluations `evals`, those of the run's `own` config first and in its order, and why
    those in `failed` say nothing.

    `metrics` are the first one's; none as long as the first of `own` has failed.
    """
    own = list(own)
    ordered = {**{name: evals[name] for name in own if name in evals}, **evals}
    first = own[0] if own and own[0] in failed else next(iter(ordered), None)
    metrics = ordered[first]["metrics"] if first in ordered else {}
    kept = {key: value for key, value in result.items() if key != "failed"}
    return kept | {"metrics": metrics, "evals": ordered} | ({"failed": dict(failed)} if failed else {})


def write(
    folder: Path,
    config: RunConfig,
    attempts: int,
    device: str,
    evals: Mapping[str, Any],
    failed: Mapping[str, str],
) -> None:
    """Write the result of the run in `folder`, whose config names its own evaluations (see `with_evals`)."""
    from vocl.rundir.attempts import Attempts
    from vocl.rundir.cell import cell_of
    from vocl.rundir.provenance import code_digest

    seconds, gpu_hours = Attempts(folder).spent()
    result = {
        "schema": SCHEMA,
        "run_id": config.run_id,
        "cell_id": cell_of(config.content),
        "seed": config.seed,
        "steps": config.train.steps,
        "attempts": attempts,
        "wall_s": round(seconds, 2),
        "gpu_hours": round(gpu_hours, 4),
        "device": device,
        "code": code_digest(config.project),
    }
    write_json(folder / "result.json", with_evals(result, evals, failed, config.eval))


def show(folder: Path) -> None:
    """Print every score of a finished run, and which of its evaluations failed."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    result = read(folder)
    evals = result["evals"]
    columns = (Column(Text(printable(name)), overflow="fold") for name in ("metric", *evals))
    table = Table(*columns, title=f"run {result['run_id']}, seed {result.get('seed')}")
    names = list(dict.fromkeys(name for entry in evals.values() for name in entry["metrics"]))
    for name in names:
        table.add_row(Text(_headed(evals, name)), *(_spelt(entry, name) for entry in evals.values()))
    console = Console()
    if not console.is_terminal:
        wide = Console(width=1000)
        console = Console(width=max(80, table.__rich_measure__(wide, wide.options).maximum))
    if names:
        console.print(table)
    console.print(f"{folder}/result.json", soft_wrap=True, highlight=False, markup=False)
    for name, why in (result.get("failed") or {}).items():
        line = f"eval {name} failed: {why}; to run it again: vocl eval {folder.name}"
        print(printable(line), file=sys.stderr)


def _headed(evals: Mapping[str, Any], metric: str) -> str:
    """The name of a score, with an arrow where less is better."""
    entry = next(entry for entry in evals.values() if metric in entry["metrics"])
    arrow = " \N{DOWNWARDS ARROW}" if measure(entry, metric).higher_is_better is False else ""
    return f"{printable(metric)}{arrow}"


def _spelt(entry: Mapping[str, Any], metric: str) -> str:
    """A score as it is stored: a fraction with three decimals, what has a unit with four digits."""
    value = entry["metrics"].get(metric)
    if value is None:
        return "-"
    is_fraction = isinstance(value, float) and measure(entry, metric).is_fraction
    return f"{value:.3f}" if is_fraction else f"{value:.4g}"
