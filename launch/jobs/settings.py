"""Where and how a run is launched: the group `launch=` of `nextchapter launch train`, typed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from omegaconf import DictConfig
from pydantic import Field

from train.config.hints import did_you_mean
from train.config.validate import check

# NAME of an environment variable, as shells take it.
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# More than what is left out of a config: here nothing is lost where it is refused for its name.
_SECRET = re.compile(r"(TOKEN|KEY|SECRET|PASSWORD|PASSWD|CREDENTIALS?)\Z", re.IGNORECASE)


@dataclass(frozen=True)
class LaunchSettings:
    """What all kinds of jobs have in common. How many nodes and processes there are stands in
    `hardware.nodes` and `hardware.gpus_per_node`: one process for each GPU."""

    backend: str
    device: Literal["gpu", "cpu", "auto"] = "gpu"
    """`cpu` asks for no GPUs: `hardware.gpus_per_node` then counts processes; `auto` is `gpu` where
    this machine has one."""
    max_restarts: Annotated[int, Field(ge=0)] = 3
    """A job is started again after a crash, a hang or a preemption; so many times in a row without
    a newer checkpoint, and it ends."""
    hang_after_s: Annotated[float, Field(gt=0)] = 1800.0
    """A run in which no process has moved for so long hangs: it is stopped and started again."""
    rendezvous_timeout_s: Annotated[float, Field(gt=0)] = 900.0
    """How long a node waits for the first one to say where the processes meet."""
    offline: bool = True
    """The job takes models and data sets from the Hub's cache alone; fill it beforehand with
    `nextchapter launch prefetch`."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the job. Secrets do not belong here: the job's files hold them."""
    setup: tuple[str, ...] = ()
    """Lines of shell before anything is started, such as `source /shared/venv/bin/activate`."""
    python: str | None = None
    """The interpreter on the nodes; empty for the one of this command."""
    retry_failed: bool = False
    """In a sweep that is launched again: trials that failed are tried again as well."""
    dry_run: bool = False
    """Print what would run, and leave nothing behind."""

    def __post_init__(self) -> None:
        for name in self.environment:
            if not _VARIABLE.match(name):
                raise ValueError(
                    f"launch.environment.{name}: no name of an environment variable; letters, "
                    "digits and underscores make one"
                )
            if _SECRET.search(name):
                raise ValueError(
                    f"launch.environment.{name}: a secret would stand in the job's files; export "
                    "it in the shell that launches, whose environment the job inherits"
                )


@dataclass(frozen=True)
class LocalSettings(LaunchSettings):
    """This machine."""

    device: Literal["gpu", "cpu", "auto"] = "auto"
    offline: bool = False
    detach: bool = False
    """Return at once, and let the job run in the background."""


@dataclass(frozen=True)
class ContainerSettings:
    """The container that the processes of a Slurm job run in."""

    image: str
    """What the runtime takes: `nvcr.io#nvidia/pytorch:26.09-py3` or a `.sqsh` file for pyxis, a
    `.sif` file for apptainer."""
    runtime: Literal["pyxis", "apptainer"] = "pyxis"
    mounts: tuple[str, ...] = ()
    """`HOST:CONTAINER` folders; the run's folder, the cache and the code have to be among them."""


@dataclass(frozen=True)
class SlurmSettings(LaunchSettings):
    """An sbatch script."""

    partition: str | None = None
    """One, or several of which the job runs in the first that has room: `'launch.partition="a,b"'`;
    empty for the default one."""
    account: str | None = None
    qos: str | None = None
    time: str | None = None
    """Time limit as Slurm writes it, such as `1-12:00:00`; empty for the partition's."""
    cpus_per_process: Annotated[int, Field(gt=0)] | None = None
    """CPUs for each process; empty for the partition's default, which is often one for a whole
    node."""
    memory: str | None = None
    """Memory of a node as Slurm writes it, such as `200G`; empty for the partition's default."""
    signal_s: Annotated[int, Field(gt=0)] = 300
    """So many seconds before its time is up the run is asked to save and leave; long enough for one
    step and one checkpoint."""
    modules: tuple[str, ...] = ()
    """Environment modules to load."""
    container: ContainerSettings | None = None
    extra: tuple[str, ...] = ()
    """Further options of sbatch, such as `--exclusive`."""


@dataclass(frozen=True)
class RaySettings(LaunchSettings):
    """A job of a Ray cluster, submitted to its dashboard."""

    address: str = "http://127.0.0.1:8265"
    """The dashboard's address. A token is taken from the environment variable RAY_AUTH_TOKEN."""
    cpus_per_node: Annotated[int, Field(gt=0)] = 1


@dataclass(frozen=True)
class KubernetesSettings(LaunchSettings):
    """A TrainJob of Kubeflow Trainer, applied with kubectl."""

    image: str = "nextchapter:latest"
    namespace: str = "default"
    runtime: str = "torch-distributed"
    """The ClusterTrainingRuntime to run under."""
    grace_s: Annotated[int, Field(gt=0)] = 300
    """How long a pod that has to leave may take to save."""
    volume_claim: str | None = None
    """Claim of the shared volume that holds the run's folder, the cache and the data."""
    mount: str = "/work"
    """Where that volume is mounted; the job runs there."""
    cpus_per_node: Annotated[int, Field(gt=0)] = 8
    memory: str = "64Gi"
    python: str | None = "python"


SCHEMAS: Mapping[str, type[LaunchSettings]] = {
    "local": LocalSettings,
    "slurm": SlurmSettings,
    "ray": RaySettings,
    "kubernetes": KubernetesSettings,
}


def parse_launch(node: Mapping[str, Any] | DictConfig | None) -> LaunchSettings:
    """The `launch` node of a config, plain, as the settings of its backend."""
    if not node:
        raise ValueError(f"launch: says where to run; choose launch={'|'.join(SCHEMAS)}")
    backend = str(node.get("backend"))
    if backend not in SCHEMAS:
        hint = did_you_mean(backend, SCHEMAS)
        raise ValueError(f"launch.backend: no '{backend}'; {hint}there is {', '.join(SCHEMAS)}")
    return check(SCHEMAS[backend], dict(node), "launch")
