"""SMTC's losses fall from where they begin: on sprites, and on real video with real features."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from vocl import run
from vocl.config.compose import composed

SHARED = Path(os.environ.get("VOCL_SHARED", Path(__file__).parents[3] / "shared"))
DAVIS, WEIGHTS = SHARED / "data", SHARED / "data" / "weights"
QUIET = ("runtime.threads=1", "runtime.device=cpu", "runtime.progress=false", "runtime.log_every=5")


def first_and_last(root: Path, *overrides: str) -> tuple[dict[str, float], dict[str, float]]:
    """Terms of the loss in the first 10 steps of a run, and in its last 50."""
    config = composed([*overrides, *QUIET, f"runtime.root={root}", "eval=[]"])
    run.run(config)
    (log,) = root.glob("runs/*/metrics.jsonl")
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    terms = [{key[5:]: row[key] for key in row if key.startswith("term.")} for row in rows]
    return tuple(
        {key: float(np.mean([row[key] for row in part])) for key in terms[0]}
        for part in (terms[:2], terms[-10:])
    )


def check(first: dict[str, float], last: dict[str, float]) -> None:
    """The transport of semantics costs a tenth less, and matched instances agree by 0.1 of a cosine more."""
    assert last["transport"] < 0.9 * first["transport"], (first, last)
    assert last["instance"] < first["instance"] - 0.1, (first, last)


@pytest.mark.slow
def test_on_sprites(tmp_path: Path) -> None:
    check(*first_and_last(tmp_path, "experiment=smtc/synthetic", "train.steps=150"))


@pytest.mark.skipif(not (DAVIS / "davis2016").is_dir(), reason=f"no DAVIS frames and weights under {DAVIS}")
@pytest.mark.slow
def test_on_real_video(tmp_path: Path) -> None:
    check(
        *first_and_last(
            tmp_path,
            "experiment=smtc/davis2016",
            "train.steps=250",
            "dataset.size_px=[112,196]",
            "dataset.source.sequences=[dog]",
            f"runtime.data_root={DAVIS}",
            f"runtime.weights_root={WEIGHTS}",
        )
    )
