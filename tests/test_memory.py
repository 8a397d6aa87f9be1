"""What a step takes of a GPU, found without one."""

from __future__ import annotations

import pytest
import torch

from launch.cli import main
from vocl.config.compose import composed
from vocl.dryrun import memory
from vocl.dryrun.fakes import fake_tensors
from vocl.dryrun.peak import PeakMemory

MB = 2**20
SHAPES = ("movi_c", "movi_e", "ytvis2021")


def test_the_peak_counts_storages_while_they_live() -> None:
    with fake_tensors(), PeakMemory() as found:
        kept = torch.zeros(MB)
        assert found.now == 4 * MB
        assert kept.view(2, -1).data_ptr is not None and found.now == 4 * MB  # a view takes nothing
        (kept + 1) * 2  # the first is gone when the second is there
        assert found.now == 4 * MB
        assert found.peak == 12 * MB
        del kept
        assert found.now == 0


def test_the_backward_pass_and_the_optimizer_are_in_it() -> None:
    with fake_tensors(), PeakMemory() as found:
        weight = torch.zeros(MB, requires_grad=True)
        adam = torch.optim.Adam([weight])
        weight.square().sum().backward()
        adam.step()
        adam.zero_grad(set_to_none=True)
        assert abs(found.now - 12 * MB) < 4096  # the weight and two moments
        assert found.peak >= 16 * MB


def test_more_clips_take_more_and_more_processes_less() -> None:
    def peak(processes: int, *overrides: str) -> int:
        config = composed(["experiment=slotcontrast/synthetic", *overrides])
        return memory.of_training(config, None, processes)[0].peak

    one = peak(1)
    assert peak(1, "train.batch=32") > 1.5 * one > 1.5 * peak(2)


def test_a_run_that_trains_nothing_takes_nothing() -> None:
    assert memory.of_training(composed(["experiment=baselines/synthetic"]), None, 1) == []


def test_each_stage_has_its_own() -> None:
    stages = memory.of_training(composed(["experiment=interpreter/synthetic"]), None, 1)
    assert [stage.stage for stage in stages] == ["image", "video"]


def test_plan_says_it_and_warns_beyond_the_cluster(capsys, tmp_path) -> None:
    words = [
        "plan",
        "experiment=slotcontrast/synthetic",
        "cluster=slurm",
        f"runtime.root={tmp_path}",
        "--memory",
    ]
    assert main([*words, "cluster.gpu_mem_gb=0.01"]) == 0
    *_, told, warning = capsys.readouterr().out.splitlines()
    assert told.startswith("memory: ") and "16 clips of 2 frames" in told
    assert warning.startswith("warning: ") and warning.endswith("cluster.gpu_mem_gb=0.01")
    assert main([*words, "cluster.gpu_mem_gb=80"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("memory: ")


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("precision, gigabytes", [("fp32", 24), ("bf16", 12)])
def test_the_published_batch_fits(name: str, precision: str, gigabytes: int) -> None:
    config = composed([f"experiment=slotcontrast/{name}", f"train.precision={precision}"])
    (stage,) = memory.of_training(config, int(gigabytes * 1e9), 1)
    assert (stage.clips, stage.frames) == (64, 4)
    assert stage.peak < (gigabytes - 1) * 1e9  # CUDA itself takes about 1
