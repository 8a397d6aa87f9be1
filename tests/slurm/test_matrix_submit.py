"""Each run is queued once, whoever submits, however often, and wherever a submitter dies."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import submitit
from cluster import WAIT_S
from running import wait
from sweeps import Sweeps, shared_folder

from launch.slurm import ledger
from vocl.rundir import claims
from vocl.rundir.run_dir import RunDir

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sweeps(start_cluster) -> Iterator[Sweeps]:
    """Indices of an array below 4: what is submitted together often takes several."""
    with shared_folder() as folder:
        yield Sweeps(start_cluster(max_array_size=4), folder)


def die_before(owner: Any, name: str, call: int = 1) -> Callable[[], None]:
    """A preparation of a process that dies instead of making this call for the `call`th time."""
    return lambda: _patch(owner, name, call, lambda function: os._exit(9))


def die_after(owner: Any, name: str, call: int = 1) -> Callable[[], None]:
    """The same, once that call has done its work."""

    def act(function: Callable[[], Any]) -> None:
        function()
        os._exit(9)

    return lambda: _patch(owner, name, call, act)


def _patch(owner: Any, name: str, call: int, act: Callable[..., Any]) -> None:
    function, calls = getattr(owner, name), []

    def hooked(*arguments: Any, **keywords: Any) -> Any:
        calls.append(name)
        if len(calls) == call:
            act(lambda: function(*arguments, **keywords))
        return function(*arguments, **keywords)

    setattr(owner, name, hooked)


STAGES = {  # where a submitter dies: how many runs it was given, how
    "before the ledger": (1, die_before(ledger, "write")),
    "after the ledger": (1, die_after(ledger, "write")),
    "among the claims": (2, die_before(claims, "make", call=2)),
    "after the claims": (1, die_after(claims, "make")),
    "before the ledger is narrowed": (1, die_before(ledger, "narrow")),
    "among the configs": (1, die_after(RunDir, "write_config")),
    "among submitit's files": (1, die_before(submitit.SlurmExecutor, "_submit_command")),
    "after sbatch": (1, die_after(submitit.SlurmExecutor, "_submit_command")),
    "among the files of the jobs": (2, die_after(submitit.core.utils.JobPaths, "move_temporary_file")),
    "before the job is noted": (1, die_before(ledger, "accepted")),
    "after the job is noted": (1, die_after(ledger, "accepted")),
}


def test_submitter_killed_at_each_stage(sweeps: Sweeps):
    specs, seed = {}, 0
    for stage, (count, dies) in STAGES.items():
        words = sweeps.words("seed=" + ",".join(str(seed + i) for i in range(count)), steps=3)
        specs[stage], seed = sweeps.specs(words), seed + count
        assert wait(sweeps.submit_in_child(words, dies), WAIT_S) == 9, stage
    again = sweeps.words("seed=" + ",".join(str(i) for i in range(seed)), steps=3)
    assert sweeps.submit(again) == 0
    everything = [spec for found in specs.values() for spec in found]
    sweeps.settled(*everything)
    assert sweeps.submit(again) == 0
    for stage, found in specs.items():
        for spec in found:
            outcomes = [(claim.end or {}).get("outcome") for claim in sweeps.claims(spec)]
            assert outcomes[-1] == "done" and set(outcomes[:-1]) <= {"withdrawn"}, stage
            assert [start["attempt"] for start in sweeps.starts(spec)] == [1], stage
    sweeps.assert_whole(*specs["after sbatch"], *specs["among the claims"])
    names = {path.name.partition(".")[0] for path in (sweeps.root / "ledger").glob("*.json")}
    queued = [job["name"] for job in sweeps.cluster.squeue("--states=running,pending")]
    assert not {ledger.NAME.format(token=name) for name in names}.intersection(queued)


def test_submitted_twice_runs_once(sweeps: Sweeps, capsys):
    words = sweeps.words("seed=100", steps=3)
    (spec,) = sweeps.specs(words)
    assert [sweeps.submit(words), sweeps.submit(words)] == [0, 0]
    assert "1 queued already, 0 to do" in capsys.readouterr().out.replace("running", "queued")
    sweeps.settled(spec)
    assert sweeps.submit(words) == 0
    assert "1 done already, 0 to do" in capsys.readouterr().out
    assert len(sweeps.claims(spec)) == 1
    sweeps.assert_whole(spec)


def test_two_submitters_at_once(sweeps: Sweeps):
    words = sweeps.words("seed=110,111,112", steps=3)
    specs = sweeps.specs(words)
    pids = [sweeps.submit_in_child(words) for _ in range(3)]
    assert [wait(pid, WAIT_S) for pid in pids] == [0, 0, 0]
    sweeps.settled(*specs)
    for spec in specs:
        assert len(sweeps.claims(spec)) == 1
    sweeps.assert_whole(*specs)


def test_a_folder_with_odd_signs_is_written_to_as_it_is_called(sweeps: Sweeps):
    """A lone run and an array; nothing appears beside it."""
    place, name = sweeps.folder / "odd", "50%_jobs é$x %"
    own = Sweeps(sweeps.cluster, sweeps.folder / "plain")
    own.root = place / name
    words = [own.words(seeds, steps=3) for seeds in ("seed=120", "seed=121,122")]
    specs = [spec for each in words for spec in own.specs(each)]
    for each in words:
        assert own.submit(each) == 0
    own.settled(*specs)
    assert [path.name for path in place.iterdir()] == [name]
    assert len(list((own.root / "ledger").glob("*/*_0_log.out"))) == 3
