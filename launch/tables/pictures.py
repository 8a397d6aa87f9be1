"""Pictures of the rows and columns of a table, drawn by child processes: drawing needs the model."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.ablations.overrides import slug
from launch.tables.model import Place
from vocl.files import parse_json, read_bytes
from vocl.rundir.results_root import ResultsRoot
from vocl.tracking import media
from vocl.tracking.media import Picture

if TYPE_CHECKING:
    from launch.tables.scores import RunScores

SHOW = (sys.executable, "-m", "vocl.commands.launching", "show")
FACTS = "videos.json"  # in a folder of pictures, by `vocl.commands.show`
RowColumn = tuple[str, str]


@dataclass(frozen=True)
class DrawnVideo:
    """A picture of what a run saw in `video`; `facts`: see `vocl.commands.pictures.slot_facts`."""

    video: str
    picture: Path
    is_best: bool
    metric: str
    score: float
    facts: dict[str, Any]


def draw(records: Sequence[RunScores], root: ResultsRoot, place: Path) -> dict[Place, Path]:
    """<place>/<row>.png, a contact sheet of the first finished run of each row (and column, where there are
    several); names what it drew."""
    paths, drawn = _paths(records, place), dict[Place, Path]()
    for (row, column), record in _first_finished(records).items():
        path = paths[row, column]
        trouble = _show(record, root, f"out={path}")
        if not trouble and path.is_file():
            drawn[row, column, ""] = path
            print(f"picture of {record.spec.label}: {path}")
        else:
            print(f"no picture of {record.spec.label}: {trouble or 'none was written'}", file=sys.stderr)
    labels = {path: ", ".join(filter(None, where)) for where, path in drawn.items()}
    kept = [each for each in media.read(place) if each.path not in labels]
    media.write(place, [*kept, *(Picture(f"picture/{p.stem}", p, labels[p]) for p in labels)])
    return drawn


def drop_of_others(records: Sequence[RunScores], place: Path) -> None:
    """Remove the pictures that `draw` left of rows and columns that are the table's no longer."""
    before, own = media.read(place), set(_paths(records, place).values())
    for picture in before:
        if picture.path not in own:
            picture.path.unlink(missing_ok=True)
    if before:
        media.write(place, [picture for picture in before if picture.path in own])


def _paths(records: Sequence[RunScores], place: Path) -> dict[RowColumn, Path]:
    """The file of each row and column, which need not be there."""
    places = dict.fromkeys((record.spec.row, record.spec.column) for record in records)
    several = len({column for _, column in places}) > 1
    return {(r, c): place / f"{slug(f'{r} {c}' if several else r)}.png" for r, c in places}


def draw_videos(
    records: Sequence[RunScores], root: ResultsRoot, place: Path, count: int, metric: str
) -> dict[RowColumn, list[DrawnVideo] | str]:
    """In folders of `place`, the `count` best and worst videos by `metric` of the first finished run of each
    row and column; where there are none, why."""
    first, found = _first_finished(records), dict[RowColumn, list[DrawnVideo] | str]()
    for number, wanted in enumerate(dict.fromkeys((r.spec.row, r.spec.column) for r in records)):
        record = first.get(wanted)
        if record is None:
            found[wanted] = "no run of this row is done"
        elif (score := record.score(metric)) is None:
            found[wanted] = f"run {record.spec.id} has no score {metric}"
        else:
            folder = place / str(number)
            by = f"{score.evaluation}/{metric.removeprefix(f'{score.evaluation}/')}"
            ranked = ("--best", str(count), "--worst", str(count), "--by", by)
            trouble = _show(record, root, f"out={folder}/", *ranked)
            found[wanted] = trouble or _read(folder, count, metric)
            if not trouble:  # each takes a process of its own, and seconds
                print(f"drawn: videos of {record.spec.label}", flush=True)
    return found


def _first_finished(records: Sequence[RunScores]) -> dict[RowColumn, RunScores]:
    first: dict[RowColumn, RunScores] = {}
    for record in records:
        if record.state == "done":
            first.setdefault((record.spec.row, record.spec.column), record)
    return first


def _show(record: RunScores, root: ResultsRoot, *words: str) -> str:
    """Have a run drawn; returns why that went wrong, or ""."""
    command = [*SHOW, record.spec.id, f"runtime.root={root}", *words]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return lines[-1] if done.returncode else ""


def _read(folder: Path, count: int, metric: str) -> list[DrawnVideo]:
    """The pictures in `folder`, the best ones first."""
    return [
        DrawnVideo(
            video=each["video"],
            picture=folder / each["picture"],
            is_best=number < count,
            metric=metric,
            score=each["score"],
            facts=next(iter(each["facts"].values())),
        )
        for number, each in enumerate(parse_json(read_bytes(folder / FACTS)))
    ]
