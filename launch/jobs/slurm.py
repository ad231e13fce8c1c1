"""Jobs of Slurm: an sbatch script that a user can read, keep and change."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from launch.jobs.job import Job
from launch.jobs.settings import ContainerSettings, LaunchSettings, SlurmSettings
from launch.jobs.shell import ask, one_line, refuse_control_characters, render
from train.config.hints import did_you_mean

_WHAT_FOR = "launch=slurm"
# States in which a job runs no more; one that is queued again is pending.
_ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"),
    *("PREEMPTED", "REVOKED", "TIMEOUT"),
}


class SlurmBackend:
    """Renders a script, hands it to sbatch, and asks squeue and scancel about it."""

    def render(self, job: Job, settings: LaunchSettings) -> str:
        assert isinstance(settings, SlurmSettings)
        return render(
            "slurm.sh.jinja",
            job,
            settings,
            options=_options(job, settings),
            srun=_srun(job, settings),
            runner=_runner(settings.container),
            verdict_runner=_verdict_runner(settings.container),
        )

    def command(self, job: Job, settings: LaunchSettings) -> list[str]:
        return ["sbatch", "--parsable", str(job.script_path)]

    def check(self, job: Job, settings: LaunchSettings) -> None:
        assert isinstance(settings, SlurmSettings)
        told = ask(["sinfo", "--noheader", "--format=%P|%D|%G"], _WHAT_FOR)
        if told.returncode:
            raise ValueError(
                f"launch: Slurm does not answer ({one_line(told.stderr)}); launch from a node of "
                "its cluster, or see SLURM_CONF"
            )
        lines = [line.split("|") for line in told.stdout.splitlines() if line.count("|") == 2]
        kinds: dict[str, list[tuple[int, int]]] = {}
        for name, num_nodes, gres in lines:
            kinds.setdefault(name.rstrip("*"), []).append((int(num_nodes), _gpus(gres)))
        default = [name.rstrip("*") for name, _, _ in lines if name.endswith("*")]
        key, named = _asked(settings)
        for name in named:
            if name not in kinds:
                raise ValueError(
                    f"{key}: no '{name}'; {did_you_mean(name, sorted(kinds))}"
                    f"there is {', '.join(sorted(kinds))}"
                )
        if named or not default or any(o.startswith(("--part", "-p")) for o in settings.extra):
            where = ",".join(named) or "any partition"
        else:
            named, where = default[:1], f"{default[0]}, the default partition,"
        # The job then runs in one of those that are named.
        _refuse_size(job, settings, (key, where), [kinds[name] for name in named or kinds])

    def submit(self, job: Job, settings: LaunchSettings) -> Job:
        told = ask(self.command(job, settings), _WHAT_FOR)
        if told.returncode:
            reason = one_line(told.stderr).replace("sbatch: error: ", "")
            raise ValueError(
                f"launch: sbatch refused the job ({reason}); change launch.SETTING accordingly"
            )
        return job.with_id(told.stdout.strip().partition(";")[0])

    def state(self, job: Job) -> str | None:
        assert job.id is not None
        told = ask(["squeue", "--noheader", f"--jobs={job.id}", "--format=%T|%r"], _WHAT_FOR)
        if told.returncode and "Invalid job id" not in told.stderr:
            raise ValueError(f"launch: Slurm does not answer ({one_line(told.stderr)})")
        state, _, reason = told.stdout.strip().partition("|")
        if not state or state in _ENDED:
            return None
        return state if reason in ("", "None") else f"{state} ({reason})"

    def cancel(self, job: Job) -> None:
        assert job.id is not None
        told = ask(["scancel", job.id], _WHAT_FOR)
        if told.returncode:
            raise ValueError(f"launch: scancel refused ({one_line(told.stderr)})")

    def script_log(self, job: Job) -> str:
        return job.folder.scheduler_log()


def _asked(settings: SlurmSettings) -> tuple[str, list[str]]:
    """The partitions that are named, and where; for sbatch its environment is above its script."""
    key = "SBATCH_PARTITION"
    names = os.environ.get(key, "")
    if not names:
        key, names = "launch.partition", settings.partition or ""
    return key, [name for name in names.split(",") if name]


def _refuse_size(
    job: Job,
    settings: SlurmSettings,
    named: tuple[str, str],
    partitions: Sequence[Sequence[tuple[int, int]]],
) -> None:
    """sbatch takes a job that is too large for its partition, and it waits for ever.

    `partitions` have, of each kind of their nodes, how many there are and the GPUs of one; `named`
    has the setting that names them, and what to call them.
    """
    key, where = named
    gpus = job.processes_per_node if settings.device == "gpu" else 0
    most = max((has for kinds in partitions for _, has in kinds), default=0)
    if most < gpus:
        raise ValueError(
            f"hardware.gpus_per_node: {gpus} asked for, and the largest node of {where} has "
            f"{most}; ask for fewer on more nodes, for another {key}, or set "
            "launch.device=cpu"
        )
    fit = max((sum(n for n, has in kinds if has >= gpus) for kinds in partitions), default=0)
    if fit < job.nodes:
        alike = f" with {gpus} GPUs" if gpus else ""
        raise ValueError(
            f"hardware.nodes: {job.nodes} asked for, and the most{alike} in {where} are {fit}; "
            f"ask for fewer, or for another {key}"
        )


def _options(job: Job, settings: SlurmSettings) -> list[str]:
    """The #SBATCH lines."""
    named = {
        "job-name": job.folder.run.name,
        "nodes": job.nodes,
        # One task for each node, which starts the processes of its GPUs.
        "ntasks-per-node": 1,
        "cpus-per-task": _cpus_per_task(job, settings),
        "gpus-per-node": job.processes_per_node if settings.device == "gpu" else None,
        "mem": settings.memory,
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "time": settings.time,
        # Sent to the processes of the steps, which save, and not to the script.
        "signal": f"USR1@{settings.signal_s}",
        "chdir": Path.cwd(),
        "open-mode": "append",
        # Slurm puts the job's number and the like in the place of % and a letter.
        "output": str(job.folder.scheduler_log_path).replace("%", "%%"),
        "export": "ALL",
    }
    given = {name: value for name, value in named.items() if value is not None}
    lines = [f"--{name}={shlex.quote(str(value))}" for name, value in given.items()]
    lines += ["--requeue", *settings.extra]
    for line in lines:
        # The rest of an option that goes over its line would be a command of the script.
        refuse_control_characters("launch", line)
    return lines


def _srun(job: Job, settings: SlurmSettings) -> list[str]:
    options = [f"--nodes={job.nodes}", f"--ntasks={job.nodes}", "--ntasks-per-node=1"]
    cpus = _cpus_per_task(job, settings)
    # Since 22.05 srun has not taken it over from sbatch: all processes would share one CPU.
    options += [f"--cpus-per-task={cpus}"] if cpus else []
    # A node without its neighbours would wait for them for ever.
    options.append("--kill-on-bad-exit=1")
    return options + _pyxis(settings.container)


def _cpus_per_task(job: Job, settings: SlurmSettings) -> int | None:
    cpus = settings.cpus_per_process
    return cpus * job.processes_per_node if cpus else None


def _pyxis(container: ContainerSettings | None) -> list[str]:
    """Options of srun for a container that Slurm itself starts."""
    if container is None or container.runtime != "pyxis":
        return []
    options = [f"--container-image={shlex.quote(container.image)}"]
    if container.mounts:
        options.append(f"--container-mounts={shlex.quote(','.join(container.mounts))}")
    return options


def _runner(container: ContainerSettings | None) -> str:
    """What stands before the interpreter: nothing, or a container that is started for it."""
    if container is None or container.runtime == "pyxis":
        return ""
    binds = [f"--bind {shlex.quote(mount)}" for mount in container.mounts]
    return " ".join(["apptainer exec --nv", *binds, shlex.quote(container.image), ""])


def _verdict_runner(container: ContainerSettings | None) -> str:
    """The verdict needs what the nodes need; the script itself stands outside of a container."""
    pyxis = _pyxis(container)
    return " ".join(["srun --nodes=1 --ntasks=1", *pyxis, ""]) if pyxis else _runner(container)


def _gpus(gres: str) -> int:
    """GPUs in Slurm's words: `gpu:h100:8(S:0-1)` has 8, and `gpu:3090:4` has 4."""
    found = re.findall(r"\bgpu(?::[^:(,]+)?:(\d+)(?=[(,]|$)", gres)
    return sum(map(int, found))
