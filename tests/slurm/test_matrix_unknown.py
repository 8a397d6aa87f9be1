"""What the queue does not show is not gone: other clusters, other users, a shell's options, a cut list."""

from __future__ import annotations

import getpass
import grp
import os
import pwd
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running import child, wait
from sweeps import Sweeps, shared_folder

from launch import cli
from launch.selection.plan import Spec
from launch.slurm import ledger
from vocl.rundir.results_root import ResultsRoot

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
LATER = "+cluster.sbatch.begin=2099-01-01"
VERBS = ("submit", "retry", "fill", "tend", "cancel")
COLLEAGUE = "nobody"


@pytest.fixture(scope="module")
def sweeps(start_cluster) -> Iterator[Sweeps]:
    with shared_folder() as folder:
        yield Sweeps(start_cluster(max_array_size=4), folder)


@pytest.fixture(scope="module", autouse=True)
def limited(sweeps: Sweeps) -> Iterator[tuple]:
    """A run that meets its time limit while other tests run, submitted from a shell in which submitit
    would have SLURM send another signal."""
    gate = sweeps.gate("limited")
    own = ("cluster.time_min=4", "cluster.signal_s=120", f"loss.probe.folder={gate}")
    words = sweeps.words("seed=1", *own)
    (spec,) = sweeps.specs(words)
    shell = sweeps.cluster.env | {"SUBMITIT_PREEMPT_SIGNAL": "USR1", "SBATCH_SIGNAL": "B:HUP@30"}
    command = [sys.executable, "-m", "launch.cli", "submit", *words]
    done = sweeps.cluster.run(*command, env=shell, cwd=REPOSITORY, timeout=600)
    assert done.returncode == 0, done.stderr

    def wait_for_limit() -> None:
        sweeps.arrived(gate)
        sweeps.let_go(spec, gate)

    thread = threading.Thread(target=wait_for_limit)
    thread.start()
    yield spec, thread
    thread.join()


def act(words: list[str], capsys) -> str:
    """Every verb that may take or end runs, on those of `words`; what they said."""
    capsys.readouterr()
    for verb in VERBS:
        cli.main([verb, *words])
    return "".join(capsys.readouterr())


def assert_untouched(sweeps: Sweeps, specs: list[Spec], tokens: list[str]) -> None:
    """Each run has the one claim that it had, and it is open."""
    assert [(claim.token, claim.end) for s in specs for claim in sweeps.claims(s)] == [
        (t, None) for t in tokens
    ]


def assert_once(sweeps: Sweeps, *specs: Spec) -> None:
    """Each was done by its first claim, in one job, with the weights of its undisturbed twin."""
    sweeps.settled(*specs)
    sweeps.assert_whole(*specs)
    for spec in specs:
        (claim,) = sweeps.claims(spec)
        assert claim.end["outcome"] == "done"
        assert sweeps.sacct(sweeps.job(spec))[-1] == ("COMPLETED", "0:0")


def cut_short(folder: Path, lines: int) -> str:
    """A PATH on which squeue says no more than its first lines."""
    folder.mkdir()
    real = shutil.which("squeue")
    (folder / "squeue").write_text(f'#!/bin/sh\n{real} "$@" | head -n {lines}\n')
    (folder / "squeue").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_options_of_a_shell_hide_no_job(sweeps: Sweeps, capsys):
    words = sweeps.words("seed=2,3", LATER)
    specs = sweeps.specs(words)
    shell = {"SQUEUE_PARTITION": "high", "SQUEUE_USERS": COLLEAGUE, "SQUEUE_STATES": "RUNNING"}
    shell |= {"SACCT_FORMAT": "JobID", "SCANCEL_STATE": "RUNNING", "SBATCH_PARTITION": "high"}
    with sweeps.environment(**shell):
        assert cli.main(["submit", *words]) == 0
        tokens = [sweeps.claims(spec)[0].token for spec in specs]
        capsys.readouterr()
        for verb in ("status", "tend", "submit"):
            assert cli.main([verb, *words]) == 0
            assert "2 queued" in capsys.readouterr().out
        assert_untouched(sweeps, specs, tokens)
        assert cli.main(["cancel", specs[1].id, f"runtime.root={sweeps.root}"]) == 0
        sweeps.wait(lambda: sweeps.cluster.state(sweeps.job(specs[1])) in (None, "CANCELLED"))
    assert {row["partition"] for row in sweeps.cluster.squeue(f"--name=vocl-{tokens[0]}")} == {"low"}
    sweeps.now(specs[0])
    assert_once(sweeps, specs[0])
    assert (sweeps.state(specs[1]).name, sweeps.state(specs[1]).reason) == ("failed", "cancelled")


@pytest.mark.parametrize("lines", [1, 2])
def test_a_list_that_was_cut_makes_no_run_gone(sweeps: Sweeps, capsys, lines: int):
    words = sweeps.words(f"seed={lines}0,{lines}1,{lines}2", LATER)
    specs = sweeps.specs(words)
    assert sweeps.submit(words) == 0
    tokens = [sweeps.claims(spec)[0].token for spec in specs]
    with sweeps.environment(PATH=cut_short(sweeps.folder / f"cut{lines}", lines)):
        capsys.readouterr()
        for verb in ("status", "tend", "submit"):
            assert cli.main([verb, *words]) == 0
            assert "3 queued" in capsys.readouterr().out
    assert_untouched(sweeps, specs, tokens)
    for spec in specs:
        sweeps.now(spec)
    assert_once(sweeps, *specs)


def test_a_run_of_another_cluster_is_left_alone(sweeps: Sweeps, start_cluster, capsys):
    other = start_cluster(max_array_size=5)
    words = sweeps.words("seed=4,5", LATER)
    specs = sweeps.specs(words)
    assert sweeps.submit(words) == 0
    tokens = [sweeps.claims(spec)[0].token for spec in specs]
    assert ledger.read(ResultsRoot(sweeps.root), tokens[0]).sent_to.startswith(f"{sweeps.cluster.name}@")
    with sweeps.environment(**other.env):
        said = act(words, capsys)
        cli.main(["status", *words])
        assert "2 unknown" in capsys.readouterr().out
    assert f"submitted to cluster {sweeps.cluster.name}, this is {other.name}" in said
    assert other.squeue() == []
    assert_untouched(sweeps, specs, tokens)
    for spec in specs:
        sweeps.now(spec)
    assert_once(sweeps, *specs)
    with sweeps.environment(**other.env):
        assert cli.main(["tend", *words]) == 0
        assert "2 runs: 2 done" in capsys.readouterr().out


@pytest.fixture(scope="module")
def private(start_cluster) -> Iterator[Sweeps]:
    """A cluster that shows nobody another's jobs, and a folder that belongs to two users' group."""
    with shared_folder() as folder:
        made = Sweeps(start_cluster(slurm={"PrivateData": "jobs"}), folder)
        made.root.mkdir()
        os.chown(made.root, 0, grp.getgrnam("nogroup").gr_gid)
        made.root.chmod(0o2775)
        before = os.umask(0o002)
        yield made
        os.umask(before)


def as_colleague(sweeps: Sweeps, function: Callable[[], None], log: Path) -> str:
    """What `function` says as another user of the cluster, in whose shell she submits."""

    def act() -> int:
        user = pwd.getpwnam(COLLEAGUE)
        os.setgroups([])
        os.setgid(grp.getgrnam("nogroup").gr_gid)
        os.setuid(user.pw_uid)
        os.umask(0o002)
        os.environ.update(sweeps.cluster.env, LOGNAME=COLLEAGUE, USER=COLLEAGUE, HOME=str(log.parent))
        function()
        return 0

    for verb in ("status", *VERBS):  # she may not be able to read this interpreter's own modules
        cli.load(verb)
    log.touch()
    log.chmod(0o666)
    assert wait(child(act, log=log), 1200) == 0, log.read_text()
    return log.read_text()


def test_a_colleague_who_is_shown_no_job_leaves_runs_alone(private: Sweeps):
    """One waits, one was preempted and waits again: her submission, which SLURM refuses, takes neither."""
    gate = private.gate("requeued")
    own = {"pending": ("seed=6", LATER), "requeued": ("seed=7", f"loss.probe.folder={gate}")}
    words = {name: private.words(*each) for name, each in own.items()}
    specs = [private.specs(each)[0] for each in words.values()]
    for each in words.values():
        assert private.submit(each) == 0
    tokens = [private.claims(spec)[0].token for spec in specs]
    private.arrived(gate)
    job = private.job(specs[1])
    private.cluster.preempt(job)
    private.let_go(specs[1], gate)
    private.cluster.run("scontrol", "hold", job, check=True)
    private.wait(lambda: private.cluster.state(job) == "PENDING")

    def colleague() -> None:
        assert getpass.getuser() == COLLEAGUE
        for each in words.values():
            cli.main(["status", *each])
            for verb in VERBS:
                cli.main([verb, *each, "cluster.partition=nosuch"])

    said = as_colleague(private, colleague, private.folder / "colleague.txt")
    assert said.count("1 unknown") >= 2
    assert f"a job of {getpass.getuser()}, and this cluster shows nobody another's jobs" in said
    assert_untouched(private, specs, tokens)
    private.cluster.run("scontrol", "release", job, check=True)
    private.now(specs[0])
    assert_once(private, *specs)
    assert [state for state, _ in private.sacct(job, 2)] == ["PREEMPTED", "COMPLETED"]
    assert private.ends(specs[1]) == ["stopped", "done"]


@pytest.mark.parametrize(("number", "seed"), [("USR1", 8), ("HUP", 9)])
def test_any_warning_saves_and_requeues(sweeps: Sweeps, number: str, seed: int):
    gate = sweeps.gate(f"warned-{number}")
    words = sweeps.words(f"seed={seed}", f"loss.probe.folder={gate}")
    (spec,) = sweeps.specs(words)
    assert sweeps.submit(words) == 0
    sweeps.arrived(gate)
    sweeps.cluster.run("scancel", f"--signal={number}", sweeps.job(spec), check=True)
    sweeps.let_go(spec, gate)
    assert_once(sweeps, spec)
    assert sweeps.ends(spec) == ["stopped", "done"]
    assert [s for s, _ in sweeps.sacct(sweeps.job(spec), 2)] == ["REQUEUED", "COMPLETED"]


def test_the_limit_sends_the_signal_that_vocl_names(sweeps: Sweeps, limited):
    spec, thread = limited
    (script,) = (sweeps.root / "ledger" / sweeps.claims(spec)[0].token).glob("*submission.sh")
    assert [line for line in script.read_text().splitlines() if "--signal" in line] == [
        "#SBATCH --signal=USR2@120"
    ]
    thread.join()
    assert_once(sweeps, spec)
    *stops, end = sweeps.ends(spec)  # on a busy machine the signal may come before the gate, and once more
    assert set(stops) == {"stopped"} and end == "done"
    executions = [state for state, _ in sweeps.sacct(sweeps.job(spec), len(stops) + 1)]
    assert executions == ["REQUEUED"] * len(stops) + ["COMPLETED"]
