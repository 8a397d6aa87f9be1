"""Regions of a step by torch.compile: the same training within rounding, and only where asked for."""

from __future__ import annotations

import shutil

import pytest
import torch
from running import SGD, final, losses, run_folder, tiny

from vocl import run
from vocl.errors import UserError
from vocl.nn.execution import compiled as compiled_
from vocl.nn.execution.compiled import compiling, is_compiling, region

COMPILED = "runtime.compile=default"
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++")
SMALL = (
    *SGD,  # Adam makes much of what is nearly zero
    *("train.steps=4", "runtime.checkpoint_every=4", "model.decoder.num_layers=3"),
    *("backbone=tiny_vit", "backbone.native_px=16", "backbone.depth=1", "backbone.block=1"),
    *("backbone.dim=16", "backbone.num_heads=2", "backbone.patch_px=4"),
)


@needs_compiler
@pytest.mark.slow
def test_it_trains_to_the_same_weights(tmp_path, monkeypatch):
    compile_, made = torch.compile, []
    monkeypatch.setattr(
        torch, "compile", lambda function, **how: made.append(how) or compile_(function, **how)
    )
    compiled_._compiled.cache_clear()
    configs = [tiny(tmp_path / str(len(more)), *SMALL, *more) for more in ((), (COMPILED,))]
    assert run.run(configs[0]) == 0 and not made
    assert run.run(configs[1]) == 0 and len(made) > 5  # programs: none of them is that of the plain run
    plain, compiled = map(final, configs)
    for name, weight in plain["model"].items():
        torch.testing.assert_close(compiled["model"][name], weight, rtol=1e-5, atol=1e-5)
    assert losses(configs[1]) == pytest.approx(losses(configs[0]), rel=1e-5)
    assert run_folder(configs[0]).name == run_folder(configs[1]).name  # it is no part of what a run is


def test_a_region_runs_as_it_is_written_unless_asked_otherwise(monkeypatch):
    made = []
    monkeypatch.setattr(torch, "compile", lambda function, **how: made.append(how) or function)

    @region
    def double(x):
        return 2 * x

    assert double(3) == 6 and not made and not is_compiling()
    with compiling("default"), compiling(None):
        assert double(3) == 6 and not made
    with compiling("reduce-overhead"):
        assert double(3) == double(x=3) == 6 and is_compiling()
    assert made == [{"dynamic": False, "mode": "reduce-overhead"}]
    with pytest.raises(KeyError), compiling("default"):
        raise KeyError
    assert not is_compiling()


@pytest.mark.parametrize(
    ("mode", "marks"), [(None, 0), ("default", 0), ("reduce-overhead", 2), ("max-autotune", 2)]
)
def test_cuda_graphs_are_told_where_a_step_begins(monkeypatch, mode, marks):
    told = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: told.append(is_compiling()))
    for _ in range(2):
        with compiling(mode):
            pass
    assert told == [False] * marks


def test_a_machine_without_a_compiler_is_told_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match=r"runtime.compile=default: .*C\+\+ compiler.* choose null"):
        run.run(tiny(tmp_path, COMPILED))
    assert not list(tmp_path.glob("runs/*/checkpoints/*"))
