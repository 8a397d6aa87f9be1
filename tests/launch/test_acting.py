"""retry, fill and cancel."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
import yaml

from launch.cli import main
from launch.commands import fill
from launch.selection.plan import select
from launch.submission import local, resubmit, snapshot
from vocl.commands.evaluate import requested
from vocl.rundir import claims
from vocl.rundir.run_dir import RunDir


def _fails(it, run: str, code: int = 1) -> None:
    it.starts(run)
    it.ends(run, "FAILED")
    claims.over(claims.newest(RunDir(it.folder(run))), "failed", code=code, line="ValueError: no")


def test_retry_takes_failed_and_interrupted_runs_with_their_snapshot(sweep, monkeypatch) -> None:
    it = sweep()
    failed, lost, waiting, done = it.ids
    code = it.entry(failed).snapshot
    _fails(it, failed)
    it.lost(lost, "NODE_FAIL")
    it.done(done)
    monkeypatch.setattr(snapshot, "take", lambda *_: pytest.fail("took a snapshot"))
    assert main(["retry", "duo", f"runtime.root={it.root}"]) == 0
    assert {it.state(run).name for run in (failed, lost, waiting)} == {"queued"}
    assert it.entry(failed).elements == [[failed], [lost]]
    assert it.entry(failed).snapshot == code
    assert (
        len(claims.history(RunDir(it.folder(waiting)))) == len(claims.history(RunDir(it.folder(done)))) == 1
    )


def test_retry_on_other_nodes_and_with_other_resources(sweep) -> None:
    it = sweep("cluster.exclude=bad1", "cluster.mem_gb=3")
    run = it.ids[0]
    _fails(it, run)
    place = f"runtime.root={it.root}"
    assert main(["retry", run[:6], place, "--exclude-node", "bad2", "cluster.time_min=7"]) == 0
    cluster = it.entry(run).cluster
    assert (cluster.exclude, cluster.time_min, cluster.mem_gb) == ("bad1,bad2", 7, 3)
    assert cluster.kind == "slurm"


def test_retry_with_new_code_takes_a_new_snapshot(sweep, monkeypatch) -> None:
    it = sweep()
    run = it.ids[0]
    _fails(it, run)
    other = it.root / "snapshots" / "fedcba9876543210"
    other.mkdir()
    monkeypatch.setattr(snapshot, "take", lambda root, project: other)
    assert main(["retry", *it.arguments, "--new-code"]) == 0
    assert it.entry(run).snapshot == other.name


def test_retry_says_when_the_snapshot_is_gone(sweep, capsys) -> None:
    it = sweep()
    _fails(it, it.ids[0])
    (it.root / "snapshots" / str(it.entry(it.ids[0]).snapshot)).rename(it.root / "moved")
    assert main(["retry", "duo", f"runtime.root={it.root}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"vocl retry {it.ids[0]} --new-code" in error


@pytest.mark.parametrize("verb", ["retry", "tend"])
def test_it_is_said_when_another_submit_was_faster(sweep, monkeypatch, capsys, verb) -> None:
    it = sweep()
    run = it.ids[0]
    it.lost(run, "PREEMPTED")
    real = resubmit.spec_of

    def late(*arguments):
        claims.make(RunDir(it.folder(run)), claims.newest(RunDir(it.folder(run))), "abc", "slurm")
        return real(*arguments)

    monkeypatch.setattr(resubmit, "spec_of", late)
    main([verb, "duo", f"runtime.root={it.root}"])
    assert "claimed by another submit at the same moment" in capsys.readouterr().out
    assert [claim.token for claim in claims.history(RunDir(it.folder(run)))][1:] == ["abc"]


@pytest.mark.parametrize("option", ["--exclude-node", "--exclude-nodes=x"])
def test_retry_refuses_options_it_does_not_know(option, capsys) -> None:
    assert main(["retry", "duo", option]) == 2
    error = capsys.readouterr().err
    assert error.startswith("vocl retry: ") and "--exclude-node" in error and error.count("\n") == 1


def test_cancel_ends_jobs_of_the_runs_named_and_no_others(sweep, capsys) -> None:
    it = sweep()
    run, running, _, done = it.ids
    it.starts(running)
    it.done(done)
    job = it.entry(run).job
    place = f"runtime.root={it.root}"
    assert main(["cancel", run, running, done, place]) == 0
    assert ["scancel", *sorted(f"{job}_{it.entry(r).index(r)}" for r in (run, running))] in it.slurm.calls
    assert [it.state(r).name for r in it.ids] == ["failed", "failed", "queued", "done"]
    assert it.state(run).reason == it.state(running).reason == "cancelled"
    assert "3 runs: 2 cancelled, 0 not" in capsys.readouterr().out
    main(["tend", "duo", place])
    assert it.state(run).name == "failed"
    assert main(["retry", run, place]) == 0
    assert it.state(run).name == "queued"


def test_cancel_spares_a_job_that_others_share(sweep, capsys) -> None:
    it = sweep("cluster.runs_per_job=2")
    entry = it.entry(it.ids[0])
    first, second = entry.elements[0]
    place = f"runtime.root={it.root}"
    assert main(["cancel", first, place]) == 1
    assert (
        f"not cancelled {first} (seed 0): shares job {entry.job}_0 with {second}; cancel them together"
        in (capsys.readouterr().err)
    )
    assert it.state(first).name == "queued"
    assert main(["cancel", first, second, place]) == 0
    assert it.state(first).name == it.state(second).name == "failed"


def test_cancel_writes_nothing_when_slurm_refuses(sweep, capsys) -> None:
    it = sweep()
    it.slurm.fault("scancel", "Access denied")
    assert main(["cancel", "duo", f"runtime.root={it.root}"]) == 1
    assert "Access denied" in capsys.readouterr().err
    assert {it.state(run).name for run in it.ids} == {"queued"}


def test_cancel_stops_the_child_of_a_pool_alone(tmp_path, declare, monkeypatch, capfd) -> None:
    """The pool is another process, as it is for a person at a second terminal."""
    trainer = tmp_path / "trainer.py"
    trainer.write_text(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
        "print('ready', flush=True)\ntime.sleep(60)\n"
    )
    text = "rows: {none: {loss: [feature_mse]}, batch: {}}\nseeds: [0]\nmetrics: [video_mbo]"
    arguments = ["duo", declare(text, "duo"), f"runtime.root={tmp_path}/r", "cluster=local"]
    code = (
        "import sys, launch.submission.local as local\n"
        f"local.TRAIN = (sys.executable, '-S', {str(trainer)!r})\n"
        f"from launch.cli import main\nsys.exit(main(['submit', *{arguments!r}]))"
    )
    pool = subprocess.Popen([sys.executable, "-c", code])
    ids = [spec.id for spec in select(arguments).runs]
    logs = [tmp_path / "r" / "runs" / run / "log.txt" for run in ids]
    try:
        until = time.monotonic() + 60
        while not all(log.is_file() and "ready" in log.read_text() for log in logs):
            assert time.monotonic() < until
            time.sleep(0.05)
        assert main(["cancel", ids[0], f"runtime.root={tmp_path}/r"]) == 0
        first, second = (claims.newest(RunDir(log.parent)) for log in logs)
        assert first.end["reason"] == "cancelled" and second.end is None
        assert pool.poll() is None
    finally:
        pool.terminate()
        pool.wait(20)


def test_fill_queues_what_is_absent_failed_or_interrupted(sweep, monkeypatch) -> None:
    it = sweep("cluster.max_jobs=3")
    absent = next(run for run in it.ids if it.state(run).name == "absent")
    failed, lost, done = (run for run in it.ids if run != absent)
    _fails(it, failed)
    it.lost(lost, "PREEMPTED")
    it.done(done)
    monkeypatch.setattr(fill, "EVAL", ("true",))
    assert main(["fill", *it.arguments]) == 0
    assert sorted(it.state(run).name for run in it.ids) == ["done", "queued", "queued", "queued"]
    assert main(["fill", *it.arguments]) == 0
    assert {len(claims.history(RunDir(it.folder(run)))) for run in it.ids if run != done} == {2}


def test_fill_tries_what_fails_here_once(tmp_path, declare, monkeypatch) -> None:
    text = "rows: {batch: {}}\nseeds: [0]\nmetrics: [video_mbo]"
    arguments = ["one", declare(text, "one"), f"runtime.root={tmp_path}/r", "cluster=local"]
    monkeypatch.setattr(local, "TRAIN", (sys.executable, "-S", "-c", "raise SystemExit(1)"))
    (spec,) = select(arguments).runs
    for tries in (1, 2):
        assert main(["fill", *arguments]) == 1
        assert len(claims.history(RunDir(tmp_path / "r" / "runs" / spec.id))) == tries


def test_a_run_whose_evaluation_failed_is_done_and_told(tmp_path, declare, monkeypatch, capfd) -> None:
    text = "rows: {batch: {}}\nseeds: [0]\nmetrics: [video_mbo]"
    arguments = ["one", declare(text, "one"), f"runtime.root={tmp_path}/r", "cluster=local"]
    done = json.dumps({"run_id": "x", "metrics": {}, "evals": {}, "failed": {"probe": "ValueError: no"}})
    script = f"import sys, pathlib; pathlib.Path(sys.argv[1]).with_name('result.json').write_text({done!r})"
    script += "; print('eval probe failed: ValueError: no'); sys.exit(1)"
    monkeypatch.setattr(local, "TRAIN", (sys.executable, "-S", "-c", script))
    (spec,) = select(arguments).runs
    assert main(["submit", *arguments]) == 1
    told = f"done, but {spec.id} (batch, all, seed 0): eval probe failed: ValueError: no"
    assert told in capfd.readouterr().err
    assert claims.newest(RunDir(tmp_path / "r" / "runs" / spec.id)).end["outcome"] == "done"
    assert main(["submit", *arguments]) == 0  # nothing is trained again
    assert len(claims.history(RunDir(tmp_path / "r" / "runs" / spec.id))) == 1
    capfd.readouterr()
    main(["plan", *arguments])
    assert "done (eval probe failed: ValueError: no)" in capfd.readouterr().out


ROWS = """
base: {eval: [discovery]}
rows: {plain: {}, cyclic: {eval.discovery.options.cyclic: true}}
seeds: [0]
metrics: [video_mbo]
"""


def test_fill_adds_the_evaluations_that_a_trained_run_lacks(tmp_path, declare, monkeypatch) -> None:
    arguments = ["twice", declare(ROWS, "twice"), f"runtime.root={tmp_path}/r"]
    plain, cyclic = select(arguments).specs
    assert plain.id == cyclic.id and plain.config.eval != cyclic.config.eval
    folder = tmp_path / "r" / "runs" / plain.id
    report = folder / "eval" / "abc" / "report.json"
    report.parent.mkdir(parents=True)
    entry = {"eval_id": "abc", "protocol": "vocl", "metrics": {}, "num_videos": 1, "rows": "x"}
    report.write_text(json.dumps(entry | {"eval": plain.config.eval["discovery"].content}))
    result = {"run_id": plain.id, "metrics": {}, "evals": {"discovery": entry}}
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "config.yaml").write_text(yaml.safe_dump(plain.content))
    assert fill.missing_evaluations(RunDir(folder), plain) == {}
    overrides = fill.missing_evaluations(RunDir(folder), cyclic)["discovery"]
    assert requested(plain.config, list(overrides)).eval == cyclic.config.eval
    calls = tmp_path / "calls"
    script = f"import sys; open({str(calls)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')"
    monkeypatch.setattr(fill, "EVAL", (sys.executable, "-S", "-c", script))
    assert main(["fill", *arguments]) == 0
    (call,) = calls.read_text().splitlines()
    assert call.startswith(f"{plain.id} eval=[] +eval.discovery={{") and "cyclic:true" in call


def test_runs_of_a_pool_that_was_killed_are_taken_up_again(tmp_path, declare, monkeypatch) -> None:
    text = "rows: {batch: {}}\nseeds: [0]\nmetrics: [video_mbo]"
    arguments = ["one", declare(text, "one"), f"runtime.root={tmp_path}/r", "cluster=local"]
    done = json.dumps({"run_id": "x", "metrics": {}, "evals": {}})
    script = f"import sys, pathlib; pathlib.Path(sys.argv[1]).with_name('result.json').write_text({done!r})"
    monkeypatch.setattr(local, "TRAIN", (sys.executable, "-S", "-c", script))
    (spec,) = select(arguments).runs
    folder = tmp_path / "r" / "runs" / spec.id
    with monkeypatch.context() as during:
        during.setattr(claims, "over", lambda *_, **__: None)
        assert main(["submit", *arguments]) == 0
    (folder / "result.json").unlink()
    (folder / "events").mkdir()
    claim = json.loads((folder / "jobs" / "0001.json").read_text())
    (folder / "jobs" / "0001.json").write_text(json.dumps(claim | {"born": 1}))  # another process has its pid
    assert main(["retry", spec.id, f"runtime.root={tmp_path}/r"]) == 0
    assert (folder / "result.json").is_file() and len(claims.history(RunDir(folder))) == 2
