"""A real Slurm with two nodes on this machine: controller, two node daemons and munge, in a folder
of their own, on ports of their own, with a key of their own. Nothing of the system's is touched.
"""

from __future__ import annotations

import getpass
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "sinfo")
NODES = ("n1", "n2")
SECONDS_TO_START = 120

_CONFIG = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SlurmctldDebug=info
SlurmdDebug=info
# A job that is queued again waits for so long, and processes have as long to save.
KillWait={kill_wait_s}
# The daemons keep their pace beside what they start.
PropagatePrioProcess=1
MessageTimeout=30
# A node that is silent for so long is down, and its jobs are queued again.
SlurmdTimeout={node_timeout_s}
ReturnToService=2
JobRequeue=1
SlurmdParameters=config_overrides
{nodes}
PartitionName=all Nodes={names} Default=YES MaxTime=60 State=UP
"""


class CannotStart(RuntimeError):
    """The daemons are installed and do not come up here, as in a container that forbids them."""


@dataclass
class SlurmCluster:
    """A running cluster; `environment` is what a user's commands need to reach it."""

    folder: Path
    environment: dict[str, str]
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout.strip()

    def state(self, job_id: str) -> str:
        """Slurm's word for the job's state; empty once it is forgotten."""
        done = subprocess.run(
            ["squeue", "--noheader", "--states=all", f"--jobs={job_id}", "--format=%T"],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip()

    def release(self, job_id: str) -> None:
        """Lets a job that is queued again start in a moment, and not in two minutes.

        Within a second or two the nodes would take it for the one that they just ended; and what a
        node that was down is still to be told, such as to end this job, would end the new start.
        """
        give_up = time.monotonic() + SECONDS_TO_START
        while any(map(int, re.findall(r"^Agent [a-z ]+:\s*(\d+)", self.run("sdiag"), re.M))):
            assert time.monotonic() < give_up, "the controller did not get rid of its messages"
            time.sleep(1)
        self.run("scontrol", "update", f"JobId={job_id}", "StartTime=now+4seconds")

    def start_node(self, name: str) -> None:
        self.start(name, ["slurmd", "-D", "-N", name])

    def kill_node(self, name: str) -> None:
        """The node vanishes: its daemon and all that runs on it, without a word."""
        daemon = self.daemons.pop(name)
        # The daemons of steps are nobody's children; each holds its node's log open.
        of_node = [daemon.pid, *_step_daemons(self.folder / f"slurmd-{name}.log")]
        every = {pid for root in of_node for pid in (root, *descendants(root))}
        for pid in every:
            _kill(pid)
        daemon.wait()

    def start(self, name: str, command: Sequence[str]) -> None:
        with (self.folder / f"{name}.out").open("ab") as out:
            self.daemons[name] = subprocess.Popen(
                [*normal_priority(), *command],
                env=self.environment,
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
            )


def normal_priority() -> list[str]:
    """Where these tests run with a lower one: a daemon that starves is taken for dead."""
    niceness = os.nice(0)
    return ["nice", "-n", str(-niceness)] if niceness > 0 and os.getuid() == 0 else []


def missing_programs() -> list[str]:
    return [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]


@contextmanager
def slurm_cluster(
    folder: Path, *, cpus_per_node: int = 2, kill_wait_s: int = 30, node_timeout_s: int = 20
) -> Iterator[SlurmCluster]:
    """A cluster in `folder`, up when the block begins and gone, with all its jobs, after it.

    Raises:
        CannotStart: a daemon does not come up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "state").mkdir()
    ports = free_ports(1 + len(NODES))
    host = socket.gethostname().partition(".")[0]
    nodes = "\n".join(
        f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus_per_node} "
        "State=UNKNOWN"
        for name, port in zip(NODES, ports[1:], strict=True)
    )
    config = _CONFIG.format(
        folder=folder,
        host=host,
        user=getpass.getuser(),
        controller_port=ports[0],
        kill_wait_s=kill_wait_s,
        node_timeout_s=node_timeout_s,
        nodes=nodes,
        names=",".join(NODES),
    )
    (folder / "slurm.conf").write_text(config)
    environment = {name: v for name, v in os.environ.items() if not name.startswith("SLURM_")}
    environment |= {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": _path()}
    cluster = SlurmCluster(folder, environment)
    with ExitStack() as stack:
        stack.callback(_end, cluster)
        _start_munge(cluster)
        cluster.start("slurmctld", ["slurmctld", "-D"])
        for name in NODES:
            cluster.start_node(name)
        _wait_for(cluster, lambda: _idle(cluster) == len(NODES), "two idle nodes")
        yield cluster


def _start_munge(cluster: SlurmCluster) -> None:
    folder = cluster.folder
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    files = {
        "key-file": key,
        "socket": folder / "munge.socket",
        "pid-file": folder / "munge.pid",
        "log-file": folder / "munge.log",
        "seed-file": folder / "munge.seed",
    }
    options = [f"--{name}={path}" for name, path in files.items()]
    # The folder of a test may be written by its group, which munge warns of and --force allows.
    cluster.start("munged", ["munged", "--foreground", "--force", *options])
    _wait_for(cluster, (folder / "munge.socket").exists, "munge's socket")


def _idle(cluster: SlurmCluster) -> int:
    done = subprocess.run(
        ["sinfo", "--noheader", "--Node", "--states=idle", "--format=%N"],
        env=cluster.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return len(done.stdout.split())


def _wait_for(cluster: SlurmCluster, is_reached: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + SECONDS_TO_START
    while not is_reached():
        ended = [name for name, daemon in cluster.daemons.items() if daemon.poll() is not None]
        said = [(cluster.folder / f"{name}.out").read_text()[-1000:] for name in ended]
        if ended:
            raise CannotStart(f"{ended} ended: {said}")
        if time.monotonic() > give_up:
            raise CannotStart(f"no {what} within {SECONDS_TO_START} s")
        time.sleep(0.2)


def _end(cluster: SlurmCluster) -> None:
    if "slurmctld" in cluster.daemons:
        user = getpass.getuser()
        subprocess.run(
            ["scancel", f"--user={user}", "--signal=KILL"],
            env=cluster.environment,
            capture_output=True,
            check=False,
            timeout=30,
        )
    for name in NODES:
        if name in cluster.daemons:
            cluster.kill_node(name)
    for daemon in cluster.daemons.values():
        daemon.terminate()
    for daemon in cluster.daemons.values():
        try:
            daemon.wait(timeout=10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def _step_daemons(log: Path) -> list[int]:
    """The daemons of the steps that run on the node with this log; no other process is theirs."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            is_one = (entry / "comm").read_text().strip() == "slurmstepd"
            if is_one and str(log) in {os.readlink(link) for link in (entry / "fd").iterdir()}:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def descendants(pid: int) -> list[int]:
    found: list[int] = []
    wanted = [pid]
    while wanted:
        parent = wanted.pop()
        for path in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                children = [int(text) for text in path.read_text().split()]
            except OSError:
                continue
            found += children
            wanted += children
    return found


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [free.getsockname()[1] for free in sockets]


def _path() -> str:
    """Daemons live in sbin, which a user's path may leave out."""
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
