"""Jobs of Kubernetes: a TrainJob of Kubeflow Trainer, applied with kubectl.

The manifest is checked against the models of Kubeflow's own package before it is shown or applied.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import yaml

from launch.jobs.job import Job
from launch.jobs.settings import KubernetesSettings, LaunchSettings
from launch.jobs.shell import ask, environment_of, one_line

_WHAT_FOR = "launch=kubernetes"
_ENDED = {"Complete", "Failed"}
# The pods of a runtime for torch, as Kubeflow names them.
_NODES = "node"
_TRY = re.compile(r"[EWIF]\d{4} ")
_JOB_LABEL = "jobset.sigs.k8s.io/jobset-name"
_RESTART_LABEL = "jobset.sigs.k8s.io/restart-attempt"


class KubernetesBackend:
    """Renders a manifest, applies it, and asks kubectl about it."""

    def render(self, job: Job, settings: LaunchSettings) -> str:
        assert isinstance(settings, KubernetesSettings)
        _refuse_what_no_pod_finds(job, settings)
        manifest = _manifest(job, settings)
        _check(manifest)
        return yaml.safe_dump(manifest, sort_keys=False)

    def command(self, job: Job, settings: LaunchSettings) -> list[str]:
        assert isinstance(settings, KubernetesSettings)
        return ["kubectl", "create", f"--filename={job.script_path}"]

    def check(self, job: Job, settings: LaunchSettings) -> None:
        assert isinstance(settings, KubernetesSettings)
        _refuse_what_no_pod_finds(job, settings)
        _kubectl("get", "namespace", settings.namespace)

    def submit(self, job: Job, settings: LaunchSettings) -> Job:
        _kubectl(*self.command(job, settings)[1:])
        return job.with_id(_name(job))

    def state(self, job: Job) -> str | None:
        told = _kubectl(*_trainjob(job, "get"), "--output=json", "--ignore-not-found")
        if not told.strip():
            return None
        conditions = json.loads(told).get("status", {}).get("conditions", [])
        met = [c["type"] for c in conditions if c.get("status") == "True"]
        return None if _ENDED & set(met) else (met[-1] if met else "Created")

    def cancel(self, job: Job) -> None:
        _kubectl(*_trainjob(job, "delete"), "--wait=false")

    def script_log(self, job: Job) -> str:
        which = (f"--namespace={job.place['namespace']}", f"--selector={_JOB_LABEL}={job.id}")
        # Of pods that are chosen by a label kubectl shows ten lines each, unless it is told.
        return _kubectl("logs", *which, "--prefix", "--tail=-1")


def _refuse_what_no_pod_finds(job: Job, settings: KubernetesSettings) -> None:
    if settings.volume_claim is None:
        raise ValueError(
            "launch.volume_claim: names the claim of the volume that holds the run's folder; "
            "set launch.volume_claim=NAME and launch.mount=PATH"
        )
    mount = Path(settings.mount)
    for key, path in (("run_dir", Path(job.run)), ("working folder", Path.cwd())):
        if not path.is_relative_to(mount):
            raise ValueError(
                f"{key}: {path} is outside of launch.mount={mount}, where no pod would find "
                "it; launch from a folder that is mounted at the same place here and there"
            )


def _kubectl(*arguments: str) -> str:
    told = ask(["kubectl", *arguments], _WHAT_FOR)
    if told.returncode:
        # Before its own words kubectl logs each try to reach the cluster.
        lines = told.stderr.splitlines()
        said = [line for line in lines if not _TRY.match(line)] or lines
        raise ValueError(f"launch: kubectl refused ({one_line(' '.join(said))})")
    return told.stdout


def _trainjob(job: Job, verb: str) -> list[str]:
    assert job.id is not None
    return [verb, "trainjob", job.id, f"--namespace={job.place['namespace']}"]


def _name(job: Job) -> str:
    """A name as Kubernetes takes it, one for each submission."""
    stem = re.sub(r"[^a-z0-9-]+", "-", Path(job.run).name.lower()).strip("-")[:30].strip("-")
    return f"nextchapter-{stem}-{job.submission[:6]}"


def _manifest(job: Job, settings: KubernetesSettings) -> dict[str, Any]:
    per_node: dict[str, str] = {"cpu": str(settings.cpus_per_node), "memory": settings.memory}
    if settings.device == "gpu":
        per_node["nvidia.com/gpu"] = str(job.processes_per_node)
    variables: list[dict[str, Any]] = [
        {"name": name, "value": value} for name, value in environment_of(settings).items()
    ]
    restarts = {"fieldRef": {"fieldPath": f"metadata.labels['{_RESTART_LABEL}']"}}
    variables.append({"name": "RESTARTS", "valueFrom": restarts})
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": _name(job), "namespace": settings.namespace},
        "spec": {
            "runtimeRef": {"name": settings.runtime},
            "trainer": {
                "image": settings.image,
                "command": ["bash", "-c", _command(job, settings)],
                "env": variables,
                "numNodes": job.nodes,
                "numProcPerNode": job.processes_per_node,
                # Two of their own: YAML would write the second as a reference to the first.
                "resourcesPerNode": {"limits": dict(per_node), "requests": dict(per_node)},
            },
            "runtimePatches": [_patch(settings)],
        },
    }


def _command(job: Job, settings: KubernetesSettings) -> str:
    """The script of a pod; Kubeflow says in PET_* which node it is and where the nodes meet."""
    python, run = shlex.quote(job.python), shlex.quote(job.run)
    return "\n".join(
        [
            f"cd {shlex.quote(str(Path.cwd()))}",
            *settings.setup,
            f"export NEXTCHAPTER_ATTEMPT={job.submission}.${{RESTARTS:-0}}",
            "export NEXTCHAPTER_NODE=$PET_NODE_RANK",
            "export MASTER_ADDR=$PET_MASTER_ADDR MASTER_PORT=$PET_MASTER_PORT",
            # In place of the shell, so that the pod's signal to leave reaches it.
            f"exec {python} -P -m launch.jobs.node {run}",
        ]
    )


def _patch(settings: KubernetesSettings) -> dict[str, Any]:
    """What the runtime's pods get beside: the shared volume, and the time to save."""
    mounts = [{"name": "work", "mountPath": settings.mount}]
    claim = {"claimName": settings.volume_claim}
    pod = {
        "containers": [{"name": _NODES, "volumeMounts": mounts}],
        "terminationGracePeriodSeconds": settings.grace_s,
        "volumes": [{"name": "work", "persistentVolumeClaim": claim}],
    }
    nodes = {"name": _NODES, "template": {"spec": {"template": {"spec": pod}}}}
    return {
        "manager": "nextchapter.dev/launch",
        "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [nodes]}}},
    }


def _check(manifest: dict[str, Any]) -> None:
    try:
        from kubeflow_trainer_api.models.trainer_v1alpha1_train_job import (  # pyright: ignore[reportMissingImports]
            TrainerV1alpha1TrainJob,
        )
    except ImportError as error:
        raise ValueError(
            "launch=kubernetes: the models that check its manifest are not installed; "
            "pip install 'nextchapter[kubernetes]'"
        ) from error
    read = TrainerV1alpha1TrainJob.from_dict(manifest)
    # What the models do not know they leave out.
    assert read is not None and read.to_dict() == manifest
