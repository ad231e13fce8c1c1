"""Judging agents on unseen books: one table of improvements with controls and intervals."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from envs.agents import TransformersAgent
from envs.sampling import Sampling
from envs.types import Env, Episode, PlanStatus
from rewards.improvement import improvement_percent
from rewards.likelihood_improvement import LikelihoodImprovement
from rewards.types import Likelihood, LikelihoodScorer
from train.progress import Advance, ProgressDisplay, silent
from train.schema import EvaluationConfig
from train.statistics import Interval, clustered_bootstrap

# Reference plans that are rows of their own; the others (`true_but_…`) are ablations.
REFERENCES = ("inferable", "true")
ABLATION = "true_but_"


@dataclass(frozen=True)
class Attempt:
    """One episode under one row: the plan that was used and what it did."""

    episode: Episode
    plan: str
    improvement: float
    with_plan: Likelihood
    baseline: Likelihood


@dataclass(frozen=True)
class Row:
    """One line of the table. `statuses` counts how the answers of an agent were read."""

    name: str
    decoding: str | None
    improvement: Interval
    attempts: tuple[Attempt, ...]
    statuses: Mapping[str, int] | None = None

    def as_json(self) -> dict[str, Any]:
        row: dict[str, Any] = {
            "name": self.name,
            "improvement": {
                "mean": self.improvement.mean,
                "ci95": [finite_or_none(x) for x in self.improvement.ci95],
            },
            "episodes": len(self.attempts),
            "books": len({a.episode.book_id for a in self.attempts}),
        }
        if self.decoding is not None:
            row["decoding"] = self.decoding
        if self.statuses is not None:
            row["plan_status"] = dict(self.statuses)
        return row


@dataclass(frozen=True)
class Evaluation:
    """The table, and what each part of a plan is worth to the generator.

    `num_cut` counts the episodes whose context or chapter (`gold`) the generator saw in part.
    """

    rows: tuple[Row, ...]
    ablations: tuple[Row, ...]
    num_cut: Mapping[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "rows": [row.as_json() for row in self.rows],
            "ablations": [row.as_json() for row in self.ablations],
            "episodes_cut": dict(self.num_cut),
        }

    def row(self, name: str, decoding: str | None = None) -> Row:
        return next(r for r in self.rows if (r.name, r.decoding) == (name, decoding))


class Evaluator:
    """Plays and scores one set of unseen episodes, row by row."""

    def __init__(
        self,
        episodes: Sequence[Episode],
        env: Env,
        reward: LikelihoodImprovement,
        config: EvaluationConfig,
        seed: int,
    ) -> None:
        if not episodes:
            raise ValueError(
                f"evaluation.split: there are no episodes in '{config.split}'; "
                "give more books, or another split"
            )
        self.episodes = list(episodes[: config.max_episodes])
        self.env = env
        self.reward = reward
        self.config = config
        self.seed = seed

    def table(
        self,
        agents: Mapping[str, tuple[PreTrainedModel, PreTrainedTokenizerBase]],
        sampling: Sampling,
        progress: ProgressDisplay,
        sft_scorer: LikelihoodScorer | None = None,
    ) -> Evaluation:
        """All rows: each agent under each decoding, the controls, the reference plans."""
        references = [n for n in REFERENCES if all(n in e.plans for e in self.episodes)]
        ablated = [n for n in self.episodes[0].plans if n.startswith(ABLATION)]
        # An agent's answers are generated, then scored; everything else is only scored.
        passes = 2 * len(agents) * len(self.config.decodings)
        passes += 2 + len(references) + len(ablated) + (sft_scorer is not None)
        with progress.stage("evaluate", passes * len(self.episodes)) as advance:
            rows = [
                self._play(name, decoding, model, sampling, advance)
                for name, model in agents.items()
                for decoding in self.config.decodings
            ]
            given = {"empty_plan": ["" for _ in self.episodes]}
            own = self._own_plans(rows)
            if own is not None and len(self.episodes) > 1:
                given["shuffled_plan"] = shuffled_plans(self.episodes, own, self.seed)
            given |= {f"{name}_plan": [e.plans[name] for e in self.episodes] for name in references}
            rows += [self.plans(name, plans, advance) for name, plans in given.items()]
            if sft_scorer is not None:
                rows.append(self._other_writer("sft_baseline", sft_scorer, advance))
            ablations = [
                self.plans(name, [e.plans[name] for e in self.episodes], advance)
                for name in ablated
            ]
        return Evaluation(tuple(rows), tuple(ablations), self._num_cut())

    def _num_cut(self) -> dict[str, int]:
        cuts = [self.reward.encoder.cut(episode) for episode in self.episodes]
        return {part: sum(part in cut for cut in cuts) for part in ("context", "gold")}

    def plans(self, name: str, plans: Sequence[str], advance: Advance = silent) -> Row:
        """A row of given plans, one per episode."""
        pairs = list(zip(self.episodes, plans, strict=True))
        return self._row(name, None, pairs, self._likelihoods(pairs, name, advance))

    def _play(
        self,
        name: str,
        decoding: str,
        model: tuple[PreTrainedModel, PreTrainedTokenizerBase],
        sampling: Sampling,
        advance: Advance,
    ) -> Row:
        how = sampling if decoding == "sampled" else replace(sampling, temperature=0.0)
        note = f"{name}, {decoding}"
        agent = TransformersAgent(
            *model, how, self.config.batch_size, self.seed, partial(advance, note=note)
        )
        rollouts = self.env.play(self.episodes, agent)
        pairs = [(r.episode, r.outcome.plan) for r in rollouts]
        row = self._row(name, decoding, pairs, self._likelihoods(pairs, note, advance))
        counts = {s.value: sum(r.status == s for r in rollouts) for s in PlanStatus}
        return replace(row, statuses=counts)

    def _other_writer(self, name: str, scorer: LikelihoodScorer, advance: Advance) -> Row:
        """Another model in the generator's place, without a plan, on the same gold tokens."""
        pairs = [(episode, "") for episode in self.episodes]
        found: list[Likelihood] = []
        for some in self._batches(pairs):
            found += scorer.score([self.reward.encoder.request(e) for e, _ in some])
            advance(len(some), note=name)
        known = self.reward.likelihoods(pairs)
        return self._row(
            name, None, pairs, [(f, base) for f, (_, base) in zip(found, known, strict=True)]
        )

    def _likelihoods(
        self, pairs: Sequence[tuple[Episode, str]], note: str, advance: Advance
    ) -> list[tuple[Likelihood, Likelihood]]:
        found: list[tuple[Likelihood, Likelihood]] = []
        for some in self._batches(pairs):
            found += self.reward.likelihoods(some)
            advance(len(some), note=note.replace("_", " "))
        return found

    def _batches(
        self, pairs: Sequence[tuple[Episode, str]]
    ) -> Iterator[Sequence[tuple[Episode, str]]]:
        for start in range(0, len(pairs), self.config.batch_size):
            yield pairs[start : start + self.config.batch_size]

    def _own_plans(self, rows: Sequence[Row]) -> list[str] | None:
        """Each episode's true plan where all are known, else what the last agent planned."""
        if all("true" in e.plans for e in self.episodes):
            return [e.plans["true"] for e in self.episodes]
        agents = [row for row in rows if row.decoding is not None]
        return [a.plan for a in agents[-1].attempts] if agents else None

    def _row(
        self,
        name: str,
        decoding: str | None,
        pairs: Sequence[tuple[Episode, str]],
        likelihoods: Sequence[tuple[Likelihood, Likelihood]],
    ) -> Row:
        attempts = tuple(
            Attempt(episode, plan, improvement_percent(with_plan, baseline), with_plan, baseline)
            for (episode, plan), (with_plan, baseline) in zip(pairs, likelihoods, strict=True)
        )
        interval = clustered_bootstrap(
            [a.improvement for a in attempts],
            [a.episode.book_id for a in attempts],
            self.config.bootstrap_samples,
        )
        return Row(name, decoding, interval, attempts)


def shuffled_plans(episodes: Sequence[Episode], plans: Sequence[str], seed: int) -> list[str]:
    """For each episode a plan made for another book; where there is one book, for another episode.

    Raises:
        ValueError: there is no other episode to take a plan from.
    """
    rng = random.Random(seed)
    made_for = list(zip(episodes, plans, strict=True))
    shuffled = []
    for episode in episodes:
        elsewhere = [plan for other, plan in made_for if other.book_id != episode.book_id]
        in_book = [plan for other, plan in made_for if other.episode_id != episode.episode_id]
        if not in_book:
            raise ValueError("evaluation: one episode has no other's plan; evaluate two or more")
        shuffled.append(rng.choice(elsewhere or in_book))
    return shuffled


def finite_or_none(value: float) -> float | None:
    return value if abs(value) != float("inf") else None
