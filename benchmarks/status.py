"""A fresh `vocl status NAME` on 10 000 runs, against `python -c "import torch"`.

Run from the repository root: `python benchmarks/status.py`. A results folder is made with the records
that runs of all states leave: done ones with a result, events, a claim and a hundred log lines,
running ones with a heartbeat, queued ones, failed ones, absent ones; squeue, sacct and scontrol are
stand-ins that answer at once, since what is measured is ours. The first call reads all logs (`first_s`);
from then on what was found in those that do not change comes from the user's cache, which lies in the
temporary folder here. Both commands are new processes, alternate, and the best time of each counts.
`status_s` is to stay at or below 3 s on two free cores, and a finished run is to cost at most 2 opened
files (`opens`), which is what takes time on a file server. `peak_mb`: memory of the process.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import RunDir

RUNS, ROUNDS, REPORTS, STEPS = 10000, 3, 100, 10000
REPOSITORY = Path(__file__).resolve().parent.parent
NAME, TOKEN, JOB, NODE = "many", "a1b2c3d4e5", "4242", "node7"
SCONTROL = """#!/bin/sh
case "$*" in
  *config*)
    echo 'ClusterName = made-up'
    echo 'SlurmctldHost[0] = controller'
    echo 'MaxArraySize = 1001';;
  *) echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1;;
esac
"""
COUNTING = """
import atexit, collections, json, resource, sys
place, opens = sys.argv.pop(1) + "/", collections.Counter()
def hook(event, found):
    if event == "open" and isinstance(found[0], str) and found[0].startswith(place):
        opens[found[0][len(place):].split("/")[0]] += 1
def tell():
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"opens": opens, "peak_kb": peak}), file=sys.stderr)
sys.addaudithook(hook)
atexit.register(tell)
from launch.cli import main
main(sys.argv[1:])
"""
KINDS = ("done", "done", "done", "running", "queued", "failed", "absent", "interrupted")


def build(root: ResultsRoot) -> list[str]:
    """`RUNS` runs of an ablation of 2 columns and 5 seeds; returns their states' names."""
    ids = [random.Random(i).randbytes(5).hex() for i in range(RUNS)]
    kinds = [KINDS[i % len(KINDS)] for i in range(RUNS)]
    rows = [
        {"row": f"row {i // 10}", "column": "ab"[i // 5 % 2], "seed": i % 5, "id": run, "after": None}
        for i, run in enumerate(ids)
    ]
    write(root.by_name / NAME / "selection.json", {"arguments": [NAME], "runs": rows})
    entry: dict[str, Any] = {"token": TOKEN, "cluster": {"kind": "slurm"}, "elements": [[run] for run in ids]}
    entry |= {"snapshot": None, "user": "me", "host": "login", "pid": 1, "time": time.time() - 9000}
    write(root.ledger / f"{TOKEN}.json", entry | {"arguments": [NAME]})
    write(root.ledger / f"{TOKEN}.job.json", {"job": JOB, "time": time.time()})
    for run, kind in zip(ids, kinds, strict=True):
        if kind != "absent":
            build_run(root.run(run), kind)
    return kinds


def build_run(run: RunDir, kind: str) -> None:
    """The records that a run of this kind has."""
    now = time.time()
    claim = {"token": TOKEN, "cluster": "slurm", "user": "me", "host": "login", "pid": 1, "born": 1}
    write(run.jobs / "0001.json", claim | {"time": now - 9000})
    config = "".join(f"key_{i}: {i}\n" for i in range(150))
    run.config_path.write_text(f"model:\n  num_slots: 7\n{config}")
    if kind == "queued":
        return
    write(run.jobs / "0001-start.json", {"time": now - 8000, "node": NODE, "job": f"{JOB}_1", "pid": 1})
    start = {"attempt": 1, "time": now - 8000, "step": 0, "world": 1, "device": "cuda", "libraries": {}}
    write(run.events / "0001-start.json", start)
    beat = {"attempt": 1, "step": 5000, "steps": STEPS, "time": now, "pid": 1, "host": NODE}
    write(run.beat_path, beat if kind == "running" else beat | {"time": now - 4000})
    if kind != "running":  # another machine's heartbeat is judged by when its file was written
        os.utime(run.beat_path, (now - 4000, now - 4000))
    run.metrics_path.write_text("".join(f"{json.dumps(report(i))}\n" for i in range(REPORTS)))
    if kind == "failed":
        end = {"attempt": 1, "time": now, "outcome": "failed", "wall_s": 4000.0, "kind": "ValueError"}
        write(run.events / "0001-failed.json", end | {"message": f"it broke in {run.id}"})
        write(run.jobs / "0001-end.json", {"time": now, "outcome": "failed", "code": 1, "line": "x"})
    if kind == "done":
        end = {"attempt": 1, "time": now, "outcome": "done", "wall_s": 7000.0}
        write(run.events / "0001-done.json", end)
        write(run.jobs / "0001-end.json", {"time": now, "outcome": "done", "code": 0})
        scores = {f"score_{i}": i / 20 for i in range(20)}
        result = {"run_id": run.id, "steps": STEPS, "gpu_hours": 1.9, "metrics": scores}
        entry = {"eval_id": "0" * 10, "protocol": "vocl", "num_videos": 250, "metrics": scores, "rows": "x"}
        write(run.result_path, result | {"evals": {"discovery": entry}})


def report(i: int) -> dict[str, float]:
    """A line of metrics.jsonl."""
    terms = {f"{kind}.term_{j}": 0.123456789 for kind in ("term", "weighted") for j in range(2)}
    line = {"step": i * STEPS // REPORTS, "loss": 0.1 + 1 / (i + 1), "lr": 4e-4, **terms, "slots_used": 5.5}
    return line | {"mask_entropy": 0.4, "stage": 0, "grad_norm": 0.05, "steps_per_s": 3.2, "memory_gib": 7.9}


def write(path: Path, content: Any) -> None:
    """As the runs write it, without syncing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def stand_ins(folder: Path, kinds: list[str]) -> None:
    """squeue knows the running and queued elements, sacct those that were interrupted, scontrol no job."""
    folder.mkdir()
    shown = {"running": ("RUNNING", "None", NODE), "queued": ("PENDING", "Priority", "")}
    queue = ["NAME|ARRAY_JOB_ID|ARRAY_TASK_ID|STATE|REASON|NODELIST"]
    queue += [f"vocl-{TOKEN}|{JOB}|{i}|{'|'.join(shown[k])}" for i, k in enumerate(kinds) if k in shown]
    ended = [f"vocl-{TOKEN}|{JOB}_{i}|PREEMPTED|0:0|{NODE}" for i, k in enumerate(kinds) if k[0] == "i"]
    for name, lines in (("squeue", queue), ("sacct", ended)):
        (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
        (folder / name).write_text(f"#!/bin/sh\nexec cat {folder}/{name}.txt\n")
        (folder / name).chmod(0o755)
    (folder / "scontrol").write_text(SCONTROL)
    (folder / "scontrol").chmod(0o755)


def seconds(command: list[str], environment: dict[str, str]) -> tuple[float, str]:
    """Wall time and output of a process."""
    began = time.perf_counter()
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True
    )
    return time.perf_counter() - began, done.stdout


def opened(words: list[str], environment: dict[str, str], runs: ResultsRoot) -> tuple[dict[str, int], float]:
    """How many files of each run a command opens (or tries to), and its peak memory in MB."""
    command = [sys.executable, "-c", COUNTING, str(runs.runs_path), *words]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stderr.splitlines()[-1])
    return found["opens"], found["peak_kb"] / 1024


def told(opens: dict[str, int], kinds: list[str], peak_mb: float) -> str:
    """`opens` of a finished run, and of any."""
    ids = [random.Random(i).randbytes(5).hex() for i in range(RUNS)]
    finished = [opens.get(run, 0) for run, kind in zip(ids, kinds, strict=True) if kind == "done"]
    mean = sum(finished) / len(finished)
    return f"opens={mean:.2f} opens_of_any={sum(opens.values()) / RUNS:.2f} peak_mb={peak_mb:.0f}"


def main() -> None:
    """Build, measure, print."""
    with tempfile.TemporaryDirectory() as place:
        root, tools = Path(place) / "results", Path(place) / "bin"
        kinds = build(ResultsRoot(root))
        stand_ins(tools, kinds)
        environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "XDG_CACHE_HOME": place}
        words = ["status", NAME, f"runtime.root={root}"]
        status = [sys.executable, "-m", "launch.cli", *words]
        first, _ = seconds(status, environment)
        times: dict[str, list[float]] = {"status": [], "torch": []}
        for _ in range(ROUNDS):
            spent, board = seconds(status, environment)
            times["status"].append(spent)
            times["torch"].append(seconds([sys.executable, "-c", "import torch"], environment)[0])
        opens, peak = opened(words, environment, ResultsRoot(root))
        summary = next(line for line in board.splitlines() if line.startswith(f"{RUNS} runs"))
        for kind in set(kinds):
            assert f"{kinds.count(kind)} {kind}" in summary, summary
    print(summary)
    print(told(opens, kinds, peak))
    print(f"first_s={first:.3f} status_s={min(times['status']):.3f} torch_s={min(times['torch']):.3f}")
    print(f"ratio={min(times['status']) / min(times['torch']):.3f}")


if __name__ == "__main__":
    main()
