"""The reinforcement of a run: trained in its folder, watched and saved, then kept by content."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

from peft import PeftModel
from transformers import PreTrainedModel

import envs
import rewards
from envs.types import Rollout
from envs.voices import voices
from rewards.types import Score
from train import algorithms, ranks, zero
from train.adapters import peft_config, trained_roles
from train.algorithms import train_policy
from train.cache import digest, source_fingerprint
from train.checkpoints import Checkpoints, weights_fingerprint
from train.local_member import member_weights
from train.logs import BEFORE_ANY_STEP, MetricLog
from train.member_ledgers import ledgers_in
from train.member_metrics import MemberMetrics
from train.models import model_digest, save_model
from train.monitors.start import start_monitor
from train.monitors.stop import StoppedByMonitor
from train.nonfinite import NonFiniteGuard
from train.recorder import Recorder
from train.run import Run
from train.run_folder import RunFolder
from train.saving import CheckpointKeeper
from train.scoring_report import say_how_it_scores
from train.stages import keep
from train.step_times import StepTimes, TimedReward
from train.throughput import Throughput

# The settings that a trained agent depends on.
TRAINED_BY = (
    *("policy", "trainer", "curriculum", "max_skipped_steps", "distributed", "reward", "env"),
    *("prompts", "generator", "seed"),
)


def trained_policy(run: Run, folder: RunFolder) -> Path:
    """The agent after reinforcement: its folder in the cache, with its metrics beside it."""
    key = {
        "policy": model_digest(run.warm_start),
        "generator": model_digest(run.generator),
        "members": member_weights(run.player),
        "config": {name: value for name, value in asdict(run.config).items() if name in TRAINED_BY},
        "processes": ranks.num_processes(),
        "data": run.source.key(),
        "code": source_fingerprint(envs, rewards, zero, *algorithms.CODE),
    }
    return keep(run.stages.cache, "policy", key, lambda kept: _train_policy(run, folder, kept))


def _train_policy(run: Run, folder: RunFolder, kept: Path) -> None:
    """Trains in the run's folder, from its last checkpoint on, and leaves the end in `kept`."""
    config, settings = run.config, run.config.trainer
    policy, tokenizer = run.untrained_policy()
    order = run.order
    assert order is not None, "this run is only evaluated"
    guard = NonFiniteGuard(config.max_skipped_steps, run.say)
    parts = {"order": order, "skipped": guard}
    checkpoints = _checkpoints(run, folder, policy)
    last = checkpoints.newest()
    if last is not None:
        last.restore(parts)
    noise = say_how_it_scores(run, order.episodes)
    with (
        run.progress.stage("reinforcement", settings.max_steps) as advance,
        MetricLog.open(
            folder, config.logging, asdict(config), last.step if last else BEFORE_ANY_STEP
        ) as log,
    ):
        monitor = start_monitor(
            config,
            run.stages,
            run.source.episodes("validation"),
            run.player,
            run.shared_reward,
            log,
            folder.metrics_path,
            run.progress.say,
        )
        times = StepTimes()
        throughput = Throughput(
            ranks.num_processes(),
            config.hardware.peak_tflops,
            config.hardware.price_per_gpu_hour,
            settings.steps_per_rollout,
        )
        passes_per_step = order.passes_per_rollout / settings.steps_per_rollout
        members = MemberMetrics(ledgers_in(run.player))
        recorder = Recorder(
            log, advance, passes_per_step, times, throughput=throughput, members=members
        )
        keeper = CheckpointKeeper(checkpoints, run.signals, parts, settings.steps_per_savepoint)

        def learn_from(rollouts: Sequence[Rollout], scores: Sequence[Score]) -> None:
            recorder.keep_rollouts(rollouts, scores)
            order.observe(rollouts, scores)

        with checkpoints.explaining(), run.signals.deferred():
            policy = train_policy(
                policy,
                tokenizer,
                run.player,
                TimedReward(run.reward, times),
                order,
                settings,
                output_dir=checkpoints.staging_dir,
                seed=config.seed,
                callbacks=[
                    *(guard, throughput, members, recorder),
                    *([monitor] if monitor else []),
                    keeper,
                ],
                on_scored=learn_from,
                resume_from=last.path if last else None,
                peft_config=peft_config(config.policy.lora),
                roles=trained_roles(config, run.player),
                noise=noise,
                deepspeed=config.distributed.as_deepspeed(),
            )
        zero.release_memory()
        if monitor and monitor.stopped:
            newest = checkpoints.newest()
            kept_in = newest.path if newest else folder.checkpoints_dir
            raise StoppedByMonitor.because(monitor.stopped, folder.path, kept_in)
        if voices(policy):
            # Adapters of several roles cannot all be merged into one set of weights.
            if ranks.is_main():
                policy.save_pretrained(str(kept / "policy"))
            policy = cast(PeftModel, policy).unload()
        elif isinstance(policy, PeftModel):
            # Into copies of the weights: those of the base may be the generator's.
            policy = policy.merge_and_unload(safe_merge=True)
        save_model(policy, tokenizer, kept / "policy")
    if ranks.is_main():
        shutil.copy(folder.metrics_path, kept / "metrics.jsonl")


def _checkpoints(run: Run, folder: RunFolder, policy: PreTrainedModel) -> Checkpoints:
    """The run's checkpoints, which only go on from what they were made from."""
    lora = run.config.policy.lora
    made_from = {
        "policy model": weights_fingerprint(policy),
        "set of adapters (policy.lora)": digest(None if lora is None else asdict(lora)),
        "trainer": run.config.trainer.algorithm,
    }
    return Checkpoints(folder.checkpoints_dir, run.config.checkpoints, made_from, run.say)
