"""How long a run takes to reach a score on its dev videos, by its probes: see the records in README.md.

    python benchmarks/time_to.py SCORE TARGET OVERRIDE...
    python benchmarks/time_to.py video_fg_ari 0.75 seed=0

The run is trained to its end in a folder that is thrown away, and probed on up to 64 dev videos 24 times.
`seconds` is the time from the start of the command to the first probe that reaches TARGET; what the probes
took until then is left out. A probe is one look at a curve that goes up and down, so the end of the run
stands beside it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vocl.config.compose import composed

NUM_PROBES = 24
NUM_VIDEOS = 64


def train(overrides: list[str], root: Path) -> tuple[list[dict[str, float]], float]:
    """The probes of the run, each with the moment `at` which its line was seen, and the end of the run."""
    steps = composed(overrides).train.steps
    own = [*overrides, f"runtime.root={root}", "runtime.progress=false"]
    own += [f"runtime.probe_every={max(1, steps // NUM_PROBES)}", f"runtime.probe_videos={NUM_VIDEOS}"]
    began, probes = time.monotonic(), []
    with subprocess.Popen([sys.executable, "-m", "vocl.train", *own], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            time.sleep(0.2)
            probes += [probe | {"at": time.monotonic() - began} for probe in _probes(root)[len(probes) :]]
    if process.returncode:
        raise SystemExit(process.returncode)
    return probes, time.monotonic() - began


def _probes(root: Path) -> list[dict[str, float]]:
    """The probes that are on record; a line that is being written is not one yet."""
    found = []
    for path in root.glob("runs/*/metrics.jsonl"):
        text = path.read_text()
        lines = text[: text.rfind("\n") + 1].splitlines()
        found += [record for record in map(json.loads, lines) if "probe_s" in record]
    return found


def main() -> None:
    score, target, overrides = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
    with tempfile.TemporaryDirectory() as root:
        probes, whole = train(overrides, Path(root))
    spent = 0.0
    reached = None
    for probe in probes:
        spent += probe["probe_s"]
        (value,) = (probe[key] for key in probe if key.endswith(f"/{score}"))
        print(f"step {probe['step']:6d} {score} {value:.3f}   {probe['at'] - spent:.0f} s", flush=True)
        if reached is None and value >= target:
            reached = probe["at"] - spent
    print(f"whole run {whole - spent:.0f} s")
    print(f"seconds={reached:.0f}" if reached is not None else f"seconds=never (below {target})")


if __name__ == "__main__":
    main()
