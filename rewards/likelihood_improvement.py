"""The project's reward: how far a rollout's outcome lowers the frozen generator's perplexity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from envs.types import GENERATOR, Choice, Episode, Fusion, Merge, Outcome, Rollout
from rewards.distractors import Distractors
from rewards.encode import GeneratorEncoder
from rewards.fused_request import fused_request
from rewards.groups import check_whole, groups_of
from rewards.improvement import improvement_percent
from rewards.likelihood.realigned import realigned
from rewards.status_rules import StatusRules
from rewards.stores.likelihood_store import LikelihoodStore, MemoryLikelihoodStore
from rewards.types import (
    BackgroundScorer,
    Likelihood,
    LikelihoodScorer,
    Measured,
    Pair,
    Score,
    ScoreRequest,
)
from rewards.weighted_sum import WeightedTerm, group_terms, term_values, weighted_sum


@dataclass(frozen=True)
class _Asked:
    """What is asked about one chapter: under an outcome, and of the generator alone.

    `ends` are the bytes at which the tokens of either end, where another tokenizer cuts them.
    """

    request: ScoreRequest
    plain: ScoreRequest
    num_plan_tokens: int
    ends: tuple[list[int], list[int]] | None = None

    def on_reference(self, likelihood: Likelihood) -> Likelihood:
        """The likelihood under the outcome, on the tokens of the generator."""
        if self.ends is None:
            return likelihood
        try:
            return realigned(likelihood, *self.ends)
        except ValueError as error:
            raise ValueError(f"episode {self.plain.episode_id}: {error}") from error


class LikelihoodImprovement:
    """Scores rollouts by what their outcomes do to the gold chapter's likelihood.

    One scoring pass measures every plan that the rules do not judge; the reward is the weighted sum
    of the terms, each of which sees one group at a time. Where a term compares the attempts of a
    group, a call has to hold `group_size` attempts at each of its episodes; None takes what comes.

    The no-plan likelihood of an episode is computed once for the life of `store`; without one, of
    this object. `distractors` is asked for other chapters where a term wants them. `writers` lay
    episodes out for the other writers that an outcome may name; the scorer has to know them.
    """

    def __init__(
        self,
        scorer: LikelihoodScorer,
        encoder: GeneratorEncoder,
        terms: Sequence[WeightedTerm],
        rules: StatusRules,
        store: LikelihoodStore | None = None,
        group_size: int | None = None,
        distractors: Distractors | None = None,
        writers: Mapping[str, GeneratorEncoder] | None = None,
    ) -> None:
        self.scorer = scorer
        self.encoder = encoder
        self.terms = tuple(terms)
        self.rules: Mapping[str, float | str] = vars(rules)
        self.store = MemoryLikelihoodStore() if store is None else store
        self.group_size = group_size
        self.distractors = distractors
        self.writers = writers or {}
        self.num_distractors = max((t.num_distractors for t in self.terms), default=0)
        assert distractors is not None or not self.num_distractors

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """One score per rollout, in order.

        Raises:
            ValueError: the call holds a part of a group that a term compares, or a likelihood or a
                term failed. The message names the episode.
        """
        compared = group_terms(self.terms)
        if compared and self.group_size is not None:
            check_whole(rollouts, self.group_size, compared)
        return self.scores(rollouts)

    def scores(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """The same with groups of any size, to look at rollouts that nothing is learned from."""
        places = [i for i, r in enumerate(rollouts) if self.rules[r.status.value] == "score"]
        measured = self.measure([rollouts[i] for i in places])
        found: dict[int, Score] = {}
        for group in groups_of([m.rollout for m in measured]):
            attempts = [measured[i] for i in group]
            for i, attempt, values in zip(
                group, attempts, term_values(self.terms, attempts), strict=True
            ):
                found[places[i]] = self._score(attempt, values)
        return [found.get(i) or self._judged(rollout) for i, rollout in enumerate(rollouts)]

    def foresee(self, rollouts: Sequence[Rollout]) -> None:
        """Begins to score them, where the scorer can in the background; a later call takes it up.

        Whole groups, or what they share is read again for the rest.
        """
        if isinstance(self.scorer, BackgroundScorer):
            asked = [r for r in rollouts if self.rules[r.status.value] == "score"]
            missing, plans, _ = self._to_score([a for r in asked for a in self._requests(r)])
            self.scorer.start(missing + plans)

    def measure(self, rollouts: Sequence[Rollout]) -> list[Measured]:
        """What one scoring pass finds out about each rollout, whatever its status."""
        asked = [self._requests(rollout) for rollout in rollouts]
        pairs = iter(self._pairs([one for requests in asked for one in requests]))
        measured = []
        for rollout, (own, *others) in zip(rollouts, asked, strict=True):
            gold = next(pairs)
            measured.append(
                Measured(
                    rollout,
                    gold,
                    improvement_percent(gold.with_plan, gold.baseline),
                    own.num_plan_tokens,
                    tuple(next(pairs) for _ in others),
                    sum(
                        len(a.request.guidance_ids) + len(a.request.gold_ids)
                        for a in (own, *others)
                    ),
                )
            )
        return measured

    def likelihoods(
        self, outcomes: Sequence[tuple[Episode, Outcome]]
    ) -> list[tuple[Likelihood, Likelihood]]:
        """For each episode and outcome, the gold chapter's likelihood under it and without it."""
        asked = [self._asked(episode, outcome, episode) for episode, outcome in outcomes]
        return [(pair.with_plan, pair.baseline) for pair in self._pairs(asked)]

    def _requests(self, rollout: Rollout) -> list[_Asked]:
        """Of the gold chapter, then of each distractor in its place."""
        episode, outcome = rollout.episode, rollout.outcome
        others = (
            () if self.distractors is None else self.distractors.of(episode, self.num_distractors)
        )
        return [self._asked(episode, outcome, chapter_of) for chapter_of in (episode, *others)]

    def _asked(self, episode: Episode, outcome: Outcome, chapter_of: Episode) -> _Asked:
        """What is asked about an episode: under the outcome and without it, of the chapter of
        another episode or of its own.
        """
        writer = outcome.writer if isinstance(outcome, Choice | Merge) else GENERATOR
        encoder = self._encoder_of(episode, writer)
        plain, own = self.encoder.request(episode), encoder.request(episode, outcome.plan)
        if isinstance(outcome, Choice | Merge):
            own = replace(own, writer=writer)
        elif isinstance(outcome, Fusion):
            own = fused_request(self._layout, episode, outcome)
        num_plan_tokens = len(own.guidance_ids) - len(encoder.request(episode).guidance_ids)
        own = replace(own, gold_ids=encoder.request(chapter_of).gold_ids)
        plain = replace(plain, gold_ids=self.encoder.request(chapter_of).gold_ids)
        ends = None
        if own.gold_ids != plain.gold_ids:
            ends = (encoder.gold_ends(chapter_of), self.encoder.gold_ends(chapter_of))
        return _Asked(own, plain, num_plan_tokens, ends)

    def _layout(self, writer: str, episode: Episode, plan: str) -> ScoreRequest:
        return self._encoder_of(episode, writer).request(episode, plan)

    def _encoder_of(self, episode: Episode, writer: str) -> GeneratorEncoder:
        """Lays the episode out for whoever writes."""
        if writer == GENERATOR:
            return self.encoder
        if writer not in self.writers:
            raise ValueError(
                f"episode {episode.episode_id}: there is no writer {writer!r}; there are "
                f"{', '.join(self.writers) or 'none'}"
            )
        return self.writers[writer]

    def _pairs(self, asked: Sequence[_Asked]) -> list[Pair]:
        """The likelihoods under outcomes and without; baselines come from the store."""
        missing, plans, known = self._to_score(asked)
        # One call, so that a scorer sees whole groups and can share what they share.
        requests = missing + plans
        scored = dict(zip(requests, self.scorer.score(requests), strict=True))
        self.store.add({b: scored[b] for b in missing})
        found = known | scored
        return [Pair(a.on_reference(found[a.request]), found[a.plain]) for a in asked]

    def _to_score(
        self, asked: Sequence[_Asked]
    ) -> tuple[list[ScoreRequest], list[ScoreRequest], dict[ScoreRequest, Likelihood]]:
        """The baselines that the store lacks, the other requests, and what the store has."""
        baselines = dict.fromkeys(a.plain for a in asked)
        known = self.store.lookup(baselines)
        # By themselves: the last digits of a plan's likelihood must not depend on what an earlier
        # run has kept, or a resumed run would go another way.
        missing = [replace(b, by_itself=True) for b in baselines if b not in known]
        # A plan that changes nothing is worth exactly what no plan is worth. Scored again beside
        # other requests, it would differ by rounding, in bfloat16 by a thousandth of a per cent.
        plans = [own for own in dict.fromkeys(a.request for a in asked) if own not in baselines]
        return missing, plans, known

    def _score(self, measured: Measured, values: Mapping[str, float]) -> Score:
        rollout = measured.rollout
        return Score(
            rollout.episode.episode_id,
            weighted_sum(self.terms, values),
            measured.improvement,
            measured.gold.with_plan,
            measured.gold.baseline,
            self.encoder.cut(rollout.episode, rollout.outcome.plan),
            values,
            measured.num_scored_tokens,
            weighted_sum([t for t in self.terms if t.is_exact], values),
        )

    def _judged(self, rollout: Rollout) -> Score:
        """The fixed reward of a rollout that its status decides."""
        reward = float(self.rules[rollout.status.value])
        return Score(rollout.episode.episode_id, reward, None, None, None)
