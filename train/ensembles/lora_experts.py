"""LoRA experts: trains the gates that mix what several writers have learned since their base."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import load_file, save, save_file
from torch import Tensor
from transformers import PreTrainedModel

from envs.lora_experts import LoraExperts
from envs.types import Episode, Merge
from rewards.likelihood.dense import DenseScorer
from train.ensembles.fitted import Decision, writing_costs
from train.ensembles.merging import MADE, check_alike
from train.ensembles.shelf import Shelf
from train.files import read_json, write_json
from train.merging.descent import batches
from train.merging.experts import gates_of, with_experts
from train.merging.lora import factors_between, linear_weights
from train.merging.objective import batch_nll, mean_nll
from train.merging.weights import weights_of

FILE, GATES = "lora_experts.json", "gates.safetensors"


@dataclass(frozen=True)
class FittedExperts:
    """The gates of the experts' layers; the experts themselves are the writers' own.

    `found` has `nll` and `start_nll`, in nats per gold token on validation books, and `steps`.
    """

    env: LoraExperts
    shelf: Shelf
    gates: Mapping[str, Tensor]
    found: Mapping[str, float]

    @cached_property
    def writer(self) -> str:
        """The name of the mixture on the shelf, where it is put when it is first asked for."""
        about = (writers_of(self.env, self.shelf), replace(self.env, writers=()))
        content = save(dict(self.gates)) + repr(about).encode()
        name = f"{MADE}lora_experts_{hashlib.sha256(content).hexdigest()[:8]}"
        if name not in self.shelf.names:
            model = gated(self.env, self.shelf)
            set_gates(model, self.gates)
            self.shelf.add(name, model, self.shelf.tokenizer(self.env.base))
        return name

    def decide(self, episodes: Sequence[Episode]) -> list[Decision]:
        writer = self.writer
        return [Decision(Merge(writer), writing_costs(self.shelf, [writer], e)) for e in episodes]

    def save(self, folder: Path) -> None:
        write_json(folder / FILE, {"found": dict(self.found)})
        save_file(dict(self.gates), folder / GATES)


def untrained(env: LoraExperts, shelf: Shelf, seed: int) -> FittedExperts:
    """Gates that give every expert an equal share of every token."""
    return FittedExperts(env, shelf, read_gates(gated(env, shelf)), {})


def load(env: LoraExperts, folder: Path, shelf: Shelf) -> FittedExperts:
    """What `save` left in `folder`."""
    found = read_json(folder / FILE)["found"]
    return FittedExperts(env, shelf, load_file(folder / GATES), found)


def fit(
    env: LoraExperts,
    shelf: Shelf,
    train: Sequence[Episode],
    validation: Sequence[Episode],
    seed: int,
) -> FittedExperts:
    """Gates trained on the likelihood of training chapters, as they were best on validation.

    Raises:
        ValueError: the writers cannot be experts on the base.
    """
    model = gated(env, shelf)
    # Freezes all of the model, so it comes before the gates are let go.
    scorer = DenseScorer(model)
    gates = gates_of(model)
    for gate in gates.values():
        gate.requires_grad_(True)
    optimizer = torch.optim.AdamW(gates.values(), lr=env.learning_rate, weight_decay=0.0)
    looked_at = list(validation)
    if len(looked_at) > env.num_episodes:
        looked_at = random.Random(seed).sample(looked_at, env.num_episodes)
    decides = [shelf.request(env.base, episode) for episode in looked_at]
    learned = [shelf.request(env.base, episode) for episode in train]
    start = best = mean_nll(scorer, decides)
    kept, kept_step = read_gates(model), 0
    drawn = batches(learned, env.batch_size, seed)
    for step in range(1, env.steps + 1):
        optimizer.zero_grad()
        batch_nll(model, next(drawn)).backward()
        optimizer.step()
        if step % env.check_every == 0 or step == env.steps:
            reached = mean_nll(scorer, decides)
            if reached < best:
                best, kept, kept_step = reached, read_gates(model), step
    found = {"start_nll": start, "nll": best, "steps": kept_step}
    return FittedExperts(env, shelf, kept, found)


def writers_of(env: LoraExperts, shelf: Shelf) -> tuple[str, ...]:
    """The experts: the writers that are named, or all but the base that were not made here.

    Raises:
        ValueError: they cannot be experts on the base.
    """
    others = [n for n in shelf.names if n != env.base and not n.startswith(MADE)]
    writers = shelf.chosen(env.writers) if env.writers else tuple(others)
    env.check_writers(writers)
    return writers


def gated(env: LoraExperts, shelf: Shelf) -> PreTrainedModel:
    """The base with the experts in it, at equal shares.

    Raises:
        ValueError: the writers cannot be experts on the base.
    """
    writers = writers_of(env, shelf)
    check_alike(shelf, (env.base, *writers))
    base = shelf.model(env.base)
    layers, weights = linear_weights(base), weights_of(base)
    return with_experts(
        base,
        [
            factors_between(weights, weights_of(shelf.model(name)), layers, env.rank)
            for name in writers
        ],
    )


def read_gates(model: PreTrainedModel) -> dict[str, Tensor]:
    """A copy of the gates, in CPU memory."""
    return {name: gate.detach().cpu().clone() for name, gate in gates_of(model).items()}


@torch.no_grad()
def set_gates(model: PreTrainedModel, gates: Mapping[str, Tensor]) -> None:
    """Puts gates in the place of the model's.

    Raises:
        ValueError: they are not the gates of this model.
    """
    own = gates_of(model)
    if {n: g.shape for n, g in own.items()} != {n: g.shape for n, g in gates.items()}:
        raise ValueError(
            f"{GATES}: these gates belong to other experts, or to another base; fit the env again"
        )
    for name, gate in own.items():
        gate.copy_(gates[name])
