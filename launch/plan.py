"""Prints what a run takes on each GPU; one that cannot fit is refused, with what would fit."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from launch.memory.changes import Change, possible_changes
from launch.memory.job import Job
from launch.memory.phases import plan
from launch.memory.shapes import shape_of
from launch.memory.table import as_table, as_text
from launch.memory.terms import GB, Phase

# What no tensor of ours takes: the CUDA context, NCCL's buffers, workspaces of kernels; and the
# share that is lost between allocations. Both are assumptions.
CONTEXT_BYTES = 2 * GB
FRAGMENTED_SHARE = 0.05


def run(config: DictConfig) -> None:
    """Prints the table of a composed config.

    Raises:
        ValueError: a phase does not fit; the message says by how much, and what would.
    """
    from train.config.validate import parse
    from train.schema import RunConfig

    settings = parse(RunConfig, config)
    job = job_of(settings)
    phases = plan(job)
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(as_table(phases))
    usable = usable_bytes(settings.hardware.gpu_memory_gb)
    hardware = settings.hardware
    console.print(
        f"{hardware.nodes} × {hardware.gpus_per_node} GPUs of "
        f"{as_text(hardware.gpu_memory_gb * GB)}, of which {as_text(usable)} can be used: "
        f"{as_text(CONTEXT_BYTES)} are for CUDA and NCCL, {FRAGMENTED_SHARE:.0%} is lost between "
        f"allocations.\nPolicy: {job.policy.source}. Generator: {job.generator.source}. Contexts "
        f"are taken to have {job.context_tokens:,} tokens, chapters {job.chapter_tokens:,}.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    highest = max(phases, key=lambda phase: phase.num_bytes)
    if highest.num_bytes > usable:
        raise ValueError(refusal(job, highest, usable))


def job_of(settings: Any) -> Job:
    """The run as it would be trained, attempts counted in the rows that are learned from.

    Raises:
        ValueError: a model has no config to read, or adapters by role would be refused.
    """
    from envs.collaboration.collaboration import Collaboration
    from train.adapters import check_role_adapters, trained_roles
    from train.config.build import build
    from train.lessons import in_rows

    env = build(settings.env, "env", prompts=settings.prompts)
    check_role_adapters(settings, env)
    generator = shape_of(settings.generator.model, "generator.model")
    model = settings.policy.model
    policy = generator if model is None else shape_of(model, "policy.model")
    in_its_rows = replace(settings, trainer=in_rows(settings.trainer, env))
    num_voices = len(trained_roles(settings, env)) or 1
    return Job(in_its_rows, policy, generator, num_voices, isinstance(env, Collaboration))


def usable_bytes(gpu_memory_gb: float) -> int:
    return int(gpu_memory_gb * GB * (1 - FRAGMENTED_SHARE)) - CONTEXT_BYTES


def refusal(job: Job, phase: Phase, usable: int) -> str:
    """What does not fit, and changes of settings under which the whole run does."""
    short = (
        f"hardware: the phase '{phase.name}' needs {as_text(phase.num_bytes)} on each GPU, and "
        f"{as_text(usable)} of {as_text(job.config.hardware.gpu_memory_gb * GB)} can be used; "
    )

    def fits(changes: Sequence[Change]) -> bool:
        config = job.config
        for change in changes:
            config = change.apply(config)
        return all(p.num_bytes <= usable for p in plan(replace(job, config=config)))

    wanted = list(possible_changes(job.config))
    if not fits(wanted):
        return short + "take more or larger GPUs, or shorter contexts and answers"
    for change in reversed(list(wanted)):
        without = [other for other in wanted if other is not change]
        if fits(without):
            wanted = without
    return short + f"it fits with {' '.join(change.setting for change in wanted)}"
