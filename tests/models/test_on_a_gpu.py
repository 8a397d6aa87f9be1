"""Every experiment on a GPU that is not there: what is left on the host, and where host and GPU meet."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_gpu import GPU, fake_gpu
from torch import Tensor

from vocl import assemble
from vocl.config.compose import composed
from vocl.dryrun.clips import empty_clip
from vocl.interface import SegmentOptions
from vocl.nn.execution.precision import autocast

CONF = Path(__file__).resolve().parents[2] / "conf" / "experiment"
FITTED = "baselines"  # k-means on a video's points: nothing but values decides what is computed
EXPERIMENTS = sorted(
    str(path.relative_to(CONF).with_suffix(""))
    for path in CONF.glob("*/*.yaml")
    if path.parent.name != FITTED
)

# Where a forward pass, a loss or `segment` makes host and GPU wait for each other, and why it may.
JUSTIFIED = {
    "nn/merging.py:labels": "scipy clusters the few slots of a frame",
    "ops/matching.py:best_matching": "scipy assigns more than five to as many",
    "losses/sinkhorn.py:diameter": "geomloss wants a number: it says how many iterations there are",
    "losses/sinkhorn.py:per_frame": "inside of geomloss",
    "models/interpreter.py:_draws": "frames whose slots were kept are known by name, on the host",
    "models/interpreter.py:_frame_slots": "and by a sum of their pixels",
    "models/solv.py:_link": "scipy links the few slots of a window to those before",
    "ops/cache.py:keep": "slots of frames are kept on the host: a GPU has no room for those of a data set",
}


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_no_tensor_is_left_on_the_host(experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = composed([f"experiment={experiment}"])
    with monkeypatch.context() as patched:  # to draw weights takes a third of the time, and they get lost
        for name in ("uniform_", "normal_"):
            patched.setattr(Tensor, name, lambda weights, *_, **__: weights)
        model, objective = assemble.make_model(config, pretrained=False), assemble.make_objective(config)
    curriculum = assemble.make_curriculum(config)
    with fake_gpu(model, objective) as met:
        stages = zip(curriculum.stages, curriculum.starts, strict=True) if config.loss else ()
        for stage, start in stages:
            feed = stage.feed() if stage.feed else None
            frames = (feed and feed.clip_frames) or config.dataset.clip_frames
            clip = empty_clip(config, model, 2, frames).to(GPU)
            met.clear()
            model.begin(stage, start)
            with autocast(config.train.precision, GPU):
                output = model(clip)
                total, _ = objective(output, clip, stage.terms, start)
            assert total.device == output.attn.device == GPU
            assert set(met) - JUSTIFIED.keys() == set()
        options = SegmentOptions(cyclic=False, iterations=None, seed=0)
        clip = empty_clip(config, model, 1, config.dataset.clip_frames).to(GPU)
        met.clear()
        model.eval()
        assert "masks" not in model.answers or model.segment(clip, options).masks.device == GPU
        assert set(met) - JUSTIFIED.keys() == set()
