"""One process of a PPO run: `python ppo_ranks.py <mode> <folder>`, with torchrun's variables set.

The policy is so sure of itself that it answers the same in every process and on every machine, so
that runs of different numbers of processes can be compared. For test_ranks.py.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from envs.collaboration.cast import Cast
from envs.feedback import Feedback
from envs.plans import PlanParser
from envs.solo import SoloPlanner
from envs.sources.storyworld import StoryWorldSource
from envs.types import Rollout
from rewards.types import Score
from train.algorithms import order_of
from train.ppo.run import train_ppo
from train.ppo.settings import PpoSettings
from train.scratch import random_model, train_tokenizer

LLAMA = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": False,
    "initializer_range": 0.3,
}
SURENESS = 100.0
# Those that have adapters of their own in the modes that end in `roles`.
ROLES = ("drafter", "verifier")
ZERO = {
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "zero_force_ds_cpu_optimizer": False,
    "zero_allow_untested_optimizer": True,
}


class LengthReward:
    """Pays by the number of letters; every process asks for its own rollouts alone."""

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        return [
            Score(r.episode.episode_id, float(len(r.reply.text)), None, None, None)
            for r in rollouts
        ]


class Logged(TrainerCallback):
    def __init__(self) -> None:
        self.logs: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" in logs:
            self.logs.append(dict(logs))


def policy_of(tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    policy = random_model(LLAMA, tokenizer, seed=0)
    with torch.no_grad():
        policy.get_output_embeddings().weight.mul_(SURENESS)
    return policy


def deepspeed_of(mode: str) -> dict[str, Any] | None:
    if not mode.startswith("zero"):
        return None
    stage: dict[str, Any] = {"stage": int(mode[4])}
    if stage["stage"] == 3:
        stage["stage3_gather_16bit_weights_on_model_save"] = True
    return {**ZERO, "zero_optimization": stage}


def check_alike(policy: PreTrainedModel) -> None:
    """All processes ended with the same adapters, though each heard other answers."""
    own = {n: w.numpy().tobytes() for n, w in policy.state_dict().items() if "lora_" in n}
    found: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, own)
    assert all(other == own for other in found)


def main(mode: str, folder: Path) -> None:
    world = StoryWorldSource(
        seed=1,
        writing_books=6,
        demonstration_books=4,
        train_books=4,
        validation_books=2,
        test_books=3,
    )
    tokenizer = train_tokenizer((e.chapter.text for e in world.episodes("train")), 400)
    logged = Logged()
    settings = PpoSettings(
        max_steps=4,
        num_generations=2,
        episodes_per_rollout=4,
        epochs_per_rollout=2,
        minibatches_per_epoch=1,
        per_device_batch_size=2,
        max_completion_length=8,
        critic="shared" if mode.endswith("lora") else "separate",
        center_groups=False,
        learning_rate=1e-3,
        warmup_ratio=0.0,
        beta=0.1,
        save_steps=2,
    )
    lora = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    resume_from = folder / "checkpoint-2" if mode.endswith("resumed") else None
    parser = PlanParser(whole_answer_without_marker=True)
    by_role = mode.endswith("roles")
    cast = Cast(trained=ROLES)
    has_adapters = by_role or mode.endswith("lora")
    policy = train_ppo(
        policy_of(tokenizer),
        tokenizer,
        Feedback(parser=parser, cast=cast, rounds=1) if by_role else SoloPlanner(parser=parser),
        LengthReward(),
        order_of(world.episodes("train"), settings, seed=0),
        settings,
        output_dir=folder,
        seed=0,
        callbacks=[logged],
        resume_from=resume_from,
        peft_config=lora if has_adapters else None,
        roles=ROLES if by_role else (),
        deepspeed=deepspeed_of(mode),
    )
    assert isinstance(policy, PeftModel) is has_adapters
    if mode == "ddp_roles":
        check_alike(policy)
    if torch.distributed.is_initialized() and torch.distributed.get_rank() > 0:
        return
    (folder / f"{mode}.json").write_text(json.dumps(logged.logs))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
