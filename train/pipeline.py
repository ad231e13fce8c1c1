"""One run from books to an evaluated agent: four stages, each kept, then table, plot, examples."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

import envs
import rewards
from envs.solo import SoloPlanner
from envs.types import Episode, Rollout, Source, Split
from rewards.likelihood.model_limits import context_window
from rewards.likelihood_improvement import LikelihoodImprovement
from rewards.types import Score
from rewards.weighted_sum import WeightedTerm
from train import algorithms, ranks, zero
from train.adapters import peft_config, shares_weights
from train.algorithms import check_trainer, order_of, train_policy
from train.cache import Cache, digest, source_fingerprint
from train.checkpoints import Checkpoints, weights_fingerprint
from train.config.build import build
from train.episode_order import EpisodeOrder
from train.evaluation import Evaluation, Evaluator
from train.examples import write_examples
from train.files import copy_folder, write_json
from train.frozen import load_frozen, on_device
from train.judging.improvements import write_improvements
from train.logs import BEFORE_ANY_STEP, MetricLog
from train.models import check_model, load_model, model_digest, save_model
from train.monitors.start import start_monitor
from train.monitors.stop import StoppedByMonitor
from train.nonfinite import NonFiniteGuard
from train.plots import plot_learning_curve
from train.preemption import StopSignals
from train.progress import Advance, ProgressDisplay
from train.reward_config import build_rules, build_terms, check_groups, distractors
from train.run_folder import RunFolder
from train.saving import CheckpointKeeper
from train.schema import ModelConfig, RunConfig
from train.scoring import (
    baseline_store,
    check_episodes,
    int8_error,
    make_scorer,
    probe_requests,
    scoring_noise,
)
from train.stages import Stages, keep
from train.twin import twin

ROLLOUTS_PER_TABLE = 8
# The settings that a trained agent depends on.
TRAINED_BY = (
    *("policy", "trainer", "curriculum", "max_skipped_steps", "distributed", "reward", "env"),
    *("prompts", "generator", "seed"),
)


@dataclass(frozen=True)
class Run:
    """A run's settings and what is built from them once; nothing is written before `train`.

    `kept` are models that an earlier run trained, by stage; those are not trained again.
    """

    config: RunConfig
    source: Source
    order: EpisodeOrder
    env: SoloPlanner
    terms: tuple[WeightedTerm, ...]
    progress: ProgressDisplay
    kept: Mapping[str, ModelConfig] = field(default_factory=dict)
    signals: StopSignals = field(default_factory=StopSignals)

    @classmethod
    def prepare(
        cls,
        config: RunConfig,
        progress: ProgressDisplay,
        kept: Mapping[str, ModelConfig] | None = None,
        signals: StopSignals | None = None,
    ) -> Run:
        """Builds what a bad setting or book would break, so that it breaks before any work."""
        for key, model in (
            ("generator.model", config.generator.model),
            ("policy.model", config.policy.model),
            ("monitors.second_generator", config.monitors.second_generator),
        ):
            if model is not None:
                check_model(model, key)
        with progress.waiting("read the books"):
            source = build(config.data, "data")
            watched: tuple[Split, ...] = ("validation",) if config.monitors.every_steps else ()
            needed = ("train", config.evaluation.split, *watched)
            empty = [split for split in needed if not source.episodes(split)]
        if empty:
            raise ValueError(f"data: the split '{empty[0]}' has no episodes; give more books")
        check_trainer(config.trainer)
        for stage in ("warm_start", "sft_baseline"):
            settings = getattr(config, stage)
            if config.distributed.zero_stage and settings and settings.optimizer == "muon":
                raise ValueError(
                    f"{stage}.optimizer: muon wants whole matrices, which ZeRO cuts; take adamw "
                    "or distributed=none"
                )
        terms = build_terms(config.reward)
        check_groups(terms, config.trainer)
        distractors(terms, source.episodes("train"))
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        return cls(
            config,
            source,
            order_of(
                source.episodes("train"),
                config.trainer,
                config.seed,
                build(config.curriculum, "curriculum") if config.curriculum else None,
            ),
            build(config.env, "env", prompts=config.prompts),
            terms,
            progress,
            kept or {},
            signals or StopSignals(),
        )

    @cached_property
    def stages(self) -> Stages:
        cache = Cache(Path(self.config.cache_dir))
        return Stages(self.config, self.source, cache, self.progress, self.env.parser.marker)

    @cached_property
    def generator(self) -> ModelConfig:
        return self.kept.get("generator") or self.stages.generator()

    @property
    def base_policy(self) -> ModelConfig:
        """What the agent was before the warm start."""
        return self.config.policy.model or self.generator

    @cached_property
    def warm_start(self) -> ModelConfig:
        return self.kept.get("warm_start") or self.stages.warm_start(self.generator)

    @cached_property
    def sft_baseline(self) -> ModelConfig | None:
        return self.kept.get("sft_baseline") or self.stages.sft_baseline(self.generator)

    @cached_property
    def train_episodes(self) -> list[Episode]:
        return self.source.episodes("train")

    @cached_property
    def reward(self) -> LikelihoodImprovement:
        model, tokenizer = self._writer
        return LikelihoodImprovement(
            make_scorer(model, self.config.scorer),
            self.stages.encoder(tokenizer, context_window(model.config)),
            self.terms,
            build_rules(self.config.reward),
            baseline_store(model, tokenizer, Path(self.config.cache_dir) / "likelihoods"),
            self.config.trainer.num_generations,
            distractors(self.terms, self.train_episodes),
        )

    @cached_property
    def _writer(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The generator, loaded."""
        sharding, quantization = self.config.scorer.sharding, self.config.generator.quantization
        return load_frozen(self.generator, "generator.model", sharding, quantization)

    @cached_property
    def _shares_weights(self) -> bool:
        """Whether the policy learns as adapters on the loaded generator."""
        return shares_weights(self.config, self.generator, self.warm_start)

    def say_how_it_scores(self, episodes: Sequence[Episode]) -> float:
        """Prints what of these episodes the generator sees, and how exact their rewards are.

        Gives the latter: by how many points improvements are off by rounding.

        Raises:
            ValueError: an episode cannot be scored; the message names it.
        """
        encoder, config = self.reward.encoder, self.config
        # Those of the table as well: else one that cannot be scored is found after all training.
        judged = self.source.episodes(config.evaluation.split)[: config.evaluation.max_episodes]
        with self.progress.stage("look at the episodes"):
            lines = [check_episodes(encoder, [*episodes, *judged], self._writer[0])]
        if self._shares_weights:
            lines.append("policy and generator share their weights; the policy is adapters on them")
        noise_points = 0.0
        requests = probe_requests(encoder, episodes[: config.scorer.noise_episodes])
        if requests:
            with self.progress.stage("measure the scoring noise"):
                noise, line = scoring_noise(
                    self.reward.scorer, self._writer[0], requests, self.terms
                )
                noise_points = noise.largest
                lines.append(line)
                if config.generator.quantization is not None:
                    lines.append(int8_error(self.reward.scorer, self.generator, requests))
        for line in lines:
            self.say(line)
        return noise_points

    def say(self, line: str) -> None:
        """A line for the reader, once for all processes."""
        if ranks.is_main():
            self.progress.say(line)

    def trained_policy(self, folder: RunFolder) -> Path:
        """The agent after reinforcement: its folder in the cache, with its metrics beside it."""
        key = {
            "policy": model_digest(self.warm_start),
            "generator": model_digest(self.generator),
            "config": {
                name: value for name, value in asdict(self.config).items() if name in TRAINED_BY
            },
            "processes": ranks.num_processes(),
            "data": self.source.key(),
            "code": source_fingerprint(envs, rewards, zero, *algorithms.CODE),
        }
        return keep(self.stages.cache, "policy", key, lambda kept: self._train_policy(folder, kept))

    def _train_policy(self, folder: RunFolder, kept: Path) -> None:
        """Trains in the run's folder, from its last checkpoint on, and leaves the end in `kept`."""
        config, settings = self.config, self.config.trainer
        policy, tokenizer = self._untrained_policy()
        order = self.order
        guard = NonFiniteGuard(config.max_skipped_steps, self.say)
        parts = {"order": order, "skipped": guard}
        checkpoints = self._checkpoints(folder, policy)
        last = checkpoints.newest()
        if last is not None:
            last.restore(parts)
        noise = self.say_how_it_scores(order.episodes)
        with (
            self.progress.stage("reinforcement", settings.max_steps) as advance,
            MetricLog.open(
                folder, config.logging, asdict(config), last.step if last else BEFORE_ANY_STEP
            ) as log,
        ):
            monitor = start_monitor(
                config,
                self.stages,
                self.source.episodes("validation"),
                self.env,
                self.reward,
                log,
                folder.metrics_path,
                self.progress.say,
            )
            recorder = Recorder(log, advance, order.passes_per_rollout / settings.steps_per_rollout)
            keeper = CheckpointKeeper(
                checkpoints, self.signals, parts, settings.steps_per_savepoint
            )

            def learn_from(rollouts: Sequence[Rollout], scores: Sequence[Score]) -> None:
                recorder.keep_rollouts(rollouts, scores)
                order.observe(rollouts, scores)

            with checkpoints.explaining(), self.signals.deferred():
                policy = train_policy(
                    policy,
                    tokenizer,
                    self.env,
                    self.reward,
                    order,
                    settings,
                    output_dir=checkpoints.staging_dir,
                    seed=config.seed,
                    callbacks=[guard, recorder, *([monitor] if monitor else []), keeper],
                    on_scored=learn_from,
                    resume_from=last.path if last else None,
                    peft_config=peft_config(config.policy.lora),
                    noise=noise,
                    deepspeed=config.distributed.as_deepspeed(),
                )
            zero.release_memory()
            if monitor and monitor.stopped:
                newest = checkpoints.newest()
                kept_in = newest.path if newest else folder.checkpoints_dir
                raise StoppedByMonitor.because(monitor.stopped, folder.path, kept_in)
            if isinstance(policy, PeftModel):
                # Into copies of the weights: those of the base may be the generator's.
                policy = policy.merge_and_unload(safe_merge=True)
            save_model(policy, tokenizer, kept / "policy")
        if ranks.is_main():
            shutil.copy(folder.metrics_path, kept / "metrics.jsonl")

    def _checkpoints(self, folder: RunFolder, policy: PreTrainedModel) -> Checkpoints:
        """The run's checkpoints, which only go on from what they were made from."""
        lora = self.config.policy.lora
        made_from = {
            "policy model": weights_fingerprint(policy),
            "set of adapters (policy.lora)": digest(None if lora is None else asdict(lora)),
            "trainer": self.config.trainer.algorithm,
        }
        return Checkpoints(folder.checkpoints_dir, self.config.checkpoints, made_from, self.say)

    def _untrained_policy(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The agent before reinforcement; adapters on the generator itself share its weights."""
        if not self._shares_weights:
            return load_model(self.warm_start, "policy.model")
        model, tokenizer = self._writer
        return twin(model), copy.deepcopy(tokenizer)

    def evaluate(self, policy: ModelConfig) -> Evaluation:
        """The table of the trained agent against the warm start and the controls."""
        config = self.config.evaluation
        made = {"untrained": self.warm_start, "trained": policy}
        baseline = self.sft_baseline
        with self.progress.stage("load models", len(made) + 2) as advance:
            agents = {}
            for name, model_config in made.items():
                # As it answered in training, where passes in bfloat16 round its weights.
                dtype = "bfloat16" if self.config.trainer.bf16 else model_config.dtype
                model, tokenizer = load_model(replace(model_config, dtype=dtype), "policy.model")
                agents[name] = (on_device(model), tokenizer)
                advance()
            sft = None
            if baseline is not None:
                model, _ = load_frozen(baseline, "sft_baseline", self.config.scorer.sharding)
                sft = make_scorer(model, self.config.scorer)
            advance()
            episodes = self.source.episodes(config.split)
            evaluator = Evaluator(episodes, self.env, self.reward, config, self.config.seed)
            advance()
        return evaluator.table(agents, self.config.sampling, self.progress, sft)


class Recorder(TrainerCallback):
    """Writes what the trainer measures, and every few steps some rollouts, into the run's logs."""

    def __init__(
        self,
        log: MetricLog,
        advance: Advance,
        passes_per_step: float,
        steps_between_tables: int = 10,
    ) -> None:
        self.log = log
        self.advance = advance
        self.passes_per_step = passes_per_step
        self.steps_between_tables = steps_between_tables
        self._rollouts: list[tuple[Rollout, Score]] = []

    def keep_rollouts(self, rollouts: Sequence[Rollout], scores: Sequence[Score]) -> None:
        self._rollouts = list(zip(rollouts, scores, strict=True))[:ROLLOUTS_PER_TABLE]

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.advance(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.advance(1)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any
    ) -> None:
        # Times and means over this process's steps, which are not all of the run's.
        is_summary = "train_runtime" in (logs or {})
        if not state.is_world_process_zero or not logs or is_summary:
            return
        numbers = {k: float(v) for k, v in logs.items() if v is not None}
        if "epoch" in numbers:
            # To the trainer the whole run is one epoch; to the reader it is a pass over the books.
            numbers["epoch"] = state.global_step * self.passes_per_step
        self.log.log(state.global_step, numbers)
        if state.global_step % self.steps_between_tables == 1 and self._rollouts:
            self.log.table(
                state.global_step,
                "rollouts",
                ["episode_id", "answer", "plan", "status", "improvement", "reward"],
                [
                    [
                        r.episode.episode_id,
                        r.reply.text,
                        r.outcome.plan,
                        r.status.value,
                        s.improvement,
                        s.reward,
                    ]
                    for r, s in self._rollouts
                ],
            )


def train(run: Run, folder: RunFolder) -> Evaluation:
    """All stages of a run; leaves the agent, the table, the curve and the examples in `folder`."""
    # Before the frozen generator is loaded: either may fill a GPU.
    _ = run.sft_baseline
    trained = run.trained_policy(folder)
    if PartialState().is_main_process:
        copy_folder(trained / "policy", folder.policy_dir)
        if not folder.metrics_path.exists():
            shutil.copy(trained / "metrics.jsonl", folder.metrics_path)
    keep_models(run, folder)
    PartialState().wait_for_everyone()
    evaluation = run.evaluate(run.base_policy.at(folder.policy_dir))
    write_results(run, evaluation, folder)
    return evaluation


def keep_models(run: Run, folder: RunFolder) -> None:
    """Copies what the stages trained, so that the run can be evaluated without its cache."""
    config = run.config
    made = {
        "generator": run.generator if config.generator.is_trained else None,
        "warm_start": run.warm_start if config.warm_start else None,
        "sft_baseline": run.sft_baseline,
    }
    trained = {stage: str(model.path) for stage, model in made.items() if model is not None}
    if not trained or not PartialState().is_main_process:
        return
    with run.progress.stage("keep models", len(trained)) as advance:
        for stage, path in trained.items():
            copy_folder(Path(path), folder.model_dir(stage))
            advance()


def write_results(run: Run, evaluation: Evaluation, folder: RunFolder) -> None:
    """`evaluation.json`, the learning curve and the examples."""
    if not PartialState().is_main_process:
        return
    with run.progress.stage("write results"):
        write_json(folder.evaluation_path, evaluation.as_json())
        write_improvements(evaluation, folder.path)
        if folder.metrics_path.exists():
            plot_learning_curve(folder.metrics_path, evaluation, folder.learning_curve_path)
        write_examples(
            evaluation,
            run.config.prompts,
            run.reward.encoder,
            run.config.evaluation.num_examples,
            folder.examples_path,
        )
