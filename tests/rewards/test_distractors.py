"""Other chapters: the same for an episode every time, scored with it, exact for no plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from transformers import PreTrainedModel

from envs.types import Chapter, Episode, Guidance, PlanStatus, Reply, Rollout
from rewards.distractors import Distractors
from rewards.encode import GeneratorEncoder
from rewards.likelihood.dense import DenseScorer
from rewards.likelihood_improvement import LikelihoodImprovement
from rewards.status_rules import StatusRules
from rewards.terms.contrastive import Contrastive
from rewards.types import Likelihood, ScoreRequest
from rewards.weighted_sum import WeightedTerm

MakeEpisode = Callable[..., Episode]


@pytest.fixture
def shelf(make_episode: MakeEpisode) -> list[Episode]:
    """Two episodes of each of four books, each with a chapter of its own."""
    found = []
    for book in ("ash", "birch", "cedar", "elm"):
        for index in (1, 2):
            made = make_episode(f"{book}/{index}", known=f"The {book} fell.")
            chapter = Chapter("", f"Under the {book} there were {index} crows.")
            found.append(Episode(made.episode_id, made.context, chapter))
    return found


def contrastive(
    scorer: Any, encoder: GeneratorEncoder, shelf: Sequence[Episode], count: int = 2
) -> LikelihoodImprovement:
    terms = [WeightedTerm("contrast", Contrastive(num_distractors=count, floor=-1000))]
    return LikelihoodImprovement(
        scorer, encoder, terms, StatusRules(), distractors=Distractors(shelf)
    )


def rollout(episode: Episode, plan: str) -> Rollout:
    return Rollout(episode, (), Reply(plan), PlanStatus.COMPLETE, Guidance(plan))


def test_distractors_are_chapters_of_other_books_and_the_same_every_time(
    shelf: list[Episode],
) -> None:
    chosen = [Distractors(shelf).of(episode, 3) for episode in shelf]
    assert chosen == [Distractors(shelf[::-1]).of(episode, 3) for episode in shelf]
    for episode, others in zip(shelf, chosen, strict=True):
        assert len({o.episode_id for o in others}) == 3
        assert episode.book_id not in {o.book_id for o in others}
    # Another episode has others.
    assert len({tuple(o.episode_id for o in others) for others in chosen}) > 1


def test_a_single_book_gives_its_other_chapters(shelf: list[Episode]) -> None:
    assert Distractors(shelf[:2]).of(shelf[0], 1) == [shelf[1]]


def test_too_few_other_chapters_are_an_error_that_names_the_remedy(shelf: list[Episode]) -> None:
    with pytest.raises(ValueError, match=r"ash/1: .* wants 2 other chapters, and there are 1; low"):
        Distractors(shelf[:2]).of(shelf[0], 2)


class Recording:
    """A scorer for which every token costs as many nats as there are tokens before the chapter."""

    def __init__(self) -> None:
        self.calls: list[list[ScoreRequest]] = []

    def score(self, requests: Sequence[ScoreRequest]) -> list[Likelihood]:
        self.calls.append(list(requests))
        costs = [(float(len(r.guidance_ids)),) * len(r.gold_ids) for r in requests]
        return [Likelihood(sum(cost), cost) for cost in costs]


def test_distractors_travel_with_the_group_and_share_its_prefix(
    encoder: GeneratorEncoder, shelf: list[Episode]
) -> None:
    scorer = Recording()
    scores = contrastive(scorer, encoder, shelf)(
        [rollout(shelf[0], plan) for plan in ("Ann pays.", "Bob waits for Ann.")]
    )
    # In one call the plain chapters, true and other, then both attempts on each of the three.
    (requests,) = scorer.calls
    assert [r.by_itself for r in requests] == [True] * 3 + [False] * 6
    assert {r.prefix_ids for r in requests} == {encoder.request(shelf[0]).prefix_ids}
    assert {r.episode_id for r in requests} == {"ash/1"}
    others = Distractors(shelf).of(shelf[0], 2)
    assert {r.gold_ids for r in requests} == {
        encoder.request(e).gold_ids for e in (shelf[0], *others)
    }
    assert [s.num_scored_tokens for s in scores] == [
        sum(len(r.guidance_ids) + len(r.gold_ids) for r in requests[start : start + 3])
        for start in (3, 6)
    ]


def test_each_other_chapter_is_compared_with_its_own_likelihood_without_a_plan(
    encoder: GeneratorEncoder, shelf: list[Episode]
) -> None:
    class Known(Recording):
        """Chapter by chapter, a cost per token without a plan, and a gain with any."""

        def score(self, requests: Sequence[ScoreRequest]) -> list[Likelihood]:
            gains = {encoder.request(e).gold_ids: 0.1 * i for i, e in enumerate(shelf)}
            plain = len(encoder.request(shelf[0]).guidance_ids)
            found = []
            for r in requests:
                cost = (
                    3 - 10 * gains[r.gold_ids] - gains[r.gold_ids] * (len(r.guidance_ids) > plain)
                )
                found.append(Likelihood(cost * len(r.gold_ids), (cost,) * len(r.gold_ids)))
            return found

    (score,) = contrastive(Known(), encoder, shelf)([rollout(shelf[3], "Ann pays.")])
    others = [shelf.index(e) for e in Distractors(shelf).of(shelf[3], 2)]
    improved = [100 * (1 - math.exp(-0.1 * i)) for i in (3, *others)]
    assert score.terms["contrast"] == pytest.approx(improved[0] - sum(improved[1:]) / 2)


def test_an_empty_plan_contrasts_with_nothing(
    encoder: GeneratorEncoder,
    shelf: list[Episode],
    make_model: Callable[..., PreTrainedModel],
) -> None:
    reward = contrastive(DenseScorer(make_model()), encoder, shelf)
    empty, said = reward([rollout(shelf[0], plan) for plan in ("", "Ann pays.")])
    assert (empty.improvement, empty.reward) == (0.0, 0.0)
    assert said.reward != 0.0
