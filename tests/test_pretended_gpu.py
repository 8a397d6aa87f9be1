"""Whole runs on a GPU that is pretended: every tensor is where it must be, and they end as on a CPU."""

from __future__ import annotations

import pytest
import torch
from pretended_gpu import GPU, pretended_gpu
from running import SGD, final, losses, result, rooted, run_folder, tiny

from vocl import run
from vocl.commands.replay import replay
from vocl.config.compose import composed

EVALS = "eval=[discovery,objects,tracking,first_frame_objects,matched_objects,davis_unsupervised]"


def test_what_a_gpu_refuses_is_refused() -> None:
    host = torch.ones(3)
    with pretended_gpu():
        there, here = torch.ones(3, device=GPU), torch.from_numpy(host.numpy())
        assert (there.device, here.device) == (GPU, torch.device("cpu"))
        assert there[1:].device == (2 * there).device == torch.zeros_like(there).device == GPU
        assert there.cpu().device == here.device and here.to(GPU).device == GPU
        for refused in (
            lambda: there + here,
            lambda: torch.stack([there[0], here[0]]),
            lambda: here[there > 0],
            lambda: there.numpy(),
        ):
            with pytest.raises((RuntimeError, TypeError)):
                refused()
        assert (there + here[0]).device == there[here > 0].device == GPU  # which a GPU takes
        assert here.copy_(there).device == torch.device("cpu")


def test_a_run_ends_as_on_a_cpu(tmp_path, capsys) -> None:
    settings = (*SGD, EVALS, "runtime.keep_masks=true", "runtime.late_checks=true")
    on_cpu, on_gpu = (tiny(tmp_path / name, *settings) for name in ("cpu", "gpu"))
    assert run.run(on_cpu) == 0
    with pretended_gpu():
        assert run.run(on_gpu) == 0
        capsys.readouterr()
        replay(str(run_folder(on_gpu)), ["steps=6:8"])
    replayed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step ")]
    assert [float(line.split()[3]) for line in replayed] == pytest.approx(losses(on_gpu)[6:8], rel=1e-5)
    for name, weight in final(on_cpu)["model"].items():
        torch.testing.assert_close(final(on_gpu)["model"][name], weight, rtol=1e-5, atol=1e-6)
    theirs, ours = result(on_cpu), result(on_gpu)
    assert ours["device"] == "pretended" and not ours.get("failed") and len(ours["evals"]) == 6
    for name, entry in theirs["evals"].items():
        found = ours["evals"][name]["metrics"]
        for metric, score in entry["metrics"].items():
            assert found[metric] == (None if score is None else pytest.approx(score, abs=1e-3))


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        "slotcontrast/synthetic train.precision=fp8 runtime.workers=1",
        "slotcontrast/dynamics_synthetic",
        "slotcurri/synthetic train.precision=bf16 runtime.probe_every=2",
        "smtc/synthetic eval=[single_object,propagation] eval.propagation.rule.short_px=dataset",
        "smtc/synthetic runtime.feature_cache=always",
        "interpreter/synthetic",
        "solv/synthetic",
        "videosaur/synthetic",
        "savi/synthetic_boxes",
        "baselines/synthetic",
    ],
)
def test_each_method_trains_and_is_scored(tmp_path, overrides) -> None:
    words = f"experiment={overrides} debug=tiny runtime.progress=false".split()
    config = rooted(tmp_path, composed(words))
    with pretended_gpu():
        assert run.run(config) == 0
    assert result(config)["device"] == "pretended"
