"""What low precision costs in scores, by 1 000 steps of the default; about ten minutes on 2 cores.

    python benchmarks/precisions.py

Each of `train.precision` fp32, bf16 and fp8 trains seeds 0 to 2, scored on the dev videos. Printed are mean
and sample deviation over seeds, the gap to fp32, and how wide a gap chance gives: twice the standard error
of the difference of two such means. The last line is the lowest mean video FG-ARI over that of fp32.
On a CPU these are the scores alone: FP8 is rounded as on a GPU and multiplied in bfloat16.
"""

from __future__ import annotations

import statistics
import tempfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from vocl import run
from vocl.config.compose import composed
from vocl.rundir.of_config import run_dir_of

PRECISIONS, SEEDS = ("fp32", "bf16", "fp8"), (0, 1, 2)
SHOWN = ("video_fg_ari", "video_mbo", "video_ari")
SETTINGS = ["train.steps=1000", "eval.discovery.split=dev", "runtime.progress=false"]


def scores(precision: str, seed: int, root: Path) -> dict[str, float]:
    """Scores on the dev videos of one run."""
    own = [f"train.precision={precision}", f"seed={seed}", f"runtime.root={root}"]
    config = composed([*SETTINGS, *own])
    with redirect_stdout(StringIO()):
        assert run.run(config) == 0
    metrics = run_dir_of(config).result().metrics
    return {name: metrics[name] for name in SHOWN}


def main() -> None:
    means: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        found = {p: [scores(p, seed, Path(folder)) for seed in SEEDS] for p in PRECISIONS}
    for name in SHOWN:
        columns = {p: [row[name] for row in rows] for p, rows in found.items()}
        for precision, values in columns.items():
            mean, plain = statistics.mean(values), columns["fp32"]
            noise = 2 * ((statistics.variance(values) + statistics.variance(plain)) / len(SEEDS)) ** 0.5
            print(
                f"{name} {precision} {mean:.3f} +- {statistics.stdev(values):.3f} "
                f"gap {mean - statistics.mean(plain):+.3f} noise {noise:.3f}"
            )
            if name == SHOWN[0]:
                means[precision] = mean
    print(f"ratio={min(means.values()) / means['fp32']:.3f}")


if __name__ == "__main__":
    main()
