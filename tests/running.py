"""Tiny runs for the tests of the loop: in this process, in a child that may be killed, on several ranks."""

from __future__ import annotations

import copy
import functools
import json
import os
import re
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

from vocl import assemble, run
from vocl.config.compose import composed
from vocl.config.run_config import RunConfig
from vocl.rundir.checkpoint import Checkpoints
from vocl.rundir.of_config import run_dir_of
from vocl.tracking.log import unstamped

TINY = (
    "train.steps=12",
    "train.batch=4",
    "dataset.source.size_px=16",
    "dataset.size_px=[16,16]",
    "dataset.source.num_frames=4",
    "dataset.source.num_train=6",
    "dataset.source.num_validation=2",
    "model.slot_dim=8",
    "model.adapter.hidden_ratio=1.0",
    "model.predictor.ffn_dim=8",
    "model.corrector.mlp_dim=8",
    "model.decoder.hidden_dim=8",
    "optim.schedule.warmup_steps=2",
    "runtime.checkpoint_every=5",
    "runtime.log_every=1",
    "runtime.threads=1",
    "runtime.device=cpu",
    "runtime.progress=false",
)


class Killed(BaseException):
    """Ends a run in this process as a kill would: nothing of ours catches it."""


SGD = (
    "optim=sgd",
    "optim/schedule=constant",
    "optim.schedule.warmup_steps=0",
    "optim.lr=0.05",
    "train.clip=0.5",
)


def untrained(folder: Path, *overrides: str) -> Path:
    """`folder` as that of a run whose model has its initial weights."""
    config = composed(overrides)
    torch.manual_seed(0)
    weights = assemble.make_model(config, pretrained=False).state_dict()
    Checkpoints(folder / "checkpoints").save(1, {"model": weights, "frozen": None})
    (folder / "config.yaml").write_text(yaml.safe_dump(config.content))
    return folder


def tiny(root: Path, *overrides: str) -> RunConfig:
    """The checked config of a run that takes a tenth of a second."""
    return rooted(root, copy.deepcopy(_composed(overrides)))


def rooted(root: Path, config: RunConfig) -> RunConfig:
    """`config` with its results in the folder `root`."""
    return replace(config, runtime=replace(config.runtime, root=str(root)))


@functools.cache
def _composed(overrides: tuple[str, ...]) -> RunConfig:
    return composed([*TINY, *overrides])


def at_step(monkeypatch: Any, step: int, act: Callable[[], None]) -> None:
    """Call `act` once, in the middle of step `step`: after its forward pass, before its update."""
    forward, acted = run.Trainer.forward, []

    def hooked(self: Any, at: int, clip: Any) -> Any:
        if at == step and not acted:
            acted.append(at)
            act()
        return forward(self, at, clip)

    monkeypatch.setattr(run.Trainer, "forward", hooked)


def send(number: signal.Signals) -> Callable[[], None]:
    """Send this process a real signal."""
    return lambda: os.kill(os.getpid(), number)


def run_folder(config: RunConfig) -> Path:
    """Where the run of `config` lives."""
    return run_dir_of(config).path


def final(config: RunConfig) -> dict[str, Any]:
    """The newest valid checkpoint's state."""
    _, state = Checkpoints(run_folder(config) / "checkpoints").newest()
    return state


def result(config: RunConfig) -> dict[str, Any]:
    return json.loads((run_folder(config) / "result.json").read_text())


def steps_logged(config: RunConfig) -> list[int]:
    lines = (run_folder(config) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def losses(config: dict[str, Any]) -> list[float]:
    lines = (run_folder(config) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def same(a: Any, b: Any, path: str = "") -> None:
    """Assert that two states are equal bit for bit."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            same(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            same(x, y, f"{path}[{i}]")
    else:
        assert a == b, path


def told(err: str) -> list[str]:
    """What runs have logged beside what they are, without times and levels; `err`: stderr or log.txt."""
    lines = [unstamped(line) for line in err.splitlines()]
    return [line for line in lines if not re.match(r"run \w{10} in |steps \d+ to \d+ on ", line)]


def child(
    function: Callable[[], int], environment: dict[str, str] | None = None, log: Path | None = None
) -> int:
    """Fork a process that runs `function` and exits with its value; returns its id.

    It starts in milliseconds, for torch is loaded already; with one thread nothing hangs in it.
    """
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        os.environ.update(environment or {})
        if log is not None:
            handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            sys.stdout = os.fdopen(1, "w", closefd=False)
            sys.stderr = os.fdopen(2, "w", closefd=False)
        torch.set_num_threads(1)
        code = function()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(pid: int, timeout_s: float = 300) -> int:
    """The exit code of a child (negative: the signal that ended it)."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError(f"process {pid} did not end in {timeout_s} s")


def torn_at(config: RunConfig, monkeypatch: Any, *steps: int) -> None:
    """Run to its end what is asked to stop at each of `steps`."""
    for step in steps:
        with monkeypatch.context() as patch:
            at_step(patch, step, send(signal.SIGTERM))
            assert run.run(config) == 75
    assert run.run(config) == 0


def on_ranks(world: int, function: Callable[[int], int], log: Path | None = None) -> list[int]:
    """Run `function(rank)` in `world` forked processes, in the environment of torchrun."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    pids = [
        child(lambda r=rank: function(r), {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}, log)
        for rank in range(world)
    ]
    return [wait(pid) for pid in pids]


def two_ranks_equal_one(one: RunConfig, two: RunConfig, log: Path) -> None:
    """Run `one` in this process and `two` on two ranks: to the same weights, but for the order of sums.

    With `SGD`, for Adam makes much of what is nearly zero.
    """
    assert run.run(one) == 0
    assert on_ranks(2, lambda rank: run.run(two), log) == [0, 0], log.read_text()
    theirs = final(two)["model"]
    for name, tensor in final(one)["model"].items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=1e-6, msg=name)
