"""A real Slurm of two nodes for tests, all on this machine's loopback; it is removed when they end.

Debian's packages as root, without systemd, cgroups and accounting: munged, slurmctld and two slurmd in the foreground
on free ports, with all their files in one folder.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")
START_WITHIN_S = 30.0
NODES = ("node0", "node1")
REQUEUE_S = 5
"""Seconds after which a requeued job may start again; Slurm adds one. By default 120."""

CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire={requeue_s}
CredType=cred/munge
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
SlurmdSpoolDir={folder}/spool-%n
StateSaveLocation={folder}/state
SlurmctldParameters=idle_on_node_suspend
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
MpiDefault=none
ReturnToService=2
KillWait=30
MessageTimeout=20
NodeName=node0 NodeHostname={host} NodeAddr=127.0.0.1 Port={port0} CPUs=2 RealMemory=1000
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port1} CPUs=2 RealMemory=1000
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 State=UP
PartitionName=high Nodes=ALL Default=NO PriorityTier=10 State=UP
"""


def missing() -> str:
    """Return why Slurm cannot run here; empty if it can."""
    if absent := [name for name in PROGRAMS if _find(name) is None]:
        return f"no {', '.join(absent)} on this machine: apt-get install slurm-wlm munge"
    return "" if os.geteuid() == 0 else "slurmd starts jobs as root only"


def _find(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")


class Slurm:
    """A running Slurm.

    Attributes:
        environment: variables by which its commands find it.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self._folder = folder

    def run(self, *words: str) -> str:
        """Run one of Slurm's commands and return what it prints."""
        done = subprocess.run(
            words, env={**os.environ, **self.environment}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def jobs(self, *states: str) -> list[str]:
        """Return the ids of jobs, as ``12_0``, in these states (of all that have not ended without any)."""
        chosen = [f"--states={','.join(states)}"] if states else []
        return self.run("squeue", "--noheader", "--array", "--format=%i", *chosen).split()

    def minutes(self, job: str) -> int:
        """Return for how many whole minutes a job has run."""
        parts = self.run("squeue", "--noheader", "--format=%M", f"--jobs={job}").strip().split(":")
        return sum(int(part) * 60**power for power, part in enumerate(reversed(parts))) // 60

    def logs(self) -> str:
        """Return the end of what its controller logged."""
        return (self._folder / "slurmctld.log").read_text(errors="replace")[-3000:]


@contextmanager
def running_slurm() -> Iterator[Slurm]:
    """Start a Slurm of two nodes and stop it after the block."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        ports = _free_ports(3)
        host = socket.gethostname().partition(".")[0]
        text = CONFIGURATION.format(
            host=host, folder=folder, port=ports[0], port0=ports[1], port1=ports[2], requeue_s=REQUEUE_S
        )
        configuration = folder / "slurm.conf"
        configuration.write_text(text)
        for name in ("state", *(f"spool-{node}" for node in NODES)):
            (folder / name).mkdir()
        slurm = Slurm(folder, {"SLURM_CONF": str(configuration)})
        _start_munge(folder, stack)
        _start(folder, stack, "slurmctld", ["-D", "-f", str(configuration)], slurm.environment)
        for node in NODES:
            _start(folder, stack, "slurmd", ["-D", "-f", str(configuration), "-N", node], slurm.environment, node)
        _wait_for_nodes(slurm)
        stack.callback(_end_jobs, slurm)
        yield slurm


def _start_munge(folder: Path, stack: ExitStack) -> None:
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    files = {"socket": "munge.socket", "pid-file": "munge.pid", "log-file": "munge.log", "seed-file": "munge.seed"}
    options = [f"--{name}={folder / file}" for name, file in files.items()]
    # It refuses folders that others may write to, as /tmp is.
    _start(folder, stack, "munged", ["--foreground", "--force", f"--key-file={key}", *options], {})
    _wait((folder / "munge.socket").exists, folder)


def _start(
    folder: Path, stack: ExitStack, name: str, options: list[str], environment: Mapping[str, str], log: str = ""
) -> None:
    program = _find(name)
    assert program is not None, missing()
    with (folder / f"{log or name}.out.log").open("wb") as output:
        process = subprocess.Popen(
            [program, *options], env={**os.environ, **environment}, stdout=output, stderr=output, cwd=folder
        )
    stack.callback(_stop, process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _end_jobs(slurm: Slurm) -> None:
    """Cancel what still runs, and wait: a job would outlive its slurmd."""
    slurm.run("scancel", "--user", pwd.getpwuid(os.geteuid()).pw_name)
    deadline = time.monotonic() + START_WITHIN_S
    while slurm.jobs() and time.monotonic() < deadline:
        time.sleep(0.2)


def _wait_for_nodes(slurm: Slurm) -> None:
    def are_idle() -> bool:
        words = ["sinfo", "--noheader", "--Node", "--partition=low", "--format=%t"]
        done = subprocess.run(
            words, env={**os.environ, **slurm.environment}, capture_output=True, text=True, check=False
        )
        return done.stdout.split() == ["idle"] * len(NODES)

    _wait(are_idle, slurm._folder)


def _wait(is_ready: Callable[[], bool], folder: Path) -> None:
    deadline = time.monotonic() + START_WITHIN_S
    while not is_ready():
        if time.monotonic() > deadline:
            logs = "\n".join(path.read_text(errors="replace")[-3000:] for path in folder.glob("*.log"))
            raise RuntimeError(f"Slurm did not start:\n{logs}")
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
