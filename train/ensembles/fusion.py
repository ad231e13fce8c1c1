"""Fusion as an ensemble: a rule's numbers are found on training and validation books, then kept."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from envs.fusion import LogitFusion
from envs.types import GENERATOR, Cost, Episode, Fusion
from rewards.fused_request import fused_request
from rewards.likelihood.known import frozen
from rewards.likelihood.mixture import MixtureScorer
from rewards.types import ScoreRequest
from train.analysis.rows import writing_cost
from train.ensembles.fitted import Decision
from train.ensembles.fusion_learning import FusionLoss, HeldChapter, learn, search
from train.ensembles.fusion_rules import FusionRule, Numbers, Seats, Sizes
from train.ensembles.shelf import Shelf
from train.files import write_json

NUMBERS, REPORT = "fusion.safetensors", "fusion.json"
# Of so many numbers at most, the report says what they are.
MOST_REPORTED_NUMBERS = 16


@dataclass(frozen=True, eq=False)
class FittedFusion:
    """A rule with its numbers, for writers of one shelf.

    `report` says how the numbers were found, in plain figures.
    """

    rule: FusionRule
    seats: Seats
    numbers: Numbers
    shelf: Shelf
    report: Mapping[str, Any] = field(default_factory=dict)

    def decide(self, episodes: Sequence[Episode]) -> list[Decision]:
        """How the writers combine at each episode; nothing of it depends on the chapter.

        Every seat reads its prompt, and each token that is written. What the context costs a writer
        is known when it has been read; no rule reads it twice.
        """
        contexts = context_nlls(self.rule, self.shelf, self.seats, episodes)
        outcomes = [self.outcome(nll_K) for nll_K in contexts]
        return [
            Decision(outcome, self._costs(episode, outcome))
            for episode, outcome in zip(episodes, outcomes, strict=True)
        ]

    def outcome(self, context_nll_K: Tensor | None) -> Fusion:
        """How they combine where the context costs them that much."""
        with torch.no_grad():
            combine = frozen(self.rule.combine(self.numbers, context_nll_K))
        seats = self.seats
        return Fusion(seats.writers, combine, without_context=seats.without_context)

    def _costs(self, episode: Episode, outcome: Fusion) -> dict[str, Cost]:
        scorer = self.shelf.mixture_scorer(self.seats.writers)
        rows = scorer.readings(fused_request(self.shelf.request, episode, outcome))
        costs: dict[str, Cost] = {}
        for writer, row in zip(self.seats.writers, rows, strict=True):
            cost = writing_cost(row, self.shelf.num_weights(writer))
            costs[writer] = costs.get(writer, Cost()) + cost
        return costs

    def save(self, folder: Path) -> None:
        whole = {name: value.detach().contiguous() for name, value in self.numbers.items()}
        save_file(whole, folder / NUMBERS)
        few = sum(value.numel() for value in whole.values()) <= MOST_REPORTED_NUMBERS
        numbers = {name: value.tolist() for name, value in whole.items()} if few else {}
        about = {"seats": dataclasses.asdict(self.seats), "numbers": numbers}
        write_json(folder / REPORT, about | dict(self.report))


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
    before = untrained(env, shelf, seed)
    rule, seats, start = before.rule, before.seats, before.numbers
    scorer = shelf.mixture_scorer(seats.writers)
    report = _unmapped(scorer, shelf, validation)
    if env.weights == "fixed":
        return dataclasses.replace(before, report=report)
    loss = FusionLoss(rule, lambda states: scorer.logits(seats.writers, states))
    watched = _held(before, scorer, validation)
    if env.weights == "searched":
        found = search(loss, start, watched, env.evaluations)
    else:
        shown = random.Random(seed).sample(list(train), min(env.max_chapters, len(train)))
        found = learn(env, loss, start, _held(before, scorer, shown), watched, seed)
    report = {
        **report,
        "validation_nll": list(found.validation_nll),
        **_shares(rule, seats, found.numbers, watched),
    }
    return dataclasses.replace(before, numbers=found.numbers, report=report)


def untrained(env: LogitFusion, shelf: Shelf, seed: int) -> FittedFusion:
    """The rule with the numbers that it starts from."""
    rule, seats = _seated(env, shelf)
    first, reference = (
        shelf.model(name).config.get_text_config() for name in (seats.writers[0], GENERATOR)
    )
    sizes = Sizes(len(seats.writers), first.hidden_size, reference.vocab_size)
    return FittedFusion(rule, seats, rule.start(sizes, seed), shelf)


def load(env: LogitFusion, folder: Path, shelf: Shelf) -> FittedFusion:
    """What `FittedFusion.save` left in `folder`."""
    return FittedFusion(*_seated(env, shelf), load_file(folder / NUMBERS), shelf)


def context_nlls(
    rule: FusionRule, shelf: Shelf, seats: Seats, episodes: Sequence[Episode]
) -> list[Tensor | None]:
    """What each episode's context costs each seat, in nats per token of the generator's: [K].

    None where the rule does not ask. What frames the context is counted with it, for all alike.
    """
    if not rule.reads_context:
        return [None] * len(episodes)
    per_writer: dict[str, list[float]] = {}
    num_tokens = [len(shelf.request(GENERATOR, episode).prefix_ids) for episode in episodes]
    for writer in dict.fromkeys(seats.writers):
        prefixes = [shelf.request(writer, episode).prefix_ids for episode in episodes]
        asked = [
            ScoreRequest(e.episode_id, ids[:1], (), ids[1:])
            for e, ids in zip(episodes, prefixes, strict=True)
        ]
        costs = shelf.writer(writer).scorer.score(asked)
        per_writer[writer] = [c.nll / n for c, n in zip(costs, num_tokens, strict=True)]
    return [
        torch.tensor([per_writer[writer][i] for writer in seats.writers])
        for i in range(len(episodes))
    ]


def _seated(env: LogitFusion, shelf: Shelf) -> tuple[FusionRule, Seats]:
    rule: FusionRule = env.rule
    seats = rule.seats(shelf.chosen(env.writers))
    if env.vocabulary == "same":
        shelf.check_vocabularies((GENERATOR, *seats.writers))
    return rule, seats


def _held(
    fitted: FittedFusion, scorer: MixtureScorer, episodes: Sequence[Episode]
) -> list[HeldChapter]:
    """The chapters as the writers see them, in CPU memory."""
    contexts = context_nlls(fitted.rule, fitted.shelf, fitted.seats, episodes)
    requests = [
        fused_request(fitted.shelf.request, episode, fitted.outcome(nll_K))
        for episode, nll_K in zip(episodes, contexts, strict=True)
    ]
    return [
        HeldChapter(tuple(own.cpu() for own in states), torch.tensor(request.gold_ids), nll_K)
        for request, states, nll_K in zip(requests, scorer.states(requests), contexts, strict=True)
    ]


def _shares(
    rule: FusionRule, seats: Seats, numbers: Numbers, chapters: Sequence[HeldChapter]
) -> dict[str, dict[str, float]]:
    """Of a gate: the share of the chapters' tokens that it asks each writer for."""
    shares_K = rule.shares(numbers, torch.cat([chapter.states[0] for chapter in chapters]))
    if shares_K is None:
        return {}
    return {"shares": dict(zip(seats.writers, shares_K.tolist(), strict=True))}


def _unmapped(
    scorer: MixtureScorer, shelf: Shelf, episodes: Sequence[Episode]
) -> dict[str, dict[str, float]]:
    """Of writers with a vocabulary of their own: which share of the generator's tokens, and of the
    tokens of these chapters, they have no token for.
    """
    gold_ids = [i for e in episodes for i in shelf.request(GENERATOR, e).gold_ids]
    return {
        f"unmapped/{writer}": {
            "vocabulary": mapped.share_unmapped(range(len(mapped.ids_V))),
            "chapters": mapped.share_unmapped(gold_ids),
        }
        for writer, mapped in scorer.maps.items()
    }
