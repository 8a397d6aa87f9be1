"""From the records of 10 000 finished runs to table.md, .csv, .tex and runs.csv, without torch.

Run from the repository root: `python benchmarks/table.py`. 500 rows x 2 columns x 10 seeds, each run with a
result, the report of its evaluation and scores of 10 videos, as `vocl eval` leaves them. Timed is what
comes after the selection (`benchmarks/plan.py` times that): states, records, statistics with intervals
and differences to a baseline, and the files. The first table reads the files of all runs (`first_s`,
`first_opens`: files of a run that it opens, or tries to); from then on what they say beside the results
comes from the user's cache, which lies in the temporary folder here. `seconds` is to stay at or below 3 s on
two free cores, at `opens` of at most 2; `peak_mb`: memory of the process, with the selection. The baseline
reads the same JSON files and does nothing with them.
"""

from __future__ import annotations

import json
import os
import random
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from launch.run_states.many import few_collections
from launch.run_states.states import look
from launch.selection.plan import Selection, select
from launch.tables import render
from launch.tables.scores import read
from launch.tables.tabulate import tabulate

ROWS, COLUMNS, SEEDS, VIDEOS, ROUNDS = 500, 2, 10, 10, 3
LIMIT_S = 3.0


def declare(folder: Path) -> list[str]:
    """Write the project of the table; returns its selector, of one seed."""
    path = folder / "project" / "conf" / "ablation" / "many.yaml"
    path.parent.mkdir(parents=True)
    rows = "".join(f"  row {number}: {{train.steps: {100 + number}}}\n" for number in range(ROWS))
    columns = "columns: {a: {}, b: {train.batch: 4}}\n"
    text = f"title: Many\nrows:\n{rows}{columns}seeds: [0]\nmetrics: [video_fg_ari, video_mbo]\n"
    path.write_text(f"{text}table: {{baseline: row 0}}\n")
    return ["many", f"project={folder / 'project'}", f"runtime.root={folder / 'results'}"]


def all_seeds(selection: Selection) -> Selection:
    """Every run ten times, with ids of their own; their configs are not looked at again."""
    rng, specs = random.Random(0), []
    for spec in selection.specs:
        specs += [replace(spec, id=rng.randbytes(5).hex(), seed=seed) for seed in range(SEEDS)]
    return Selection(specs, selection.ablation, selection.arguments)


def finish(selection: Selection) -> None:
    """The records of finished runs."""
    rng, root = random.Random(1), selection.root
    for spec in selection.specs:
        run, evaluation = root.run(spec.id), spec.id[::-1]
        metrics = {name: rng.random() for name in ("video_fg_ari", "video_mbo", "video_ari")}
        rows = [
            {"video": f"v{i}", **{n: v + rng.gauss(0, 0.1) for n, v in metrics.items()}}
            for i in range(VIDEOS)
        ]
        name = f"eval/{evaluation}/rows.json"
        entry: dict[str, Any] = {"eval_id": evaluation, "protocol": "vocl", "num_videos": VIDEOS}
        entry |= {"metrics": metrics, "measures": {}, "rows": name}
        result = {"schema": 1, "run_id": spec.id, "cell_id": spec.cell, "seed": spec.seed, "metrics": metrics}
        result |= {
            "evals": {"discovery": entry},
            "attempts": 1,
            "wall_s": 9.0,
            "gpu_hours": 0.5,
            "code": "abc",
        }
        place = run.path / "eval" / evaluation
        place.mkdir(parents=True)
        (place / "rows.json").write_text(json.dumps(rows))
        settings = spec.config.eval["discovery"].content
        report = {"run": spec.id, "checkpoint": "1", "eval": settings, "dataset": {}, "code": "abc", **entry}
        (place / "report.json").write_text(json.dumps(report))
        run.result_path.write_text(json.dumps(result))


@few_collections()
def make(selection: Selection) -> float:
    """Seconds of the table."""
    start = time.perf_counter()
    chosen = selection.ablation
    assert chosen is not None
    root, settings = selection.root, chosen.table
    states, _ = look(root, [spec.id for spec in selection.runs])
    records = read(selection.specs, root, states, settings.protocol)
    table = tabulate(chosen, settings, records, selection)
    render.write(table, records, root)
    assert len(table.cells) == ROWS * COLUMNS * 2
    return time.perf_counter() - start


def plain(selection: Selection) -> float:
    """Seconds of reading the files."""
    start, root = time.perf_counter(), selection.root
    for spec in selection.specs:
        run = root.run(spec.id)
        for name in ("rows.json", "report.json"):
            json.loads((run.path / "eval" / spec.id[::-1] / name).read_bytes())
        json.loads(run.result_path.read_bytes())
    return time.perf_counter() - start


def opened(selection: Selection) -> tuple[float, float]:
    """Seconds of the table, and how many files of a run it opens."""
    place, counted = f"{selection.root.runs_path}/", 0

    def hook(event: str, found: tuple[Any, ...]) -> None:
        nonlocal counted
        counted += event == "open" and str(found[0]).startswith(place)

    sys.addaudithook(hook)  # which nothing takes away: it slows what comes later by a little
    return make(selection), counted / len(selection.specs)


def main() -> None:
    """Build, measure, print."""
    with tempfile.TemporaryDirectory() as name:
        os.environ["XDG_CACHE_HOME"] = name
        selection = all_seeds(select(declare(Path(name))))
        finish(selection)
        ours, theirs = [], []
        first, first_opens = opened(selection)
        for _ in range(ROUNDS):
            theirs.append(plain(selection))
            ours.append(make(selection))
        _, opens = opened(selection)
    assert "torch" not in sys.modules
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"runs={len(selection.specs)} peak_mb={peak:.0f}")
    print(f"first_s={first:.2f} first_opens={first_opens:.2f} opens={opens:.2f}")
    print(f"seconds={min(ours):.2f} limit_s={LIMIT_S:g}")
    print(f"ratio={min(ours) / min(theirs):.3f}")


if __name__ == "__main__":
    main()
