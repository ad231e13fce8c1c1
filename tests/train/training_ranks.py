"""Two real processes that train together: `python training_ranks.py <folder> <way>…`.

A way is plain data parallelism or a ZeRO stage; with all weights, with adapters (`_lora`) or with
adapters of each role of a collaboration (`_lora_roles`); of a role that one rank alone hears
(`_silent`), whose silence may be paid (`_paid`); by GRPO or by PPO (`_ppo`); from the start or
after its first step (`_resumed`). In each, a tiny policy takes two steps on what a tiny generator
rewards; every rank writes what it saw to `<folder>/<rank>.json`, for test_training_ranks.py to
read.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from transformers.integrations import deepspeed as integration

from envs.collaboration.cast import Cast
from envs.feedback import Feedback
from envs.plans import PlanParser
from envs.prompts import Prompts
from envs.solo import SoloPlanner
from envs.sources.storyworld import StoryWorldSource
from envs.types import Conversation, Reply, Rollout
from rewards.encode import GeneratorEncoder
from rewards.likelihood_improvement import LikelihoodImprovement
from rewards.ranks.distributed import DistributedScorer
from rewards.status_rules import StatusRules
from rewards.terms.raw import Raw
from rewards.types import Reward, Score
from rewards.weighted_sum import WeightedTerm
from train import ranks
from train.algorithms import order_of, train_policy
from train.distribution import DistributedSettings
from train.models import load_model, save_model
from train.ppo.settings import PpoSettings
from train.quiet import quiet_libraries
from train.schema import ModelConfig, ScorerConfig
from train.scoring import make_scorer
from train.scratch import random_model, train_tokenizer
from train.settings.grpo import GrpoSettings

NUM_RANKS = 2
# Whatever a random model says is a plan, so that attempts differ in what they are worth.
PARSER = PlanParser(whole_answer_without_marker=True)
ENV = SoloPlanner(parser=PARSER)
# Of three turns any one is learned from, so that many batches have no row of some role.
FEEDBACK = Feedback(parser=PARSER, rounds=1, turns_learned=1)
ROLES = ("drafter", "refiner", "verifier")


class VerifiesByRank:
    """Refuses every draft in the first process, and accepts every one in the second."""

    def reply(self, conversations: Sequence[Conversation]) -> list[Reply]:
        return [Reply("No." if ranks.is_main() else "ACCEPT") for _ in conversations]


class PaysSilence:
    """What another reward pays, and much more where nobody who learns has spoken."""

    def __init__(self, reward: Reward) -> None:
        self.reward = reward

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        return [
            score if rollout.is_heard else replace(score, reward=score.reward + 1000)
            for rollout, score in zip(rollouts, self.reward(rollouts), strict=True)
        ]


SILENT = Feedback(
    parser=PARSER,
    cast=Cast({"ann": VerifiesByRank()}, {"verifier": "ann"}, ("refiner",)),
    rounds=1,
)
WORLD = StoryWorldSource(
    seed=1,
    writing_books=6,
    demonstration_books=4,
    train_books=4,
    validation_books=2,
    test_books=3,
)
TINY = GrpoSettings(
    max_steps=2,
    num_generations=4,
    episodes_per_step=4,
    per_device_batch_size=4,
    max_completion_length=8,
    learning_rate=1e-2,
    warmup_ratio=0.0,
    beta=0.1,
    save_steps=1,
)
TINY_PPO = PpoSettings(
    max_steps=2,
    num_generations=4,
    episodes_per_rollout=4,
    epochs_per_rollout=1,
    minibatches_per_epoch=1,
    per_device_batch_size=4,
    max_completion_length=8,
    learning_rate=1e-2,
    warmup_ratio=0.0,
    beta=0.1,
    save_steps=1,
)
SETTINGS = {
    "ddp": DistributedSettings(),
    "zero2": DistributedSettings(zero_stage=2),
    "zero3": DistributedSettings(zero_stage=3),
    "offload": DistributedSettings(zero_stage=3, offload_optimizer=True),
}
LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}


def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer((e.chapter.text for e in WORLD.episodes("train")), 400)


def tiny_model(seed: int) -> PreTrainedModel:
    architecture = {
        "model_type": "llama",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
    }
    return random_model(architecture, tokenizer(), seed)


def encoder() -> GeneratorEncoder:
    return GeneratorEncoder(tokenizer(), Prompts())


def digest(model: torch.nn.Module) -> str:
    """Of every weight as it lies in this process; one that is spread has none of its content."""
    content = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        content.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return content.hexdigest()


class LoadsWhileSharding(TrainerCallback):
    """Loads a model in the middle of a training, as a monitor with a second generator would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: dict[str, Any] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        is_sharding = integration.is_deepspeed_zero3_enabled()
        model, _ = load_model(ModelConfig(path=str(self.folder)), "generator.model")
        self.seen = {
            "zero3": is_sharding,
            "zero3_after": integration.is_deepspeed_zero3_enabled(),
            "num_weights": sum(p.numel() for p in model.parameters()),
        }


def train(way: str, folder: Path, generator: PreTrainedModel) -> dict[str, Any]:
    """Trains in one way; gives what this rank saw of it."""
    name, *how = way.split("_")
    settings, has_adapters = SETTINGS[name], "lora" in how
    here = folder / way.removesuffix("_resumed")
    scorer = make_scorer(generator, ScorerConfig())
    assert isinstance(scorer, DistributedScorer)
    seen: list[tuple[Rollout, Score]] = []
    loads = LoadsWhileSharding(folder / "generator")
    policy = tiny_model(2)
    # Where TRL finds the reference model of the KL penalty.
    policy.config._name_or_path = str(folder / "policy")
    trainer = TINY_PPO if "ppo" in how else TINY
    env = FEEDBACK if "roles" in how else SILENT if "silent" in how else ENV
    if "silent" in how:
        # Turn by turn, so that both ranks have to score equally often.
        trainer = replace(trainer, credit="turn")
    reward: Reward = LikelihoodImprovement(
        scorer, encoder(), [WeightedTerm("raw", Raw())], StatusRules()
    )
    if "paid" in how:
        reward = PaysSilence(reward)
    trained = train_policy(
        policy,
        tokenizer(),
        env,
        reward,
        order_of(WORLD.episodes("train"), trainer, seed=0),
        trainer,
        output_dir=here,
        seed=0,
        callbacks=[loads],
        on_scored=lambda rollouts, scores: seen.extend(zip(rollouts, scores, strict=True)),
        resume_from=here / "checkpoint-1" if "resumed" in how else None,
        peft_config=LoraConfig(**LORA) if has_adapters else None,
        roles=ROLES if "roles" in how else (),
        deepspeed=settings.as_deepspeed(),
    )
    return {
        "rollouts": [
            {"episode_id": s.episode_id, "plan": r.outcome.plan, "improvement": s.improvement}
            for r, s in seen
        ],
        "policy": digest(trained),
        "weights": [p.detach().flatten().tolist() for p in trained.parameters()],
        "loaded_in_training": loads.seen,
        "generator": digest(generator),
        "is_zero_left": integration.is_deepspeed_zero3_enabled(),
    }


Train = Callable[[str, Path, PreTrainedModel], dict[str, Any]]


def play(rank: int, port: int, folder: Path, ways: Sequence[str], train: Train) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(NUM_RANKS),
        "LOCAL_WORLD_SIZE": str(NUM_RANKS),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(1)
    quiet_libraries()
    generator = tiny_model(1)
    if ranks.is_main():
        save_model(generator, tokenizer(), folder / "generator")
        save_model(tiny_model(2), tokenizer(), folder / "policy")
    ranks.from_main(lambda: "the models are there")
    seen: dict[str, Any] = {"generator": digest(generator), "policy": digest(tiny_model(2))}
    for way in ways:
        if way.endswith("_resumed") and ranks.is_main():
            # What a run that was killed after its first step leaves behind.
            shutil.rmtree(folder / way.removesuffix("_resumed") / "checkpoint-2")
        ranks.from_main(lambda: "the folder is as it should be")
        seen[way] = train(way, folder, generator)
    (folder / f"{rank}.json").write_text(json.dumps(seen))
    ranks.leave()


def main(folder: Path, ways: Sequence[str], train: Train = train) -> None:
    """Both processes go through all ways; `train` gives what one of them saw of one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Forked from one process that has imported everything, and started no thread.
    context = multiprocessing.get_context("fork")
    started = [
        context.Process(target=play, args=(r, port, folder, ways, train)) for r in range(NUM_RANKS)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
