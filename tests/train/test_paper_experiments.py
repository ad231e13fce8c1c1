"""The published experiments, run for two steps with a tiny model of the published architecture."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig
from safetensors.torch import load_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rewards.terms.tiers import Tiers
from train import pipeline
from train.config.validate import parse
from train.models import save_model
from train.progress import ProgressDisplay
from train.reward_config import build_terms
from train.run import Run
from train.run_folder import RunFolder
from train.schema import RunConfig

# TRL reads names that transformers has renamed; nothing here can mend it.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*deprecated:FutureWarning")

STAGES = ("generator", "warm_start", "sft_baseline")


def row(story: str, index: int) -> dict[str, Any]:
    return {
        "story_id": story,
        "chapter_index": index,
        "story_text": "Everything that happens.",
        "next_chapter": f"The wheel stood still. {story.title()} climbed down, {index} rungs.",
        "next_chapter_header": f"Chapter {index}: The Wheel",
        "prior_plot_summary": "The river has been falling for a week.",
        "high_level_plot_summary": "A mill stops, and is sold.",
        "character_sheets": {"Ann": "A miller who owes money.", "Cid": "A crow."},
        "next_chapter_synopsis": "The wheel stops.",
        "last_n_chapters": "The water was low. Ann counted the sacks again.",
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for split, stories in (("train", "abcd"), ("validation", "e"), ("test", "fg")):
        rows = [row(f"{split}-{story}", index) for story in stories for index in (1, 2)]
        text = "".join(json.dumps(each) + "\n" for each in rows)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def tiny_qwen(
    make_model: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("model")
    # With a Qwen2 model transformers loads a tokenizer that has this token in any case.
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|endoftext|>"]})
    model = make_model("qwen2", max_position_embeddings=4096)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    save_model(model, tokenizer, folder)
    return folder


@pytest.mark.parametrize(
    ("experiment", "model", "num_generations"),
    [("paper_3b", "Qwen/Qwen2.5-3B-Instruct", 16), ("paper_7b", "Qwen/Qwen2.5-7B-Instruct-1M", 8)],
)
def test_an_experiment_holds_the_published_numbers(
    compose_train: Callable[..., DictConfig], experiment: str, model: str, num_generations: int
) -> None:
    config = parse(RunConfig, compose_train(f"experiment={experiment}"))
    trainer, sampling = config.trainer, config.sampling
    assert config.generator.model.path == model
    assert config.policy.model is not None and config.policy.model.path == model
    assert (trainer.num_generations, trainer.episodes_per_step) == (num_generations, 64)
    assert (trainer.learning_rate, trainer.warmup_ratio) == (5e-7, 0.03)
    assert trainer.lr_scheduler_type == "cosine_with_min_lr"
    assert trainer.lr_scheduler_kwargs == {"min_lr_rate": 0.1}
    assert (trainer.beta, trainer.epsilon, trainer.temperature) == (1e-6, 0.2, 1.0)
    assert (trainer.adam_beta1, trainer.adam_beta2) == (0.9, 0.95)
    assert config.generator.max_context_tokens == 12_000
    assert trainer.max_completion_length == 2_048
    (tiers,) = build_terms(config.reward)
    assert tiers.term == Tiers((0.05, 1.0, 2.0), (0.5, 0.9, 1.0)) and tiers.weight == 1.0
    assert config.sft_baseline is not None and config.sft_baseline.learning_rate == 2e-5
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.7, 0.8, 20)
    assert sampling.repetition_penalty == 1.05
    assert config.prompts.include_hindsight
    assert config.env["parser"]["whole_answer_without_marker"]
    assert config.warm_start is None


@pytest.mark.parametrize(
    ("experiment", "policy"), [("paper_3b", "full"), ("paper_7b", "full"), ("paper_7b", "lora")]
)
def test_an_experiment_takes_two_steps_with_a_tiny_model_of_its_architecture(
    compose_train: Callable[..., DictConfig],
    tmp_path: Path,
    data: Path,
    tiny_qwen: Path,
    experiment: str,
    policy: str,
) -> None:
    composed = compose_train(
        f"experiment={experiment}",
        f"policy={policy}",
        *(f"data.{split}=[{data}/{split}.jsonl]" for split in ("train", "validation", "test")),
        f"generator.model.path={tiny_qwen}",
        "trainer.max_steps=2",
        "trainer.save_steps=2",
        "trainer.episodes_per_step=2",
        "trainer.max_completion_length=12",
        "sampling.max_new_tokens=12",
        "sft_baseline.max_steps=1",
        "sft_baseline.gradient_accumulation_steps=2",
        "evaluation.bootstrap_samples=100",
        "logging.wandb=disabled",
        "logging.tensorboard=false",
        f"cache_dir={tmp_path}/cache",
    )
    weights = (tiny_qwen / "model.safetensors").read_bytes()
    run = Run.prepare(parse(RunConfig, composed), ProgressDisplay())
    with RunFolder.create(tmp_path / "run", composed) as folder:
        evaluation = pipeline.train(run, folder)

    metrics = [json.loads(line) for line in folder.metrics_path.read_text().splitlines()]
    rewards = {m["step"]: m["reward"] for m in metrics if "reward" in m}
    assert rewards.keys() == {1, 2}
    # What a random model answers is a plan as a whole, unless it is blank; the tiers decide alone.
    assert all(0.0 <= reward <= 1.0 for reward in rewards.values())
    assert all(m["plan/no_plan"] < 0.5 for m in metrics if "plan/no_plan" in m)
    assert evaluation.row("empty_plan").improvement.mean == 0.0
    names = {(r.name, r.decoding) for r in evaluation.rows}
    assert names >= {("untrained", "greedy"), ("trained", "sampled"), ("sft_baseline", None)}
    assert (tiny_qwen / "model.safetensors").read_bytes() == weights
    # Adapters are learned in the checkpoints and merged at the end: the agent stands alone.
    assert bool(list(folder.checkpoints_dir.glob("*/adapter*"))) == (policy == "lora")
    assert not list(folder.policy_dir.glob("adapter*"))
    kept_weights = load_file(folder.policy_dir / "model.safetensors")
    assert kept_weights.keys() == load_file(tiny_qwen / "model.safetensors").keys()
    # Of its models the run keeps what it trained itself.
    kept = [stage for stage in STAGES if folder.model_dir(stage).exists()]
    assert kept == ["sft_baseline"]
