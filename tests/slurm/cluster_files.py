"""Every configuration file of the test cluster; what is said here is all that its daemons read."""

from __future__ import annotations

import dataclasses
import os
import secrets
import socket
import stat
import subprocess
from pathlib import Path

from cluster_daemons import PATH

CPUS = 8  # more than a small machine has, so that several jobs that mostly sleep run side by side
GPUS = 2
MEMORY_MB = 16000


@dataclasses.dataclass(frozen=True)
class Ports:
    """Loopback ports of one cluster."""

    controller: int
    node: int
    accounting: int
    database: int


@dataclasses.dataclass(frozen=True)
class Options:
    """What differs between clusters.

    cred_expire: seconds, at least 5; a requeued job is eligible again one second later than this, and one
        that a busy machine launches later than this has lost its credentials.
    kill_wait: seconds from SIGTERM to SIGKILL; nobody waits for them but what does not leave.
    grace_time: seconds from the preemption to its SIGTERM; SLURM looks only now and then, so rather +10.
    accounting: without it there is neither slurmdbd nor a database, and sacct fails.
    signal_user: a preempted job gets the signal of its ``--signal`` as well, ``grace_time`` before SIGTERM.
    slurm: any other lines of slurm.conf, such as ``{"MaxJobCount": "50"}``.
    """

    max_array_size: int = 1001
    cred_expire: int = 20
    kill_wait: int = 300
    grace_time: int = 0
    accounting: bool = True
    signal_user: bool = False
    slurm: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        assert self.cred_expire >= 5, "SLURM takes its default, 120 s, in place of less than 5"


def free_ports() -> Ports:
    """Ports that nobody listens on, below the range from which outgoing connections draw theirs."""
    found: list[int] = []
    while len(found) < 4:
        port = 20000 + secrets.randbelow(12000)
        with socket.socket() as probe:
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return Ports(*found)


def host_name() -> str:
    """The short name, which slurmctld and slurmd compare with their own lines; it need not resolve."""
    return socket.gethostname().split(".")[0]


def slurm_version() -> tuple[int, int]:
    """Year and month of the installed SLURM's series: (22, 5)."""
    words = subprocess.run(
        ["slurmctld", "-V"], capture_output=True, text=True, check=True, env={"PATH": PATH}
    )
    year, month = words.stdout.split()[-1].split(".")[:2]
    return int(year), int(month)


def write_all(folder: Path, cluster: str, ports: Ports, options: Options) -> None:
    """Folders, key, fake GPUs and configuration files: readable for every user, the secrets for root only."""
    folder.chmod(0o755)
    for name, mode in {"log": 0o755, "state": 0o700, "spool": 0o755, "run": 0o755}.items():
        (folder / name).mkdir(mode=mode)
        (folder / name).chmod(mode)
    _write(folder / "munge.key", secrets.token_hex(64), 0o400)
    for index in range(GPUS):
        _fake_gpu(folder / f"gpu{index}")
    _write(
        folder / "slurm.conf", _lines(_slurm_lines(folder, cluster, ports, options)) + _nodes(ports, options)
    )
    # Nothing here uses cgroups, yet slurmd loads a plugin. That for version 2 of cgroups wants systemd or a
    # writable tree; that for version 1 does nothing at its start. Later versions of SLURM can do without.
    plugin = "disabled" if slurm_version() >= (24, 5) else "cgroup/v1"
    _write(folder / "cgroup.conf", f"CgroupPlugin={plugin}\n")
    _write(folder / "gres.conf", f"NodeName={host_name()} Name=gpu File={folder}/gpu[0-{GPUS - 1}]\n")
    if options.accounting:
        password = secrets.token_hex(16)
        _write(folder / "slurmdbd.conf", _lines(_accounting_lines(folder, ports, password)), 0o600)
        _write(folder / "init.sql", _database_statements(password), 0o600)


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
    path.chmod(mode)


def _fake_gpu(path: Path) -> None:
    """A second /dev/null; where the machine forbids device nodes, a link to it, which serves as well."""
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        path.chmod(0o666)
    except PermissionError:
        path.symlink_to("/dev/null")


def _lines(values: dict[str, object]) -> str:
    return "".join(f"{key}={value}\n" for key, value in values.items())


def _slurm_lines(folder: Path, cluster: str, ports: Ports, options: Options) -> dict[str, object]:
    lines: dict[str, object] = {
        "ClusterName": cluster,
        "SlurmctldHost": f"{host_name()}(127.0.0.1)",
        "SlurmctldPort": ports.controller,
        "SlurmdPort": ports.node,
        "SlurmUser": "root",
        "SlurmdUser": "root",
        "AuthType": "auth/munge",
        "AuthInfo": f"socket={folder}/run/munge.socket,cred_expire={options.cred_expire}",
        "StateSaveLocation": folder / "state",
        "SlurmdSpoolDir": folder / "spool",
        "SlurmctldPidFile": folder / "run/slurmctld.pid",
        "SlurmdPidFile": folder / "run/slurmd.pid",
    }
    address = _binding("NoCtldInAddrAny,NoInAddrAny")
    return lines | address | _plugins() | _pace(options) | _storage(folder, ports, options) | options.slurm


def _plugins() -> dict[str, object]:
    """What needs neither systemd nor cgroups nor real GPUs."""
    return {
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "JobAcctGatherType": "jobacct_gather/linux",
        "MpiDefault": "none",
        "MailProg": "/bin/true",
        "ReturnToService": 2,
        "GresTypes": "gpu",
        # CPUs beyond those of the machine: the node's line is believed, not what slurmd counts.
        "SlurmdParameters": "config_overrides",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_CPU",
        "MinJobAge": 60,
        "InactiveLimit": 0,
        # On a busy machine an answer, the launch of a job, or the end of a step may take long.
        "MessageTimeout": 30,
        "TCPTimeout": 20,
        "BatchStartTimeout": 300,
        "UnkillableStepTimeout": 900,
    }


def _binding(parameters: str) -> dict[str, object]:
    """Listen on loopback alone. The parameters bind to the host's name, so only where that name is loopback;
    elsewhere the ports are open, to those who have this cluster's munge key.
    """
    try:
        address = socket.gethostbyname(host_name())
    except OSError:
        return {}
    return {"CommunicationParameters": parameters} if address.startswith("127.") else {}


def _pace(options: Options) -> dict[str, object]:
    """What decides how fast a job starts, is preempted and comes back."""
    lines: dict[str, object] = {
        "SchedulerType": "sched/backfill",
        "SchedulerParameters": "sched_interval=1,batch_sched_delay=0,bf_interval=1",
        "KillWait": options.kill_wait,
        "MaxArraySize": options.max_array_size,
        "PreemptType": "preempt/partition_prio",
        "PreemptMode": "REQUEUE",
    }
    if options.signal_user:
        lines["SlurmctldParameters"] = "preempt_send_user_signal"
    return lines


def _storage(folder: Path, ports: Ports, options: Options) -> dict[str, object]:
    if not options.accounting:
        return {"AccountingStorageType": "accounting_storage/none"}
    return {
        "AccountingStorageType": "accounting_storage/slurmdbd",
        "AccountingStorageHost": "127.0.0.1",
        "AccountingStoragePort": ports.accounting,
        # Not a password: whoever talks to slurmdbd looks here, and not in AuthInfo, for munge's socket.
        "AccountingStoragePass": folder / "run/munge.socket",
        "AccountingStorageTRES": "gres/gpu",
    }


def _nodes(ports: Ports, options: Options) -> str:
    """One node, three partitions on it: ``high`` preempts the jobs of ``low`` and ``cancel``."""
    node = host_name()
    shared = f"Nodes={node} MaxTime=INFINITE State=UP"
    low = f"PriorityTier=1 GraceTime={options.grace_time}"
    return (
        f"NodeName={node} NodeAddr=127.0.0.1 Port={ports.node} CPUs={CPUS} RealMemory={MEMORY_MB} "
        f"Gres=gpu:{GPUS} State=UNKNOWN\n"
        f"PartitionName=low {shared} {low} Default=YES\n"
        f"PartitionName=high {shared} PriorityTier=10 PreemptMode=OFF\n"
        f"PartitionName=cancel {shared} {low} PreemptMode=CANCEL\n"
    )


def _accounting_lines(folder: Path, ports: Ports, password: str) -> dict[str, object]:
    lines: dict[str, object] = {
        "AuthType": "auth/munge",
        "AuthInfo": f"socket={folder}/run/munge.socket",
        "SlurmUser": "root",
        "DbdHost": host_name(),
        "DbdAddr": "127.0.0.1",
        "DbdPort": ports.accounting,
        "PidFile": folder / "run/slurmdbd.pid",
        "StorageType": "accounting_storage/mysql",
        "StorageHost": "127.0.0.1",
        "StoragePort": ports.database,
        "StorageUser": "slurm",
        "StoragePass": password,
        "StorageLoc": "slurm",
    }
    return lines | _binding("NoInAddrAny")


def _database_statements(password: str) -> str:
    return (
        "CREATE DATABASE IF NOT EXISTS slurm;\n"
        f"CREATE USER IF NOT EXISTS 'slurm'@'%' IDENTIFIED BY '{password}';\n"
        "GRANT ALL ON slurm.* TO 'slurm'@'%';\n"
    )
