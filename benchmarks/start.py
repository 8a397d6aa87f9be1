"""From the start of `python -m vocl.train debug=tiny` to its first step, against `import torch`.

Run from the repository root: `python benchmarks/start.py`. A run has taken its first step once the line of it
stands in its log; the process is then ended. The baseline is a process that imports torch and says so. Both
alternate, each once before that counts as nothing, so that all files are in memory; `extra_s`, by how much
the best time of ours is over the best of the baseline, is to stay at or below 1.5 s on two free cores.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vocl.rundir.results_root import ResultsRoot

ROUNDS, LIMIT_S, PATIENCE_S = 4, 1.5, 300
REPOSITORY = Path(__file__).resolve().parent.parent
TORCH = "import os, torch; os.write(1, b'.')"


def first_step() -> float:
    """Seconds until a new run has taken a step."""
    with tempfile.TemporaryDirectory() as place:
        root = ResultsRoot(Path(place))
        words = ["debug=tiny", f"runtime.root={root}", "runtime.progress=false"]
        command = [sys.executable, "-m", "vocl.train", *words]
        began = time.perf_counter()
        training = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL)
        try:
            while not any(root.run(run).metrics_path.stat().st_size for run in begun(root)):
                assert training.poll() is None and time.perf_counter() - began < PATIENCE_S
                time.sleep(0.005)
            return time.perf_counter() - began
        finally:
            training.kill()
            training.wait()


def begun(root: ResultsRoot) -> list[str]:
    """The runs that have a log, an empty one maybe."""
    return [run for run in root.run_ids() if root.run(run).metrics_path.exists()]


def torch_imported() -> float:
    """Seconds until a new process has imported torch."""
    began = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", TORCH], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.read(1)
        return time.perf_counter() - began


def main() -> None:
    """Measure, print."""
    os.environ["PYTHONPATH"] = str(REPOSITORY)
    times = [(torch_imported(), first_step()) for _ in range(1 + ROUNDS)][1:]
    torch_s, step_s = (min(column) for column in zip(*times, strict=True))
    print(f"step_s={step_s:.2f} torch_s={torch_s:.2f}")
    print(f"extra_s={step_s - torch_s:.2f} limit_s={LIMIT_S:g}")
    print(f"ratio={step_s / torch_s:.3f}")


if __name__ == "__main__":
    main()
