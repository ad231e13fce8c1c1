"""A run's settings, and what is built and made from them once: books, models, the reward."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from envs.collaboration.collaboration import Collaboration
from envs.ensemble import Ensemble
from envs.solo import SoloPlanner
from envs.types import GENERATOR, Episode, Source, Split
from envs.voices import voices
from rewards.likelihood.model_limits import context_window
from rewards.likelihood_improvement import LikelihoodImprovement
from rewards.stores.likelihood_store import DiskLikelihoodStore
from rewards.types import LikelihoodScorer
from rewards.weighted_sum import WeightedTerm
from train import ranks
from train.adapters import check_role_adapters, shares_weights
from train.algorithms import check_trainer, order_of
from train.cache import Cache
from train.config.build import build
from train.ensembles.shelf import Shelf, Writer, check_ensemble
from train.episode_order import EpisodeOrder
from train.frozen import load_frozen, on_device
from train.models import check_model, load_model
from train.preemption import StopSignals
from train.progress import ProgressDisplay
from train.reward_config import build_terms, check_groups, distractors
from train.samplers import check_continuous_batching
from train.schema import GeneratorConfig, ModelConfig, RunConfig
from train.scoring import baseline_store, make_scorer
from train.stages import Stages
from train.twin import twin

# What a writer's folder is called among the models that a run keeps.
WRITER = "writer_"

if TYPE_CHECKING:
    from train.pooled import PooledGenerator


@dataclass(frozen=True)
class Run:
    """A run's settings and what is built from them once; nothing is written before `train`.

    `kept` are models that an earlier run trained, by stage; those are not trained again. `order` is
    None for a run that is only evaluated.
    """

    config: RunConfig
    source: Source
    order: EpisodeOrder | None
    env: SoloPlanner | Collaboration | Ensemble
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
        *,
        is_trained: bool = False,
    ) -> Run:
        """Builds what a bad setting or book would break, so that it breaks before any work.

        Where `is_trained`, all that remains is to evaluate, on a shelf that need not have books to
        learn from.
        """
        _check_models(config)
        with progress.waiting("read the books"):
            source = _books(config, is_trained)
        env = build(config.env, "env", prompts=config.prompts)
        _check_scorer(config, env)
        if isinstance(env, Ensemble):
            check_ensemble(env, config.writers)
        else:
            check_trainer(config.trainer, env, config.distributed.zero_stage)
            _check_members(config, env)
            check_continuous_batching(config)
            if not is_trained:
                check_role_adapters(config, env)
        _check_optimizers(config)
        terms = build_terms(config.reward)
        check_groups(terms, config.trainer)
        if not is_trained:
            distractors(terms, source.episodes("train"))
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        return cls(
            config,
            source,
            None if is_trained or isinstance(env, Ensemble) else _order(config, source),
            env,
            terms,
            progress,
            kept or {},
            signals or StopSignals(),
        )

    @cached_property
    def stages(self) -> Stages:
        cache = Cache(Path(self.config.cache_dir))
        # Writers answer nobody; the form of a plan is that of the prompts.
        own = self.config.prompts.plan_marker
        marker = own if isinstance(self.env, Ensemble) else self.env.parser.marker
        return Stages(self.config, self.source, cache, self.progress, marker)

    @property
    def player(self) -> SoloPlanner | Collaboration:
        """The env, where the policy plays in it."""
        assert not isinstance(self.env, Ensemble)
        return self.env

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
        kept_in = Path(self.config.cache_dir) / "likelihoods"
        by_name = isinstance(self.env, Ensemble)
        if self.pooled is not None:
            scorer: LikelihoodScorer = self.pooled.scorer
            window = context_window(self.pooled.config)
            encoder = self.stages.encoder(self.pooled.tokenizer, window)
            store = DiskLikelihoodStore(kept_in, self.pooled.about["key"])
        else:
            reference = self.shelf.writer(GENERATOR)
            scorer = self.shelf if by_name else reference.scorer
            encoder = reference.encoder
            store = baseline_store(reference.model, reference.tokenizer, kept_in)
        return LikelihoodImprovement(
            scorer,
            encoder,
            self.terms,
            self.config.reward.rules,
            store,
            self.config.trainer.num_generations,
            distractors(self.terms, self.train_episodes),
            self.shelf.encoders if by_name else None,
        )

    @cached_property
    def shelf(self) -> Shelf:
        """The generator and the other writers, by name."""
        config = self.config

        def bring(name: str, writer: GeneratorConfig) -> Writer:
            key, sharding = f"writers.{name}.model", config.scorer.sharding
            loaded = load_frozen(self.writers[name], key, sharding, writer.quantization)
            return self._dressed(*loaded, writer)

        load = {name: partial(bring, name, writer) for name, writer in config.writers.items()}
        own = {GENERATOR: lambda: self._dressed(*self.writer, config.generator)}
        dress = partial(self._dressed, limits=config.generator)
        policy = None if self.agent == self.generator else lambda: dress(*self._chooser())
        return Shelf(own | load, dress, config.scorer, policy)

    @property
    def agent(self) -> ModelConfig:
        """The policy as an ensemble asks it: trained by an earlier run, or what it was before."""
        return self.kept.get("policy") or self.base_policy

    def _chooser(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        model, tokenizer = load_model(self.agent.to_train, "policy.model")
        if voices(model):
            raise ValueError(
                "env.router: the policy speaks with adapters by role, and none of its roles is to "
                "choose a writer; take env.router=encoder, or policy.lora.per_role=false"
            )
        return on_device(model), tokenizer

    @cached_property
    def writers(self) -> dict[str, ModelConfig]:
        """The writers beside the generator, by name: given by path, or trained and kept."""
        return {
            name: self.kept.get(f"{WRITER}{name}") or self.stages.writer(name, writer)
            for name, writer in self.config.writers.items()
        }

    def _dressed(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        limits: GeneratorConfig,
    ) -> Writer:
        encoder = self.stages.encoder(tokenizer, context_window(model.config), limits)
        return Writer(model, tokenizer, encoder, make_scorer(model, self.config.scorer))

    @cached_property
    def shared_reward(self) -> LikelihoodImprovement:
        """The reward for what every process asks alike: it is scored once for all of them."""
        return self.reward if self.pooled is None else self.pooled.shared(self.reward)

    @cached_property
    def pooled(self) -> PooledGenerator | None:
        """The generator in the workers of a pool; None where the processes of the run hold it."""
        if self.config.scorer.kind != "ray":
            return None
        # Loads Ray and all that a scorer needs; most runs do without.
        from train.pooled import PooledGenerator

        with self.progress.stage("wait for the scoring pool"):
            return PooledGenerator.start(
                self.generator, self.config.generator.quantization, self.config.scorer
            )

    @property
    def generator_device(self) -> str:
        """`cpu` or the kind of accelerator on which likelihoods are computed."""
        return self.writer[0].device.type if self.pooled is None else self.pooled.about["device"]

    @cached_property
    def writer(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The generator, loaded."""
        sharding, quantization = self.config.scorer.sharding, self.config.generator.quantization
        return load_frozen(self.generator, "generator.model", sharding, quantization)

    @cached_property
    def shares_weights_with_generator(self) -> bool:
        """Whether the policy learns as adapters on the loaded generator."""
        return shares_weights(self.config, self.generator, self.warm_start)

    def untrained_policy(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The agent before reinforcement; adapters on the generator itself share its weights."""
        if not self.shares_weights_with_generator:
            return load_model(self.warm_start, "policy.model")
        model, tokenizer = self.writer
        return twin(model), copy.deepcopy(tokenizer)

    def say(self, line: str) -> None:
        """A line for the reader, once for all processes."""
        if ranks.is_main():
            self.progress.say(line)


def _check_models(config: RunConfig) -> None:
    for key, model in (
        ("generator.model", config.generator.model),
        ("policy.model", config.policy.model),
        ("monitors.second_generator", config.monitors.second_generator),
        ("evaluation.second_generator", config.evaluation.second_generator),
        *((f"writers.{name}.model", writer.model) for name, writer in config.writers.items()),
    ):
        if model is not None:
            check_model(model, key)


def episodes_of(source: Source, split: Split | Literal["all"]) -> list[Episode]:
    """The episodes of one split, or of the whole shelf."""
    splits: tuple[Split, ...] = ("train", "validation", "test") if split == "all" else (split,)
    return [episode for name in splits for episode in source.episodes(name)]


def _books(config: RunConfig, is_trained: bool) -> Source:
    """The books, with episodes in every split that the run needs."""
    source: Source = build(config.data, "data")
    watched: tuple[Split, ...] = ("validation",) if config.monitors.every_steps else ()
    learned: tuple[Split, ...] = () if is_trained else ("train", *watched)
    needed = (*learned, config.evaluation.split)
    empty = [split for split in needed if not episodes_of(source, split)]
    if empty:
        raise ValueError(f"data: the split '{empty[0]}' has no episodes; give more books")
    return source


def _check_scorer(config: RunConfig, env: object) -> None:
    if (config.writers or isinstance(env, Ensemble)) and config.scorer.kind == "ray":
        raise ValueError(
            "scorer: a pool has the generator alone, and this run has other writers as well; "
            "take scorer=ranks"
        )


def _check_members(config: RunConfig, env: SoloPlanner | Collaboration) -> None:
    """Monitors play on all processes together, and members answer each of them on its own."""
    if (
        isinstance(env, Collaboration)
        and env.cast.members
        and config.monitors.every_steps
        and ranks.num_processes() > 1
    ):
        raise ValueError(
            "monitors: with several processes they cannot watch plays in which other members take "
            "part; set monitors=off"
        )


def _order(config: RunConfig, source: Source) -> EpisodeOrder:
    return order_of(
        source.episodes("train"),
        config.trainer,
        config.seed,
        build(config.curriculum, "curriculum") if config.curriculum else None,
    )


def _check_optimizers(config: RunConfig) -> None:
    for stage in ("warm_start", "sft_baseline"):
        settings = getattr(config, stage)
        if config.distributed.zero_stage and settings and settings.optimizer == "muon":
            raise ValueError(
                f"{stage}.optimizer: muon wants whole matrices, which ZeRO cuts; take adamw "
                "or distributed=none"
            )
