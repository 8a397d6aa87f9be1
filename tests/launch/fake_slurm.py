"""SLURM's commands as small executables over a JSON file: no daemon, any state, any fault.

    slurm = FakeSlurm(tmp_path / "slurm")          # then put it on PATH: slurm.install(monkeypatch)
    slurm.job("vocl-abc", "7", 0, "RUNNING", node="n1")       # squeue shows it
    slurm.ended("vocl-abc", "7", 1, "TIMEOUT")                # sacct alone shows it
    slurm.fault("squeue", "timeout")               # or garbage, binary, an error message to refuse with
    slurm.missing(monkeypatch, "squeue")           # the command is not there
    slurm.is_now(cluster="other", private=True)    # another cluster, users see no jobs but their own
    slurm.is_now(partitions=["gpu"], max_submit=2)     # it refuses others, and more jobs of one user

sbatch makes pending jobs, scancel and `scontrol requeue` change them, `slurm.calls` lists all calls. A
command that finds an option of its own in the environment (SQUEUE_PARTITION, ...) finds no job.
"""

from __future__ import annotations

import errno
import fcntl
import getpass
import io
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

COMMANDS = ("squeue", "sacct", "sbatch", "scontrol", "scancel")
SHIM = """#!{python} -S
import sys
sys.path.insert(0, {here!r})
from fake_slurm import answer
sys.exit(answer({command!r}, sys.argv[1:], {state!r}))
"""
HANG_S = 30.0
LIVE = ("PENDING", "RUNNING")


class FakeSlurm:
    """The commands in `folder`/bin and what they know in `folder`/state.json."""

    def __init__(self, folder: Path, max_array_size: int = 1001) -> None:
        self.bin, self.state = folder / "bin", folder / "state.json"
        self.bin.mkdir(parents=True)
        content = {"jobs": [], "accounting": [], "faults": {}, "calls": [], "next": 100}
        content |= {"cluster": "made-up", "host": "controller", "private": False}
        content |= {"partitions": None, "max_submit": None, "full": False, "dies": False}
        self.state.write_text(json.dumps(content | {"max_array_size": max_array_size}))
        for command in COMMANDS:
            here = str(Path(__file__).parent)
            text = SHIM.format(python=sys.executable, here=here, command=command, state=str(self.state))
            (self.bin / command).write_text(text)
            (self.bin / command).chmod(0o755)

    def install(self, monkeypatch: Any) -> None:
        """Put the commands first on PATH."""
        monkeypatch.setenv("PATH", str(self.bin), prepend=":")

    def missing(self, monkeypatch: Any, *commands: str) -> None:
        """Commands that this machine lacks; nothing but the others is on PATH then."""
        for command in commands or COMMANDS:
            (self.bin / command).unlink()
        monkeypatch.setenv("PATH", str(self.bin))

    def job(
        self,
        name: str,
        job: str,
        index: int,
        state: str,
        reason: str = "None",
        node: str = "",
        user: str | None = None,
    ) -> None:
        """An element that the queue knows (once more, for another state); by default this user's."""
        entry = {"name": name, "job": job, "index": index, "state": state, "reason": reason, "node": node}
        entry["user"] = user or getpass.getuser()
        with changing(self.state) as content:
            kept = [j for j in content["jobs"] if (j["job"], j["index"]) != (job, index)]
            content["jobs"] = [*kept, entry]

    def gone(self, name: str) -> None:
        """The queue forgets the jobs of that name; accounting has not heard of it."""
        with changing(self.state) as content:
            content["jobs"] = [job for job in content["jobs"] if job["name"] != name]

    def is_now(self, **facts: Any) -> None:
        """Another SLURM: `cluster` (its name), `host` (of its controller), `private` (users see their own
        jobs alone), `partitions`, `max_submit` (jobs of a user), `full` (of others' jobs), `dies` (its
        controller, as somebody submits). It has the same jobs until `gone` says otherwise."""
        with changing(self.state) as content:
            content |= facts

    def ended(
        self,
        name: str,
        job: str,
        index: int,
        state: str,
        code: str = "0:0",
        node: str = "n1",
    ) -> None:
        """An element that left the queue, as accounting tells it (also that it is PENDING, or RUNNING)."""
        entry = {"name": name, "job": job, "index": index, "state": state, "code": code, "node": node}
        entry["user"] = getpass.getuser()
        with changing(self.state) as content:
            kept = [j for j in content["jobs"] if (j["job"], j["index"]) != (job, index)]
            content["jobs"] = kept
            content["accounting"].append(entry)

    def fault(self, command: str, kind: str | None) -> None:
        """From now on `command` hangs ("timeout"), talks nonsense ("garbage", "binary"), says no more than
        its first n lines ("cut n") or refuses with the message `kind`, once ("once ..."); None heals it."""
        with changing(self.state) as content:
            content["faults"][command] = kind

    @property
    def calls(self) -> list[list[str]]:
        """Every command line so far."""
        return json.loads(self.state.read_text())["calls"]

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """What the queue holds."""
        return json.loads(self.state.read_text())["jobs"]


@contextmanager
def changing(path: Path) -> Iterator[dict[str, Any]]:
    """The state, written back after the block; one process at a time."""
    with path.with_suffix(".lock").open("a") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        content = json.loads(path.read_text())
        yield content
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(content, indent=1))
        temporary.replace(path)


def answer(command: str, arguments: list[str], state: str) -> int:
    """What a shim does; its exit code."""
    with changing(Path(state)) as content:
        content["calls"].append([command, *arguments])
        fault = content["faults"].get(command)
        if fault is not None and fault.startswith("once "):
            content["faults"][command], fault = None, fault.removeprefix("once ")
        if fault is None or fault.startswith("cut "):
            with redirect_stdout(io.StringIO()) as said:
                code = globals()[f"_{command}"](content, arguments)
            lines = said.getvalue().splitlines(keepends=True)
            sys.stdout.writelines(lines[: int(fault.removeprefix("cut "))] if fault else lines)
            return code
    if fault == "timeout":
        time.sleep(HANG_S)
    elif fault == "garbage":
        print("Warning: this is | not what you asked for")
        return 0
    elif fault == "binary":
        sys.stdout.buffer.write(b"\xff\xfe|\x00\n")
        return 0
    print(f"{command}: error: {fault}", file=sys.stderr)
    return 1


def _seen(content: dict[str, Any], command: str, kind: str = "jobs") -> list[dict[str, Any]]:
    """What a command shows to this user."""
    if any(name.startswith(f"{command.upper()}_") for name in os.environ):
        return []
    mine = [job for job in content[kind] if job.get("user") == getpass.getuser()]
    return mine if content["private"] else content[kind]


def _option(arguments: list[str], name: str) -> str | None:
    return next((a.partition("=")[2] for a in arguments if a.startswith(f"--{name}=")), None)


def _squeue(content: dict[str, Any], arguments: list[str]) -> int:
    names = _option(arguments, "name")
    form = _option(arguments, "format") or "%A"
    if "--noheader" not in arguments:
        print(re.sub("%[a-zA-Z]", lambda found: found[0][1:].upper(), form))
    for job in _seen(content, "squeue"):
        if names is not None and job["name"] not in names.split(","):
            continue
        if "--states=all" not in arguments and job["state"] not in LIVE:
            continue
        fields = {"%j": job["name"], "%F": job["job"], "%A": job["job"], "%K": str(job["index"])}
        fields |= {"%T": job["state"], "%r": job["reason"], "%N": job["node"]}
        print(re.sub("%[a-zA-Z]", lambda found, fields=fields: fields[found[0]], form))
    return 0


def _sacct(content: dict[str, Any], arguments: list[str]) -> int:
    wanted = (_option(arguments, "jobs") or "").split(",")
    columns = (_option(arguments, "format") or "").split(",")
    for job in _seen(content, "sacct", "accounting"):
        if job["job"] in wanted:
            fields = {"JobName": job["name"], "JobID": f"{job['job']}_{job['index']}", "State": job["state"]}
            fields |= {"ExitCode": job["code"], "NodeList": job["node"]}
            print("|".join(fields[column] for column in columns))
    return 0


def _sbatch(content: dict[str, Any], arguments: list[str]) -> int:
    script = Path(next(a for a in arguments if not a.startswith("-"))).read_text()
    given = dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", script, re.MULTILINE))
    given |= dict(a.removeprefix("--").split("=", 1) for a in arguments if "=" in a)
    count = re.match(r"0-(\d+)", given.get("array", "0-0"))
    last = int(count[1]) if count else 0
    tests = "--test-only" in arguments
    if refusal := _refusal(content, given, last):
        *before, error = refusal
        verdict = "allocation failure" if tests else "sbatch: error: Batch job submission failed"
        said = [*(f"sbatch: error: {line}" for line in before), f"{verdict}: {error}"]
        print("\n".join(said), file=sys.stderr)
        return 1
    if tests:
        print("sbatch: Job 9 to start at 2026-01-01T00:00:00 using 1 processors on nodes n1", file=sys.stderr)
        return 0
    job = str(content["next"])
    content["next"] += 1
    name = given.get("job-name", "").strip("'\"")
    reason = "Dependency" if "dependency" in given else "Priority"
    for index in range(last + 1):
        content["jobs"].append(
            {"name": name, "job": job, "index": index, "state": "PENDING", "reason": reason, "node": ""}
            | {"user": getpass.getuser()}
        )
    print(f"Submitted batch job {job}")
    return 0


def _refusal(content: dict[str, Any], given: dict[str, str], last: int) -> list[str]:
    """What SLURM 22.05 says to a request that it refuses, the error last; nothing where it takes it."""
    if content["dies"]:
        return ["Unable to contact slurm controller (connect failure)"]
    if content["full"]:
        return [os.strerror(errno.EAGAIN)]
    if content["partitions"] is not None and given.get("partition") not in content["partitions"]:
        return [f"invalid partition specified: {given.get('partition')}", "Invalid partition name specified"]
    if "array" in given and last >= content["max_array_size"]:
        return ["Invalid job array specification"]
    own = sum(job.get("user") == getpass.getuser() and job["state"] in LIVE for job in content["jobs"])
    if content["max_submit"] is not None and own + last + 1 > content["max_submit"]:
        return [
            "AssocMaxSubmitJobLimit",
            "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
        ]
    return []


def _scontrol(content: dict[str, Any], arguments: list[str]) -> int:
    if arguments[:2] == ["show", "config"]:
        print("Configuration data as of now")
        print(f"ClusterName             = {content['cluster']}")
        print(f"MaxArraySize            = {content['max_array_size']}")
        print(f"PrivateData             = {'accounts,jobs' if content['private'] else 'none'}")
        print(f"SlurmctldHost[0]        = {content['host']}(10.0.0.1)")
    elif {"show", "job"} <= set(arguments):
        return _show(content, arguments[-1])
    elif arguments[:1] == ["requeue"]:
        for job in _named(content, arguments[1:]):
            job |= {"state": "PENDING", "reason": "BeginTime", "node": ""}
    elif arguments == ["ping"]:
        print(f"Slurmctld(primary) at {content['host']} is {'DOWN' if content['dies'] else 'UP'}")
        return int(content["dies"])
    elif arguments[:2] == ["show", "hostnames"]:
        print(arguments[2].replace(",", "\n"))
    return 0


def _show(content: dict[str, Any], wanted: str) -> int:
    jobs = [job for job in _seen(content, "scontrol") if job["job"] == wanted]
    for job in jobs:
        facts = {"JobId": 1000 + job["index"], "ArrayJobId": wanted, "ArrayTaskId": job["index"]}
        facts |= {"JobName": job["name"], "JobState": job["state"], "Reason": job["reason"]}
        facts |= {"NodeList": job["node"] or "(null)", "Comment": "JobState=COMPLETED of another"}
        print(*(f"{key}={value}" for key, value in facts.items()))
    if not jobs:
        print("slurm_load_jobs error: Invalid job id specified", file=sys.stderr)
    return 0 if jobs else 1


def _scancel(content: dict[str, Any], arguments: list[str]) -> int:
    wanted = _named(content, [a for a in arguments if not a.startswith("-")])
    if any(job not in _seen(content, "scancel") for job in wanted):
        print("scancel: error: Kill job error on job id: Invalid job id specified", file=sys.stderr)
        return 1
    for job in wanted:
        content["jobs"].remove(job)
        if job["state"] == "RUNNING":  # one cancelled while pending leaves no trace in accounting
            ended = {"state": "CANCELLED by 0", "code": "0:15", "node": job["node"]}
            content["accounting"].append({k: job[k] for k in ("name", "job", "index")} | ended)
    return 0


def _named(content: dict[str, Any], ids: list[str]) -> list[dict[str, Any]]:
    return [j for j in content["jobs"] if j["job"] in ids or f"{j['job']}_{j['index']}" in ids]
