"""`vocl plan` of 1 000 runs in a fresh process, against `python -c "import torch"`.

Run from the repository root: `python benchmarks/plan.py`. The table of a temporary project: 4 sets
of group choices (loss and optimizer x experiment), for each of them 5 learning rates x 5 weights x 5
numbers of slots x 2 seeds. A third of the runs has a record already. Timed is the whole command as a
user types it: imports, composing, checking, signing, looking up the states, printing the list. A
sample of the runs is also composed one by one by Hydra and must have the same ids. The baseline
starts an interpreter and loads torch, nothing else.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from launch.selection.plan import Selection, select
from vocl.config.check import check
from vocl.config.compose import compose

ABLATION = """
title: A thousand runs
base: {experiment: slotcontrast/synthetic}
columns: {synthetic: {}, MOVi-C: {experiment: slotcontrast/movi_c}}
rows:
  both terms:  {optim: adamw}
  no contrast: {loss: [feature_mse]}
grid:
  optim.lr: [1.0e-4, 2.0e-4, 4.0e-4, 8.0e-4, 1.6e-3]
  loss.feature_mse.weight: [0.5, 1.0, 2.0, 4.0, 8.0]
  model.num_slots: [3, 4, 5, 6, 7]
seeds: [0, 1]
metrics: [video_mbo]
"""
RUNS = 1000
LIMIT_S = 15.0


def declare(folder: Path) -> list[str]:
    """Write the project; returns the selector of its table."""
    (folder / "project" / "thousand").mkdir(parents=True)
    (folder / "project" / "thousand" / "__init__.py").touch()
    path = folder / "project" / "conf" / "ablation" / "thousand.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(ABLATION)
    return ["thousand", f"project={folder / 'project'}", f"runtime.root={folder / 'results'}"]


def finish_a_third(selection: Selection) -> None:
    for spec in selection.runs[::3]:
        run = selection.root.run(spec.id)
        run.path.mkdir(parents=True)
        run.result_path.write_text("{}")


def check_sample(selection: Selection, arguments: list[str]) -> None:
    """Runs that Hydra composes alone have the ids of the plan."""
    declared = selection.ablation
    for spec in selection.specs[:: RUNS // 7]:
        own = declared.overrides(declared.rows[spec.row], declared.columns[spec.column])
        alone = compose([*(f"{k}={v}" for k, v in own.items()), *arguments[1:], f"seed={spec.seed}"])
        assert check(alone).run_id == spec.id, spec.label


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(
        command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": os.getcwd()}
    )
    return time.perf_counter() - start


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        arguments = declare(Path(name))
        selection = select(arguments)
        assert len(selection.runs) == RUNS, len(selection.runs)
        check_sample(selection, arguments)
        finish_a_third(selection)
        plan = [sys.executable, "-m", "launch.cli", "plan", *arguments]
        torch = [sys.executable, "-c", "import torch"]
        times = [(seconds(torch), seconds(plan)) for _ in range(3)]
    torch_s, plan_s = (min(column) for column in zip(*times, strict=True))
    print(f"runs {RUNS}")
    print(f"seconds plan {plan_s:.2f} import_torch {torch_s:.2f}")
    assert plan_s <= LIMIT_S
    print(f"ratio={plan_s / torch_s:.4f}")


if __name__ == "__main__":
    main()
