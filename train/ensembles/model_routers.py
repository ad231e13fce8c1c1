"""Routers that are language models: a copy of the generator or of the policy, trained to choose."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from transformers import PreTrainedModel

from envs.agents import num_weights
from envs.routing import Routing
from envs.types import GENERATOR, Cost, Episode, giga_operations
from rewards.likelihood.logits import body, family_logits
from rewards.types import TokenIds
from train.ensembles.routers import fit_router
from train.ensembles.shelf import Shelf
from train.ensembles.worth import padded, pooled

WEIGHTS = "router.safetensors"
# E episodes, W writers.


class Encoder(nn.Module):
    """The body of a model, and a score of each writer from its pooled states."""

    def __init__(self, model: PreTrainedModel, num_writers: int) -> None:
        super().__init__()
        self.body = copy.deepcopy(body(model)).requires_grad_(True)
        width = model.config.get_text_config().hidden_size
        self.head = nn.Linear(2 * width, num_writers)

    def forward(self, rows: Sequence[TokenIds]) -> Tensor:
        ids_BL, mask_BL = padded(rows, next(self.parameters()).device)
        states_BLH = self.body(ids_BL, attention_mask=mask_BL)[0]
        return self.head(pooled(states_BLH, mask_BL))


class AsksByName(nn.Module):
    """A language model's log-probability of each writer's name behind the context."""

    def __init__(self, model: PreTrainedModel, names: Sequence[TokenIds]) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).requires_grad_(True)
        self.names = tuple(names)

    def forward(self, rows: Sequence[TokenIds]) -> Tensor:
        asked = [row + name for row in rows for name in self.names]
        ids_BL, mask_BL = padded(asked, next(self.parameters()).device)
        # The head is applied where the names are, at a few positions of each row.
        states_BLH = body(self.model)(ids_BL, attention_mask=mask_BL)[0]
        head = cast(nn.Module, self.model.get_output_embeddings())
        config = self.model.config.get_text_config()
        scores = []
        for place, row in enumerate(asked):
            name = self.names[place % len(self.names)]
            states_TH = states_BLH[place, len(row) - len(name) - 1 : len(row) - 1]
            logprobs_TV = family_logits(head(states_TH).float(), config).log_softmax(-1)
            scores.append(logprobs_TV[range(len(name)), name].sum())
        return torch.stack(scores).view(len(rows), len(self.names))


def network(env: Routing, shelf: Shelf, writers: Sequence[str], seed: int) -> Encoder | AsksByName:
    """The router before it has learned.

    Raises:
        ValueError: a writer's name is the beginning of another's, as the model would read them.
    """
    if env.router == "encoder":
        model = shelf.model(GENERATOR)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return Encoder(model, len(writers)).to(model.device)
    tokenizer = shelf.policy.tokenizer
    names = [tuple(tokenizer(name, add_special_tokens=False)["input_ids"]) for name in writers]
    for i, one in enumerate(names):
        for j, other in enumerate(names):
            if i != j and other[: len(one)] == one:
                raise ValueError(
                    f"writers: the tokens of the name {writers[j]!r} begin with those of "
                    f"{writers[i]!r}, so the policy cannot choose between them; rename one"
                )
    return AsksByName(shelf.policy.model, names)


def fit(
    network: Encoder | AsksByName,
    rows: Sequence[TokenIds],
    worth_EW: Tensor,
    val_rows: Sequence[TokenIds],
    val_worth_EW: Tensor,
    env: Routing,
    seed: int,
) -> None:
    """Trains it on the exact expected worth."""
    fit_router(
        network,
        lambda places: [rows[i] for i in places.tolist()],
        worth_EW,
        lambda: scores(network, val_rows, env.batch_size),
        val_worth_EW,
        env,
        seed,
    )


@torch.no_grad()
def scores(network: Encoder | AsksByName, rows: Sequence[TokenIds], batch_size: int) -> Tensor:
    """[E, W] on the CPU."""
    network.eval()
    batches = range(0, len(rows), batch_size)
    return torch.cat([network(rows[start : start + batch_size]) for start in batches]).cpu()


def context_rows(env: Routing, shelf: Shelf, episodes: Sequence[Episode]) -> list[TokenIds]:
    """What the router reads before the chapter: the generator's prompt, in the router's tokens."""
    reader = shelf.policy if env.asks_policy else shelf.writer(GENERATOR)
    requests = [reader.encoder.request(episode) for episode in episodes]
    return [request.prefix_ids + request.guidance_ids for request in requests]


def reading_cost(network: Encoder | AsksByName, row: TokenIds) -> Cost:
    """What it takes to choose: the context is read once, or once with each name behind it."""
    names = network.names if isinstance(network, AsksByName) else ((),)
    tokens = sum(len(row) + len(name) for name in names)
    return Cost(1, tokens, 0, giga_operations=giga_operations(num_weights(network), tokens))


def save(network: nn.Module, folder: Path) -> None:
    save_model(network, str(folder / WEIGHTS))


def load(network: nn.Module, folder: Path) -> None:
    load_model(network, str(folder / WEIGHTS))
