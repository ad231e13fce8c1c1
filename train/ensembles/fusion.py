"""Fusion as an ensemble: its numbers are found on training and validation books, then kept."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from envs.fusion import LogitFusion
from envs.types import Cost, Episode, Fusion
from rewards.likelihood.dense import DenseScorer
from rewards.likelihood.known import frozen
from rewards.likelihood.mixture import MixtureScorer
from rewards.types import ScoreRequest
from train.config.build import TARGET, build
from train.ensembles.fusion_learning import FusionLoss, HeldChapter, learn, search
from train.ensembles.fusion_rules import FusionRule, Seats, Sizes
from train.ensembles.fusion_scoring import fusion_scorer, requests_of
from train.files import write_json

if TYPE_CHECKING:
    from train.ensembles.shelf import Shelf

SETTINGS, NUMBERS = "fusion.json", "fusion.safetensors"


@dataclass(frozen=True, eq=False)
class FittedFusion:
    """A rule with its numbers, for writers of one shelf.

    `report` says how the numbers were found, in plain figures.
    """

    env: LogitFusion
    seats: Seats
    numbers: Mapping[str, Tensor]
    shelf: Shelf
    seed: int
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rule(self) -> FusionRule:
        return self.env.rule

    @cached_property
    def untrained(self) -> FittedFusion:
        """The same before anything was learned."""
        numbers = self.rule.start(_sizes(self.shelf, self.seats), self.seed)
        return dataclasses.replace(self, numbers=numbers, report={})

    def outcomes(self, episodes: Sequence[Episode]) -> list[Fusion]:
        """How the writers combine at each episode; nothing of it depends on the chapter."""
        contexts = context_nlls(self.rule, self.shelf, self.seats, episodes)
        return [self.outcome(nll_K) for nll_K in contexts]

    def outcome(self, context_nll_K: Tensor | None) -> Fusion:
        """How they combine where the context costs them that much."""
        with torch.no_grad():
            combine = frozen(self.rule.combine(self.numbers, context_nll_K))
        seats = self.seats
        return Fusion(seats.writers, combine, without_context=seats.without_context)

    def costs(self, episodes: Sequence[Episode]) -> list[Mapping[str, Cost]]:
        """What scoring each chapter takes: every seat reads its prompt and the chapter.

        A rule that weighs by the context reads that once more, alone.
        """
        scorer = fusion_scorer(self.shelf, self.seats.writers)
        found = []
        requests = requests_of(self.shelf, episodes, self.outcomes(episodes))
        for episode, request in zip(episodes, requests, strict=True):
            costs: dict[str, Cost] = {}
            for writer, row in zip(self.seats.writers, scorer.readings(request), strict=True):
                cost = Cost(calls=1, read_tokens=row.num_tokens)
                if self.rule.reads_context:
                    asked = self.shelf.request(writer, episode)
                    cost += Cost(calls=1, read_tokens=len(asked.prefix_ids))
                costs[writer] = costs.get(writer, Cost()) + cost
            found.append(costs)
        return found

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        settings = {"env": as_node(self.env), "seed": self.seed, "report": dict(self.report)}
        write_json(folder / SETTINGS, settings | {"seats": dataclasses.asdict(self.seats)})
        whole = {name: value.detach().contiguous() for name, value in self.numbers.items()}
        save_file(whole, folder / NUMBERS)

    @classmethod
    def load(cls, folder: Path, shelf: Shelf) -> FittedFusion:
        kept = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        seats = Seats(tuple(kept["seats"]["writers"]), tuple(kept["seats"]["without_context"]))
        env = build(kept["env"], "env")
        numbers = load_file(folder / NUMBERS)
        return cls(env, seats, numbers, shelf, kept["seed"], kept["report"])


def fit(
    env: LogitFusion,
    shelf: Shelf,
    train: Sequence[Episode],
    validation: Sequence[Episode],
    seed: int,
) -> FittedFusion:
    """Finds the rule's numbers as `env.weights` says.

    Raises:
        ValueError: the writers are too many or too few for the rule, or have unlike vocabularies.
    """
    rule: FusionRule = env.rule
    seats = rule.seats(env.writers or shelf.names)
    if env.vocabulary == "same":
        shelf.check_vocabularies(tuple(dict.fromkeys((shelf.names[0], *seats.writers))))
    scorer = fusion_scorer(shelf, seats.writers)
    start = rule.start(_sizes(shelf, seats), seed)
    untrained = FittedFusion(env, seats, start, shelf, seed, _unmapped(scorer, shelf, validation))
    if env.weights == "fixed":
        return untrained
    loss = FusionLoss(rule, lambda states: scorer.logits(seats.writers, states))
    watched = _held(untrained, scorer, validation)
    if env.weights == "searched":
        found = search(loss, start, watched, env.evaluations)
    else:
        shown = random.Random(seed).sample(list(train), min(env.max_chapters, len(train)))
        found = learn(env, loss, start, _held(untrained, scorer, shown), watched, seed)
    report = {
        **untrained.report,
        "validation_nll": list(found.validation_nll),
        **_shares(rule, seats, found.numbers, watched),
    }
    return dataclasses.replace(untrained, numbers=found.numbers, report=report)


def context_nlls(
    rule: FusionRule, shelf: Shelf, seats: Seats, episodes: Sequence[Episode]
) -> list[Tensor | None]:
    """What each episode's context costs each seat, in nats per token of the reference's: [K].

    None where the rule does not ask. What frames the context is counted with it, for all alike.
    """
    if not rule.reads_context:
        return [None] * len(episodes)
    per_writer: dict[str, list[float]] = {}
    num_tokens = [len(shelf.request(shelf.names[0], e).prefix_ids) for e in episodes]
    for writer in dict.fromkeys(seats.writers):
        prefixes = [shelf.request(writer, episode).prefix_ids for episode in episodes]
        asked = [
            ScoreRequest(e.episode_id, ids[:1], (), ids[1:])
            for e, ids in zip(episodes, prefixes, strict=True)
        ]
        costs = DenseScorer(shelf.model(writer)).score(asked)
        per_writer[writer] = [c.nll / n for c, n in zip(costs, num_tokens, strict=True)]
    return [
        torch.tensor([per_writer[writer][i] for writer in seats.writers])
        for i in range(len(episodes))
    ]


def as_node(component: Any) -> dict[str, Any]:
    """The config node that builds this dataclass again."""
    kind = type(component)
    fields = {f.name: getattr(component, f.name) for f in dataclasses.fields(component)}
    return {TARGET: f"{kind.__module__}.{kind.__qualname__}"} | {
        name: as_node(value) if dataclasses.is_dataclass(value) else value
        for name, value in fields.items()
    }


def _held(
    fitted: FittedFusion, scorer: MixtureScorer, episodes: Sequence[Episode]
) -> list[HeldChapter]:
    """The chapters as the writers see them, in CPU memory."""
    contexts = context_nlls(fitted.rule, fitted.shelf, fitted.seats, episodes)
    requests = requests_of(fitted.shelf, episodes, [fitted.outcome(nll_K) for nll_K in contexts])
    return [
        HeldChapter(tuple(own.cpu() for own in states), torch.tensor(request.gold_ids), nll_K)
        for request, states, nll_K in zip(requests, scorer.states(requests), contexts, strict=True)
    ]


def _shares(
    rule: FusionRule,
    seats: Seats,
    numbers: Mapping[str, Tensor],
    chapters: Sequence[HeldChapter],
) -> dict[str, dict[str, float]]:
    """Of a gate: the share of the chapters' tokens that it asks each writer for."""
    shares_K = rule.shares(numbers, torch.cat([chapter.states[0] for chapter in chapters]))
    if shares_K is None:
        return {}
    return {"shares": dict(zip(seats.writers, shares_K.tolist(), strict=True))}


def _sizes(shelf: Shelf, seats: Seats) -> Sizes:
    first, reference = (shelf.model(n).config.get_text_config() for n in _first_two(shelf, seats))
    return Sizes(len(seats.writers), first.hidden_size, reference.vocab_size)


def _first_two(shelf: Shelf, seats: Seats) -> tuple[str, str]:
    """Whose state a gate reads, and whose vocabulary all speak."""
    return seats.writers[0], shelf.names[0]


def _unmapped(
    scorer: MixtureScorer, shelf: Shelf, episodes: Sequence[Episode]
) -> dict[str, dict[str, float]]:
    """Of writers with a vocabulary of their own: which share of the reference's tokens, and of the
    validation chapters' tokens, they have no token for."""
    gold_ids = [i for e in episodes for i in shelf.request(shelf.names[0], e).gold_ids]
    return {
        f"unmapped/{writer}": {
            "vocabulary": mapped.share_unmapped(range(len(mapped.ids_V))),
            "chapters": mapped.share_unmapped(gold_ids),
        }
        for writer, mapped in scorer.maps.items()
    }
