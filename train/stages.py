"""The stages of a run before reinforcement learning, each kept by content for the next run.

Every stage is a function of typed settings and of the folders that earlier stages made.
"""

from __future__ import annotations

import importlib.metadata
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from envs import prompts, tokens
from envs.tokens import pad_id
from envs.types import Episode, Source
from rewards import encode
from rewards.encode import GeneratorEncoder
from train import models, ranks, samples, scratch, supervised, zero
from train.cache import Cache, digest, source_fingerprint
from train.config.build import build
from train.models import (
    check_tokenizer,
    load_model,
    load_tokenizer,
    model_digest,
    save_model,
)
from train.progress import Advance, ProgressDisplay
from train.schema import GeneratorConfig, ModelConfig, RunConfig
from train.settings.supervised import SupervisedSettings
from train.supervised import Sample

CORPUS_SAMPLES = 3_000
# What the main process tells the others in the place of a folder: to make it together.
MAKE = "make"

Texts = Sequence[tuple[Episode, str]]
"""Episodes, each with what is learned beside its chapter: a plan or an answer."""


@dataclass(frozen=True)
class Stages:
    """What all stages share: settings, material, the cache and the progress display."""

    config: RunConfig
    source: Source
    cache: Cache
    progress: ProgressDisplay
    marker: str

    def generator(self) -> ModelConfig:
        """The frozen generator: given by path, or trained here and kept."""
        return self.writer("generator", self.config.generator)

    def writer(self, name: str, config: GeneratorConfig) -> ModelConfig:
        """A frozen writer of chapters: given by path, or trained here and kept."""
        if not config.is_trained:
            return config.model
        origin = config.model.path or config.model.tokenizer
        with self.progress.waiting(f"read what {name} learns from"):
            phases = self._phase_samples(config)
            key = {
                "generator": asdict(config),
                "model": model_digest(replace(config.model, path=origin)) if origin else None,
                "prompts": asdict(self.config.prompts),
                "data": _content(self.source.writing_samples(), self._demonstrations()),
                "phases": [_content(pairs) for pairs in phases],
                "seed": self.config.seed,
                **_code(),
            }
        make = partial(self._train_writer, name, config, phases)
        return config.model.at(keep(self.cache, "generator", key, make))

    def warm_start(self, generator: ModelConfig) -> ModelConfig:
        """The agent before reinforcement: the base model, taught the form of a plan."""
        base = self.config.policy.model or generator
        settings = self.config.warm_start
        if settings is None:
            return base

        def make(folder: Path) -> None:
            model, tokenizer = load_model(base.to_train, "policy.model")
            found = partial(self._answers, tokenizer)
            self._fit(model, tokenizer, found, settings, "warm start", self._sharding)
            save_model(model, tokenizer, folder)

        with self.progress.waiting("read what the agent learns from"):
            key = self._model_key(base, self._demonstrations()) | {"settings": asdict(settings)}
        return base.at(keep(self.cache, "warm_start", key, make))

    def sft_baseline(self, generator: ModelConfig) -> ModelConfig | None:
        """The published baseline: the generator fine-tuned to write the gold chapter directly."""
        settings = self.config.sft_baseline
        if settings is None:
            return None

        pairs = [(episode, "") for episode in self.source.episodes("train")]

        def make(folder: Path) -> None:
            model, tokenizer = load_model(generator.to_train, "generator.model")
            encoder = self.encoder(tokenizer)
            found = partial(samples.writing_samples, encoder, pairs)
            self._fit(model, tokenizer, found, settings, "SFT baseline", self._sharding)
            save_model(model, tokenizer, folder)

        key = self._model_key(generator, pairs) | {"settings": asdict(settings)}
        return generator.at(keep(self.cache, "sft_baseline", key, make))

    def encoder(
        self,
        tokenizer: PreTrainedTokenizerBase,
        window: int | None = None,
        writer: GeneratorConfig | None = None,
    ) -> GeneratorEncoder:
        """Lays episodes out within a writer's limits, the generator's for None, and its window."""
        limits = writer or self.config.generator
        return GeneratorEncoder(
            tokenizer,
            self.config.prompts,
            limits.max_context_tokens,
            limits.max_plan_tokens,
            limits.max_gold_tokens,
            window,
            limits.gives_way,
        )

    def _answers(self, tokenizer: PreTrainedTokenizerBase) -> list[Sample]:
        pairs = [
            (self.config.prompts.ask_for_plan(episode.context), answer)
            for episode, answer in self._demonstrations()
        ]
        return samples.answer_samples(tokenizer, pairs)

    def _phase_samples(self, config: GeneratorConfig) -> list[Texts]:
        """What a writer learns to write from, phase by phase."""
        return [
            build({**self.config.data, **phase.data}, "data").writing_samples()
            if phase.data
            else self.source.writing_samples()
            for phase in config.training
        ]

    def _train_writer(
        self, name: str, config: GeneratorConfig, phase_samples: Sequence[Texts], folder: Path
    ) -> None:
        pairs = self.source.writing_samples()
        if config.model.path is not None:
            model, tokenizer = load_model(config.model.to_train, f"{name}.model")
        else:
            tokenizer = self._tokenizer(name, config.model, pairs)
            model = scratch.random_model(config.model.architecture, tokenizer, self.config.seed)
        check_tokenizer(model, tokenizer, f"{name}.model")
        contexts = [episode.context for episode, _ in pairs]
        for number, lesson in enumerate(config.reading, start=1):
            found = partial(
                samples.reading_samples,
                tokenizer,
                self.config.prompts,
                contexts,
                lesson.headings,
                lesson.num_shown,
                lesson.num_repeated,
                self.config.seed + number,
            )
            self._fit(model, tokenizer, found, lesson, f"{name}, reading {number}")
        phases = zip(config.training, phase_samples, strict=True)
        for number, (phase, shown) in enumerate(phases, start=1):
            encoder = self.encoder(tokenizer, writer=config)
            if phase.max_context_tokens is not None:
                encoder.max_context_tokens = phase.max_context_tokens
            found = partial(samples.writing_samples, encoder, shown, phase.plan_token_weight)
            self._fit(model, tokenizer, found, phase, f"{name}, writing {number}")
        save_model(model, tokenizer, folder)

    def _tokenizer(self, name: str, model: ModelConfig, pairs: Texts) -> PreTrainedTokenizerBase:
        """Of a random start: that of another model, or one that is trained on the corpus."""
        if model.tokenizer is not None:
            return load_tokenizer(model.tokenizer, f"{name}.model.tokenizer")
        answers = [answer for _, answer in self._demonstrations()]
        texts = samples.corpus(
            self.config.prompts, pairs[:CORPUS_SAMPLES], answers[: CORPUS_SAMPLES // 4]
        )
        return scratch.train_tokenizer(texts, model.vocab_size)

    def _fit(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        find_samples: Callable[[], list[Sample]],
        settings: SupervisedSettings,
        title: str,
        deepspeed: Mapping[str, Any] | None = None,
    ) -> None:
        with (
            self.progress.stage(title, settings.max_steps) as advance,
            tempfile.TemporaryDirectory() as work_dir,
        ):
            supervised.fit(
                model,
                find_samples(),
                settings,
                pad_id=pad_id(tokenizer),
                seed=self.config.seed,
                work_dir=Path(work_dir),
                callbacks=[StepCallback(advance)],
                deepspeed=deepspeed,
            )

    @property
    def _sharding(self) -> dict[str, Any] | None:
        """Of the stages that train a copy of a whole model once.

        The generator's lessons do without: what is trained from scratch is small, and ZeRO takes a
        model that has not been through it before.
        """
        return self.config.distributed.as_deepspeed()

    def _demonstrations(self) -> Texts:
        return self.source.demonstrations(self.marker)

    def _model_key(self, model: ModelConfig, learns_from: Texts) -> dict[str, Any]:
        """What a trained copy of a model depends on."""
        return {
            "model": model_digest(model),
            "prompts": asdict(self.config.prompts),
            "limits": {
                name: getattr(self.config.generator, name)
                for name in ("max_context_tokens", "max_plan_tokens", "max_gold_tokens")
            },
            "data": _content(learns_from),
            "seed": self.config.seed,
            "distributed": asdict(self.config.distributed),
            **_code(),
        }


def _code() -> dict[str, Any]:
    """What else a trained stage depends on: the code that trains it, and its libraries."""
    modules = (__name__, supervised, zero, scratch, samples, models, encode, prompts, tokens)
    libraries = ("torch", "transformers", "tokenizers")
    return {
        "code": source_fingerprint(*modules),
        "libraries": {name: importlib.metadata.version(name) for name in libraries},
        # Each has batches of its own.
        "processes": ranks.num_processes(),
    }


def _content(*taught: Texts) -> str:
    """Digest of what a stage learns from: it counts as it is, whoever made it and how."""
    return digest([repr((e.context, e.chapter, text)) for texts in taught for e, text in texts])


def keep(cache: Cache, stage: str, key: Mapping[str, Any], make: Callable[[Path], None]) -> Path:
    """The cached folder of a stage. With several processes all work, and the main one keeps.

    Only the main one looks whether it is there: others may see a folder later, and another run may
    be at work on it.
    """
    if ranks.is_main():
        entry = cache.get_or_make(stage, key, partial(_make_with_others, make))
        return Path(ranks.from_main(lambda: str(entry)))
    told = ranks.from_main(str)
    if told == MAKE:
        with tempfile.TemporaryDirectory() as elsewhere:
            make(Path(elsewhere))
        told = ranks.from_main(str)
    return Path(told)


def _make_with_others(make: Callable[[Path], None], folder: Path) -> None:
    ranks.from_main(lambda: MAKE)
    make(folder)


class StepCallback(TrainerCallback):
    """Moves a progress bar with every optimizer step."""

    def __init__(self, advance: Advance) -> None:
        self.advance = advance

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.advance(1)
