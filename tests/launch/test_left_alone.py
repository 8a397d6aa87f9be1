"""Runs of which nobody can tell whether a job has them: no verb takes them, and none ends them."""

from __future__ import annotations

from types import SimpleNamespace

from acting import Sweep
from fake_slurm import FakeSlurm
from run_records import beat

from launch.cli import main
from launch.commands.tend import Pass
from launch.run_states.states import RunState
from vocl.rundir import claims
from vocl.rundir.run_dir import RunDir

VERBS = ("submit", "retry", "fill", "tend", "cancel", "gc")


def act(it: Sweep, verb: str) -> int:
    """The verb on all runs."""
    root = f"runtime.root={it.root}"
    words = {"submit": it.arguments, "fill": it.arguments, "gc": ["--yes", root]}
    return main([verb, *words.get(verb, ["duo", root])])


def orders(slurm: FakeSlurm) -> list[list[str]]:
    """What SLURM was told to do."""
    return [call for call in slurm.calls if call[0] in ("sbatch", "scancel")]


def elsewhere(it: Sweep) -> None:
    """This is a login node of another cluster that shares the results folder."""
    it.slurm.is_now(cluster="other")
    for run in it.ids:
        it.slurm.gone(it.entry(run).name)


def test_no_verb_touches_a_run_of_another_cluster(sweep, capsys) -> None:
    it = sweep()
    assert it.entry(it.ids[0]).sent_to == "made-up@controller"
    elsewhere(it)
    before = orders(it.slurm)
    for verb in VERBS:
        capsys.readouterr()
        assert act(it, verb) == (1 if verb == "cancel" else 0), verb
        said = capsys.readouterr().err
        assert (it.ids[0] in said and "made-up, this is other" in said) == (verb != "gc"), verb
    assert orders(it.slurm) == before
    assert [len(claims.history(RunDir(it.folder(run)))) for run in it.ids] == [1] * 4
    assert all(claims.newest(RunDir(it.folder(run))).is_open for run in it.ids)
    assert it.entry(it.ids[0]).folder.is_dir()


def test_who_names_a_cluster_to_sbatch_sends_to_that(sweep) -> None:
    it = sweep("+cluster.sbatch.clusters=far")
    assert {it.entry(run).sent_to for run in it.ids} == {"far"}
    it.slurm.gone(it.entry(it.ids[0]).name)
    assert it.state(it.ids[0]).reason == "submitted to cluster far, this is made-up"


def test_whoever_waits_for_runs_waits_for_them_too() -> None:
    assert Pass({"a": RunState("unknown")}).live


def test_they_are_counted_with_the_reason(sweep, capsys) -> None:
    it = sweep()
    elsewhere(it)
    capsys.readouterr()
    lines = {"status": "4 runs: 4 unknown;", "ls": " unknown ", "table": "4 unknown", "plan": "4 unknown"}
    lines["why"] = "4 unknown: submitted to cluster made-up, this is other"
    for verb, line in lines.items():
        words = it.arguments if verb in ("plan", "table") else ["duo", f"runtime.root={it.root}"]
        main([verb, *words])
        assert line in capsys.readouterr().out, verb


def test_a_person_may_say_that_the_jobs_are_gone(sweep, capsys) -> None:
    it = sweep()
    elsewhere(it)
    assert main(["cancel", "duo", f"runtime.root={it.root}", "--gone"]) == 0
    assert "4 runs: 4 given up" in capsys.readouterr().out
    assert {(it.state(run).name, it.state(run).reason) for run in it.ids} == {("failed", "cancelled")}
    assert act(it, "retry") == 0
    assert {it.state(run).name for run in it.ids} == {"queued"}
    assert main(["cancel", "duo", f"runtime.root={it.root}", "--gone"]) == 0
    assert {it.state(run).name for run in it.ids} == {"queued"}
    assert main(["cancel", "duo", f"runtime.root={it.root}", "--gon"]) == 2


def test_no_job_of_this_cluster_is_cancelled_for_a_run_of_another(sweep, capsys) -> None:
    """It runs, as its heartbeat says, in a job whose id is somebody else's here."""
    it = sweep()
    run = it.ids[0]
    it.starts(run)
    job = it.entry(run).job
    elsewhere(it)
    beat(it.folder(run), 3)
    it.slurm.job("somebody's", job, 0, "RUNNING", node="n7")
    assert it.state(run).name == "running"
    assert main(["cancel", run, f"runtime.root={it.root}"]) == 1
    assert f"runs in job {job}_0 on" in capsys.readouterr().err
    assert [each["name"] for each in it.slurm.jobs] == ["somebody's"]
    assert claims.newest(RunDir(it.folder(run))).is_open


def as_user(monkeypatch, name: str) -> None:
    """From now on this is another user, on another machine."""
    monkeypatch.setenv("LOGNAME", name)
    monkeypatch.setattr("os.uname", lambda: SimpleNamespace(nodename=f"host-of-{name}"))


def test_a_colleague_who_is_shown_no_jobs_of_others_leaves_them_alone(sweep, monkeypatch, capsys) -> None:
    """Also when her own submission is refused in the end: the run's job goes on with it."""
    as_user(monkeypatch, "ann")
    it = sweep()
    it.slurm.is_now(private=True)
    pending, silent, beating, requeued = it.ids
    for run in it.ids[1:]:
        it.starts(run)
    beat(it.folder(beating), 3)
    entry = it.entry(requeued)
    it.slurm.job(entry.name, entry.job, entry.index(requeued), "PENDING", "BeginTime")
    as_user(monkeypatch, "bob")
    assert [it.state(run).name for run in it.ids] == ["unknown", "unknown", "running", "unknown"]
    it.slurm.fault("sbatch", "Invalid account or account/partition combination specified")
    for verb in VERBS:
        act(it, verb)
    said = capsys.readouterr().err
    assert f"a job may have {pending}, {silent}, {requeued}: a job of ann" in said
    as_user(monkeypatch, "ann")
    for run in it.ids:
        (claim,) = claims.history(RunDir(it.folder(run)))
        assert (claim.token, claim.is_open) == (entry.token, True)
    assert [it.state(run).name for run in it.ids] == ["queued", "running", "running", "queued"]
