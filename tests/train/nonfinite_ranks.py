"""Two processes, one with a gradient that overflows: `python nonfinite_ranks.py <folder> <way>…`.

A way is how training is spread, as in training_ranks.py, with `_ppo` for PPO, and in how many of
two steps that happens: `_once` in the first, `_twice` in both, `_stopped` in both where the run
ends at the second. Every rank writes what it saw to `<folder>/<rank>.json`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from training_ranks import ENV, SETTINGS, TINY, TINY_PPO, WORLD, digest, encoder, main, tiny_model
from training_ranks import tokenizer as make_tokenizer
from transformers import PreTrainedModel, TrainerCallback

from rewards.likelihood_improvement import LikelihoodImprovement
from rewards.status_rules import StatusRules
from rewards.terms.raw import Raw
from rewards.weighted_sum import WeightedTerm
from train import ranks
from train.algorithms import order_of, train_policy
from train.nonfinite import NonFiniteGuard
from train.schema import ScorerConfig
from train.scoring import make_scorer

# Of four attempts each.
MICRO_BATCHES_PER_STEP = 2


class Overflow:
    """Makes a parameter's gradient infinite in so many steps, in the second process alone."""

    def __init__(self, num_steps: int) -> None:
        self.num_left = num_steps * MICRO_BATCHES_PER_STEP

    def __call__(self, gradient: Tensor) -> Tensor:
        self.num_left -= 1
        return gradient * torch.inf if self.num_left >= 0 and ranks.rank() == 1 else gradient


class Logged(TrainerCallback):
    def __init__(self) -> None:
        self.skipped: list[float] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" in logs:
            self.skipped.append(logs.get("skipped_steps", 0))


def train(way: str, folder: Path, generator: PreTrainedModel) -> dict[str, Any]:
    name, *how = way.split("_")
    settings = TINY_PPO if "ppo" in how else TINY
    said: list[str] = []
    guard, logged = NonFiniteGuard(2 if "stopped" in how else 3, said.append), Logged()
    policy = tiny_model(2)
    policy.config._name_or_path = str(folder / "policy")
    policy.get_input_embeddings().weight.register_hook(Overflow(1 if "once" in how else 2))
    reward = LikelihoodImprovement(
        make_scorer(generator, ScorerConfig()),
        encoder(),
        [WeightedTerm("raw", Raw())],
        StatusRules(),
    )
    error = None
    try:
        policy = train_policy(
            policy,
            make_tokenizer(),
            ENV,
            reward,
            order_of(WORLD.episodes("train"), settings, seed=0),
            settings,
            output_dir=folder / way,
            seed=0,
            callbacks=[guard, logged],
            deepspeed=SETTINGS[name].as_deepspeed(),
        )
    except ValueError as stop:
        error = str(stop)
    return {
        "error": error,
        "said": said,
        "state": guard.state(),
        "logged": logged.skipped,
        "policy": digest(policy) if error is None else None,
        "is_finite": all(bool(p.isfinite().all()) for p in policy.parameters()),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:], train)
