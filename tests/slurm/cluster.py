"""A real SLURM of the tests' own on this machine: slurmctld, slurmd, slurmdbd, MariaDB, munge, in one folder.

    python tests/slurm/cluster.py FOLDER          start, print the lines to export, stop at Ctrl-C
    python tests/slurm/cluster.py FOLDER --keep   start and leave it running
    python tests/slurm/cluster.py --stop FOLDER   stop what ``--keep`` left

Its ports, sockets, keys, database and logs are its own; ``SLURM_CONF`` selects it, and a SLURM that already
runs on the machine is neither used nor touched. Needs root and the Debian packages in ``cluster_daemons.py``.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from cluster_daemons import ClusterError, Daemons, clean_environment, why_not
from cluster_files import Options, free_ports, write_all

WAIT_S = 600.0  # for what takes ten seconds on an idle machine: others may be at work on few cores
SACCT = "JobID,JobIDRaw,JobName,User,Partition,State,ExitCode,Submit,Start,End,ElapsedRaw,AllocTRES,NodeList"
SQUEUE = {
    "id": "%i",
    "array": "%F",
    "name": "%j",
    "state": "%T",
    "partition": "%P",
    "user": "%u",
    "reason": "%r",
}


class TestCluster:
    """One node (8 CPUs declared, 2 fake GPUs), partitions ``low`` < ``high`` and ``cancel`` < ``high``.

    Jobs of ``low`` are requeued when preempted, those of ``cancel`` are ended. The keywords are ``Options``.
    """

    __test__ = False  # not a class of tests, whatever its name

    def __init__(self, folder: Path | None = None, **options):
        self.temporary = folder is None
        self.options = Options(**options)
        # A short path that every user may enter: a socket's has at most 107 bytes, and any job reads here.
        self.folder = Path(
            tempfile.mkdtemp(prefix="slurm-", dir="/tmp") if folder is None else folder
        ).resolve()
        self.name = f"vocl{zlib.crc32(str(self.folder).encode()):08x}"
        self.daemons = Daemons(self.folder, self.name)
        self._guard: subprocess.Popen | None = None

    @property
    def env(self) -> dict[str, str]:
        """The whole environment for a process that shall use this cluster."""
        return clean_environment() | {"SLURM_CONF": f"{self.folder}/slurm.conf"}

    def start(self, guarded: bool = True) -> TestCluster:
        """Start all and wait for an idle node. ``guarded``: all ends when this process does, even killed."""
        if reason := why_not():
            raise ClusterError(reason)
        self.folder.mkdir(parents=True, exist_ok=True)
        if any(self.folder.iterdir()):
            raise ClusterError(f"{self.folder} is not empty")
        if guarded:
            self._guard = subprocess.Popen(
                [sys.executable, __file__, "--guard", *["--remove"] * self.temporary, self.folder],
                stdin=subprocess.PIPE, start_new_session=True, env=clean_environment(),
            )  # fmt: skip
        try:
            self._start_daemons()
        except BaseException as error:
            self.stop(keep_files=isinstance(error, Exception))  # the logs; not when interrupted
            raise
        return self

    def _start_daemons(self) -> None:
        self.ports = free_ports()
        write_all(self.folder, self.name, self.ports, self.options)
        run = self.folder / "run"
        self.daemons.start(
            "munged", "--foreground", f"--socket={run}/munge.socket", f"--key-file={self.folder}/munge.key",
            f"--pid-file={run}/munged.pid", f"--seed-file={run}/munged.seed", "--num-threads=4",
            f"--log-file={self.folder}/log/munged.log",
        )  # fmt: skip
        self.daemons.wait_for("munged", lambda: self._answers("munge", "-n", "-S", f"{run}/munge.socket"))
        if self.options.accounting:
            self._start_database()
            self.start_dbd()
            self.run("sacctmgr", "-i", "add", "cluster", self.name, check=True)
        self.start_controller()
        self.start_node()

    def _start_database(self) -> None:
        run, data = self.folder / "run", self.folder / "database"
        # Nothing outlives the tests, so nothing waits for the disk: seconds of every start.
        common = [
            "--no-defaults",
            f"--datadir={data}",
            "--user=root",
            "--skip-name-resolve",
            "--debug-no-sync",
        ]
        with open(self.daemons.log("mariadb-install-db"), "wb") as log:
            made = subprocess.run(
                ["mariadb-install-db", *common, "--skip-test-db"],
                env=self.env, stdout=log, stderr=log, timeout=300,
            )  # fmt: skip
        if made.returncode:
            raise ClusterError(f"mariadb-install-db failed{self.daemons.tail('mariadb-install-db')}")
        self.daemons.start(
            "mariadbd", *common, f"--port={self.ports.database}", "--bind-address=127.0.0.1",
            f"--socket={run}/db.socket", f"--pid-file={run}/mariadbd.pid",
            f"--init-file={self.folder}/init.sql",
            "--innodb-lock-wait-timeout=900", "--performance-schema=OFF",
        )  # fmt: skip
        self.daemons.wait_for("mariadbd", (run / "db.socket").exists)

    def start_dbd(self) -> None:
        """slurmdbd (again); the database itself runs on."""
        self.daemons.start("slurmdbd", "-D")
        self.daemons.wait_for("slurmdbd", lambda: self._answers("sacctmgr", "-n", "list", "cluster"))

    def stop_dbd(self) -> None:
        """No sacct from now on; slurmctld keeps what it has to say for later."""
        self.daemons.stop("slurmdbd")

    def start_controller(self) -> None:
        """slurmctld (again), with the jobs it knew."""
        self.daemons.start("slurmctld", "-D")
        self.daemons.wait_for("slurmctld", lambda: self._answers("scontrol", "ping", words=["is UP"]))

    def stop_controller(self) -> None:
        """No squeue, sbatch, scontrol from now on; running jobs go on."""
        self.daemons.stop("slurmctld")

    def start_node(self) -> None:
        """slurmd (again), up to an idle or busy node."""
        self.daemons.start("slurmd", "-D")
        ask, up = ("sinfo", "-h", "-o", "%T"), ("idle\n", "mixed\n", "allocated\n", "completing\n")
        self.daemons.wait_for("slurmd", lambda: self._answers(*ask, words=up))

    def stop_node(self) -> None:
        """slurmd away; its jobs' processes go on."""
        self.daemons.stop("slurmd")

    def stop(self, keep_files: bool = False) -> None:
        """Jobs and daemons end at once; the folder goes too when it is a temporary one."""
        self.daemons.kill_all()
        if self._guard is not None:
            self._guard.kill()
            self._guard.wait()
            self._guard = None
        if self.temporary and not keep_files:
            shutil.rmtree(self.folder, ignore_errors=True)

    def run(
        self, *command: str | Path, timeout: float = 180, check: bool = False, **keywords
    ) -> subprocess.CompletedProcess[str]:
        """A command against this cluster; ``check`` raises with what it said; ``user=``: run as that user."""
        done = subprocess.run(
            [str(part) for part in command],
            env=keywords.pop("env", self.env), capture_output=True, text=True, timeout=timeout, **keywords,
        )  # fmt: skip
        if check and done.returncode:
            raise ClusterError(f"{' '.join(done.args)}: exit {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def _answers(self, *command: str, words: Sequence[str] = ("",)) -> bool:
        """Whether the command succeeds and says one of the words."""
        try:
            done = self.run(*command, timeout=60)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0 and any(word in done.stdout for word in words)

    def sbatch(self, *arguments: str | Path, **keywords) -> str:
        """Submit, return the job's id."""
        return (
            self.run("sbatch", "--parsable", *arguments, check=True, **keywords).stdout.strip().split(";")[0]
        )

    def sacct(self, job_id: str, duplicates: bool = True) -> list[dict[str, str]]:
        """A row per job or array element, oldest first; ``duplicates``: one per attempt of each."""
        options = ["-D"] if duplicates else []
        command = ["sacct", "-X", "-P", *options, "-j", job_id, f"--format={SACCT}"]
        header, *rows = self.run(*command, check=True).stdout.splitlines()
        return [dict(zip(header.split("|"), row.split("|"), strict=True)) for row in rows]

    def ended(self, job_id: str, count: int = 1) -> list[dict[str, str]]:
        """Rows of sacct once ``count`` attempts or elements are over, else none: made for ``wait_until``.

        Until up to 5 s after a job's end slurmdbd has no partition for it, and the name "allocation".
        """
        rows = [row for row in self.sacct(job_id) if row["End"] != "Unknown" and row["Partition"]]
        return rows if len(rows) >= count else []

    def squeue(self, *arguments: str) -> list[dict[str, str]]:
        """Jobs pending and running, array elements apart; keys ``SQUEUE``."""
        output = self.run(
            "squeue", "-r", "-h", "-o", "|".join(SQUEUE.values()), *arguments, check=True
        ).stdout
        return [dict(zip(SQUEUE, row.split("|"), strict=True)) for row in output.splitlines()]

    def state(self, job_id: str) -> str | None:
        """What squeue says of a job or an element (the first, given an array's id); None: it is gone."""
        rows = [row for row in self.squeue("--states=all") if job_id in (row["id"], row["array"])]
        return rows[0]["state"] if rows else None

    def wait_until(self, true: Callable[[], object], seconds: float = WAIT_S, every: float = 0.3):
        """The first true value of ``true()``, asked ``every`` so often; ClusterError after ``seconds``."""
        deadline = time.monotonic() + seconds
        while not (value := true()):
            if time.monotonic() > deadline:
                queue = self.run("squeue", "-r").stdout
                raise ClusterError(f"not within {seconds:.0f} s\n{queue}{self.daemons.tail('slurmctld')}")
            time.sleep(every)
        return value

    def preempt(self, job_id: str, needs: Sequence[str] = ("--exclusive",)) -> None:
        """Have a running job preempted by a short one in ``high``, which is gone again when this returns.

        By default it needs the whole node, so every other job of ``low`` and ``cancel`` is preempted with it.
        """
        intruder = self.sbatch(
            "-p", "high", *needs, "-J", "preempt", "-o", "/dev/null", "--chdir", "/", "--wrap", "sleep 600"
        )
        try:
            self.wait_until(lambda: self.state(job_id) not in ("RUNNING", "COMPLETING"))
        finally:
            self.run("scancel", intruder)
        self.wait_until(lambda: self.state(intruder) in (None, "CANCELLED"))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of this file."""
    chosen = _parser().parse_args(arguments)
    cluster = TestCluster(chosen.folder, accounting=not chosen.no_accounting)
    cluster.temporary = chosen.remove
    if chosen.guard:
        sys.stdin.read()  # ends with the process that holds the other end
    if chosen.stop or chosen.guard:
        cluster.stop()
        return 0
    try:
        cluster.start(guarded=not chosen.keep)
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"export SLURM_CONF={cluster.folder}/slurm.conf", flush=True)
    if chosen.keep:
        print(f"# stop it: {sys.executable} {__file__} --stop {cluster.folder}")
        return 0
    try:
        signal.pause()
    except KeyboardInterrupt:
        cluster.stop()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="A real SLURM of the tests' own on this machine.")
    parser.add_argument("folder", type=Path)
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--keep", action="store_true", help="leave it running")
    action.add_argument("--stop", action="store_true", help="stop the one that --keep left in FOLDER")
    action.add_argument("--guard", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--no-accounting", action="store_true", help="neither slurmdbd nor a database")
    parser.add_argument("--remove", action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
