"""Stages are trained once per content: a second run starts where it differs."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

from envs.sources.storyworld import StoryWorldSource
from train.cache import Cache
from train.models import resolve_path
from train.progress import Advance, ProgressDisplay
from train.schema import (
    GeneratorConfig,
    ModelConfig,
    ReadingPhase,
    RewardConfig,
    RunConfig,
    WritingPhase,
)
from train.settings.supervised import SupervisedSettings
from train.stages import Stages

ARCHITECTURE = {
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 1024,
}
TINY = SupervisedSettings(max_steps=1, batch_size=2)
GENERATOR, WARM_START, SFT = "generator, writing 1", "warm start", "SFT baseline"


class Titles(ProgressDisplay):
    """Keeps the titles of the stages that did some work."""

    def __init__(self) -> None:
        super().__init__(Console(file=io.StringIO()))
        self.done: list[str] = []

    @contextmanager
    def stage(self, title: str, total: int | None = None) -> Iterator[Advance]:
        steps: list[int] = []
        yield lambda step=1, note=None: steps.append(step)
        assert sum(steps) == total
        self.done.append(title)


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return RunConfig(
        experiment_name="test",
        data={},
        env={},
        reward=RewardConfig(terms={}),
        generator=GeneratorConfig(
            model=ModelConfig(architecture=ARCHITECTURE, vocab_size=300),
            training=(WritingPhase(max_steps=1, batch_size=2),),
        ),
        run_dir=str(tmp_path / "run"),
        warm_start=TINY,
        sft_baseline=TINY,
    )


@pytest.fixture
def run(config: RunConfig, world: StoryWorldSource, tmp_path: Path) -> Callable[..., list[str]]:
    """Runs all stages with some settings changed; tells which of them had to be trained."""

    def run(source: StoryWorldSource = world, **changes: object) -> list[str]:
        titles = Titles()
        changed = replace(config, **changes)
        stages = Stages(changed, source, Cache(tmp_path / "cache"), titles, "In summary:")
        generator = stages.generator()
        stages.warm_start(generator)
        stages.sft_baseline(generator)
        return titles.done

    return run


def test_a_second_run_trains_nothing(run: Callable[..., list[str]]) -> None:
    assert run() == [GENERATOR, WARM_START, SFT]
    assert run() == []


def test_a_changed_setting_trains_again_from_its_stage_on(
    run: Callable[..., list[str]], config: RunConfig
) -> None:
    run()
    assert run(warm_start=replace(TINY, learning_rate=1e-4)) == [WARM_START]
    assert run(sft_baseline=None, warm_start=None) == []
    assert run(prompts=replace(config.prompts, write_task="Go on.")) == [
        GENERATOR,
        WARM_START,
        SFT,
    ]
    assert run(seed=1) == [GENERATOR, WARM_START, SFT]
    # What no stage depends on.
    assert run(experiment_name="other", run_dir="elsewhere", threads=1) == []


def test_other_books_train_again(run: Callable[..., list[str]], world: StoryWorldSource) -> None:
    run()
    assert run(replace(world, seed=2)) == [GENERATOR, WARM_START, SFT]
    # More books to learn from by reinforcement are more for the baseline alone.
    assert run(replace(world, train_books=5)) == [SFT]


def test_a_source_whose_texts_changed_under_the_same_settings_trains_again(
    run: Callable[..., list[str]], world: StoryWorldSource
) -> None:
    class Retold(StoryWorldSource):
        def writing_samples(self) -> list:
            retold = super().writing_samples()
            return [(replace(e, chapter=replace(e.chapter, text="So.")), p) for e, p in retold]

    run()
    assert GENERATOR in run(Retold(**vars(world)))


def test_every_phase_of_the_generator_is_trained(
    run: Callable[..., list[str]], config: RunConfig
) -> None:
    phase = config.generator.training[0]
    phases = (replace(phase, max_context_tokens=20), replace(phase, plan_token_weight=3.0))
    reading = (ReadingPhase(max_steps=1, batch_size=2, num_shown=2, num_repeated=1),)
    titles = run(generator=replace(config.generator, reading=reading, training=phases))
    assert titles == ["generator, reading 1", GENERATOR, "generator, writing 2", WARM_START, SFT]


def test_a_given_model_is_taken_as_it_is(
    config: RunConfig, world: StoryWorldSource, tmp_path: Path
) -> None:
    given = ModelConfig(path="some/model")
    stages = Stages(
        replace(config, generator=GeneratorConfig(model=given), warm_start=None, sft_baseline=None),
        world,
        Cache(tmp_path),
        Titles(),
        "In summary:",
    )
    assert stages.generator() == stages.warm_start(given) == given
    assert stages.sft_baseline(given) is None


def test_a_random_start_takes_the_tokenizer_of_another_model(
    config: RunConfig, world: StoryWorldSource, tmp_path: Path
) -> None:
    model = ModelConfig(architecture=ARCHITECTURE, tokenizer="assets/storyworld")
    writer = replace(config.generator, model=model)
    stages = Stages(config, world, Cache(tmp_path), Titles(), "In summary:")
    made = stages.writer("small", writer)
    assert made.tokenizer is None
    own, other = (
        AutoTokenizer.from_pretrained(resolve_path(str(path)))
        for path in (made.path, "assets/storyworld")
    )
    assert own.get_vocab() == other.get_vocab()
    assert AutoModelForCausalLM.from_pretrained(made.path).config.vocab_size == len(other)


def test_plain_from_pretrained_loads_what_a_stage_made(
    config: RunConfig, world: StoryWorldSource, tmp_path: Path
) -> None:
    stages = Stages(config, world, Cache(tmp_path), Titles(), "In summary:")
    path = stages.warm_start(stages.generator()).path
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path)
    assert model.get_input_embeddings().weight.shape == (300, 16)
    assert len(tokenizer) == 300
    assert tokenizer.chat_template
