"""A training with loader processes is stopped, fails and ends as one without."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from running import at_step, child, final, on_ranks, result, run_folder, same, steps_logged, tiny, told, wait
from torch.utils.data._utils.pin_memory import pin_memory

from vocl import assemble, run
from vocl.data import loaders
from vocl.data.feed import Feed
from vocl.errors import UserError
from vocl.evaluate.discovery import Discovery
from vocl.interface import Clip, Features, Grid

WORKERS = "runtime.workers=2"
LONG = 120  # seconds: for ever, as far as a test is concerned


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The config of the run that nothing disturbed, made without loader processes."""
    config = tiny(tmp_path_factory.mktemp("whole"))
    assert run.run(config) == 0
    return config


def failed(config: dict, err: str) -> dict:
    """The record of a failure of which one line tells."""
    (said,) = told(err)
    record = json.loads((run_folder(config) / "events" / "0001-failed.json").read_text())
    assert record["message"] in said and "0001-failed.json" in said
    return record


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "XZ"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2, signal.SIGINT])
def test_a_signal_to_every_process_stops_and_loses_nothing(tmp_path, monkeypatch, whole, number):
    config = tiny(tmp_path / "torn", WORKERS)

    def stopped():
        os.setpgid(0, 0)
        # and to each loader process before it begins, and while torch prepares it: it seeds this generator
        os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), number))
        monkeypatch.setattr(random, "seed", lambda *_: os.kill(os.getpid(), number))
        at_step(monkeypatch, 6, lambda: os.killpg(0, number))
        return run.run(config)

    log = tmp_path / "log"
    pid = child(stopped, log=log)
    assert wait(pid) == 75, log.read_text()
    assert told(log.read_text()) == ["stopped at step 7 of 12; the same command goes on"]
    with pytest.raises(ProcessLookupError):
        os.killpg(pid, 0)
    assert final(config)["step"] == 7 and steps_logged(config) == list(range(7))
    record = json.loads((run_folder(config) / "events" / "0001-stopped.json").read_text())
    assert record["signal"] == number
    assert run.run(config) == 0
    same(final(config), final(whole))
    assert result(config)["metrics"] == result(whole)["metrics"]


def test_ranks_with_loaders_stop_as_one(tmp_path, monkeypatch):
    torn, twin = tiny(tmp_path / "torn", WORKERS), tiny(tmp_path / "twin")

    def stopped(rank):
        os.setpgid(0, 0)
        if rank == 1:
            at_step(monkeypatch, 5, lambda: os.killpg(0, signal.SIGTERM))
        return run.run(torn)

    log = tmp_path / "log"
    assert on_ranks(2, stopped, log) == [75, 75], log.read_text()
    assert told(log.read_text()) == ["stopped at step 6 of 12; the same command goes on"]
    assert on_ranks(2, lambda rank: run.run(torn)) == [0, 0]
    assert on_ranks(2, lambda rank: run.run(twin)) == [0, 0]
    same(final(torn), final(twin))


def test_the_evaluation_runs_without_them(tmp_path, monkeypatch):
    score, beside = Discovery._score, []

    def counted(self, *arguments):
        beside.append(len(multiprocessing.active_children()))
        return score(self, *arguments)

    at_step(monkeypatch, 6, lambda: beside.append(len(multiprocessing.active_children())))
    monkeypatch.setattr(Discovery, "_score", counted)
    assert run.run(tiny(tmp_path, WORKERS)) == 0
    assert beside == [2, 0, 0]


@pytest.mark.parametrize("when", ["while it is waited for", "in the midst of a step"])
def test_a_killed_loader_is_a_failure_that_names_it(tmp_path, monkeypatch, capfd, whole, when):
    config, batch = tiny(tmp_path, WORKERS), Feed.batch

    def killed(self, step):
        if step == 7:
            time.sleep(0.5)  # meanwhile the training takes the steps before it
            os.kill(os.getpid(), signal.SIGKILL)
        return batch(self, step)

    def kill():
        one = multiprocessing.active_children()[0]
        one.kill()
        os.waitid(os.P_PID, one.pid, os.WEXITED | os.WNOWAIT)

    with monkeypatch.context() as patch:
        if when == "in the midst of a step":
            at_step(patch, 6, kill)
        else:
            patch.setattr(Feed, "batch", killed)
        assert run.run(config) == 1
    record = failed(config, capfd.readouterr().err)
    assert record["kind"] == "LoaderError" and "killed by SIGKILL: out of memory?" in record["message"]
    if when == "in the midst of a step":
        assert steps_logged(config) == list(range(7))  # it went to its end
    assert not multiprocessing.active_children()
    assert run.run(config) == 0
    same(final(config), final(whole))


def test_what_a_loader_raises_is_one_line_and_its_traceback_in_the_record(tmp_path, monkeypatch, capfd):
    config, batch = tiny(tmp_path, WORKERS), Feed.batch

    def spoilt(self, step):
        if step == 7:
            raise KeyError("frames")
        return batch(self, step)

    monkeypatch.setattr(Feed, "batch", spoilt)
    assert run.run(config) == 1
    record = failed(config, capfd.readouterr().err)
    assert record["kind"] == "LoaderError" and record["message"] == "KeyError: 'frames'"
    assert "in spoilt" in record["traceback"]
    assert steps_logged(config) == list(range(7))
    assert not multiprocessing.active_children()


def test_a_file_that_a_loader_cannot_read_is_the_line_that_it_is_without_loaders(
    tmp_path, monkeypatch, capfd
):
    batch = Feed.batch

    def refused(self, step):
        if step == 7:
            raise UserError("data/train/clip.mp4: frame 7 does not decode")
        return batch(self, step)

    monkeypatch.setattr(Feed, "batch", refused)
    ends = []
    for workers in (0, 2):
        config = tiny(tmp_path / str(workers), f"runtime.workers={workers}")
        try:
            code: object = run.run(config)
        except UserError as error:
            code = str(error)
        lines = [line.replace(str(tmp_path / str(workers)), "") for line in told(capfd.readouterr().err)]
        ends.append((code, lines, steps_logged(config)))
        assert not multiprocessing.active_children()
    assert ends[0] == ends[1] and "frame 7 does not decode" in str(ends[0]), ends
    assert ends[0][2] == list(range(7))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells a process of its parent's end")
def test_loaders_end_with_a_training_that_is_killed(tmp_path, monkeypatch):
    batch = Feed.batch

    def long(self, step):
        time.sleep(LONG if step > 7 else 0)
        return batch(self, step)

    def killed():
        def kill():
            pids = [process.pid for process in multiprocessing.active_children()]
            (tmp_path / "pids").write_text(json.dumps(pids))
            os.kill(os.getpid(), signal.SIGKILL)

        monkeypatch.setattr(Feed, "batch", long)
        at_step(monkeypatch, 6, kill)
        return run.run(tiny(tmp_path, WORKERS))

    assert wait(child(killed)) == -signal.SIGKILL
    pids = json.loads((tmp_path / "pids").read_text())
    assert len(pids) == 2
    until = time.monotonic() + 60
    while any(running(pid) for pid in pids):
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("device", "cores", "environment", "number"),
    [
        ("cpu", 8, {}, 0),
        ("cuda", 8, {}, 7),
        ("cuda", 1, {}, 0),
        ("cuda", 64, {}, 16),
        ("cuda", 64, {"SLURM_CPUS_PER_TASK": "6"}, 5),
        ("cuda", 4, {"SLURM_CPUS_PER_TASK": "6"}, 3),
        ("cuda", 32, {"LOCAL_WORLD_SIZE": "4"}, 7),
    ],
)
def test_as_many_loaders_as_a_rank_has_cores_for(monkeypatch, device, cores, environment, number):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    for name in ("SLURM_CPUS_PER_TASK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert loaders.affordable(torch.device(device)) == number


def test_a_clip_is_pinned_whole(monkeypatch):
    """As torch's own loader asks for it: every tensor, those in mappings and features too."""
    ones = [torch.full((1, 2), float(i)) for i in range(7)]
    clip = Clip(
        video=ones[0],
        valid=ones[1],
        key=ones[2],
        names=("a",),
        views=(ones[3],),
        more={"heat": ones[4]},
        features=Features(ones[5], Grid(1, 1), keys=ones[6]),
    )
    seen = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: seen.append(tensor) or tensor)
    pinned = pin_memory(clip)
    assert isinstance(pinned, Clip) and pinned.names == clip.names
    assert {id(tensor) for tensor in seen} == {id(tensor) for tensor in ones}


def test_a_loader_collects_nothing_of_the_training(tmp_path):
    """What lies on a GPU can be given back by the training alone."""

    class Kept:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            (tmp_path / str(os.getpid())).touch()

    def make(step: int) -> Clip:
        gc.collect()
        return Clip(None, torch.ones(1, 1, dtype=torch.bool), torch.tensor([step]), ("",))

    gc.disable()
    try:
        Kept()
        with loaders.Loaders(make, range(2), 1) as made:
            assert [int(made.take().key) for _ in range(2)] == [0, 1]
        assert not list(tmp_path.iterdir())
        gc.collect()
        assert [path.name for path in tmp_path.iterdir()] == [str(os.getpid())]
    finally:
        gc.enable()


@pytest.mark.parametrize(("device", "pinned"), [("cpu", False), ("cuda", True)])
def test_a_training_on_the_cpu_leaves_a_gpu_beside_it_alone(tmp_path, monkeypatch, device, pinned):
    asked = []

    def ask(make, steps, workers, pinned=False):
        asked.append(pinned)
        raise KeyError

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("vocl.data.feed.Loaders", ask)
    config = tiny(tmp_path)
    source, dataset = assemble.make_source(config, "train"), assemble.make_dataset(config)
    feed = Feed(source, dataset, 0, 2, 2, device=torch.device(device))
    with pytest.raises(KeyError):
        next(feed._made(range(2), 1, stored=False))
    assert asked == [pinned]
