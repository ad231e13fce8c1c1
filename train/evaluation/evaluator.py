"""Unseen episodes, gone through row by row and batch by batch, each batch scored once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from envs.members.ledger import FAILURES
from envs.types import Episode, Guidance, Outcome
from rewards.improvement import improvement_percent
from rewards.likelihood_improvement import LikelihoodImprovement
from rewards.types import Likelihood
from train.analysis.breakdown import read_genres
from train.analysis.rows import Attempt, Evaluation, Row, is_ahead
from train.journal import Journal
from train.pace import SCORES, UNCHANGED, Steps
from train.progress import ProgressDisplay
from train.schema import EvaluationConfig
from train.statistics import Interval, clustered_bootstrap


class Evaluator:
    """Scores one set of unseen episodes; a batch that `journal` holds is taken from there.

    `generator_weights` says how large the generator is, where that is known.
    """

    def __init__(
        self,
        episodes: Sequence[Episode],
        reward: LikelihoodImprovement,
        config: EvaluationConfig,
        seed: int,
        journal: Journal | None = None,
        generator_weights: int | None = None,
    ) -> None:
        if not episodes:
            raise ValueError(
                f"evaluation.split: there are no episodes in '{config.split}'; "
                "give more books, or another split"
            )
        self.episodes = list(episodes[: config.max_episodes])
        self.reward = reward
        self.config = config
        self.seed = seed
        self.generator_weights = generator_weights
        self.journal = journal or Journal(None, {})
        self.genres = read_genres(Path(config.genres) if config.genres else None)
        if self.genres and not {e.book_id for e in self.episodes} & set(self.genres):
            raise ValueError(
                f"evaluation.genres: {config.genres} names none of the books that are evaluated, "
                f"such as {self.episodes[0].book_id!r}; its column 'book' holds their ids"
            )
        self.steps = Steps()

    def batches(self) -> Iterator[tuple[int, Sequence[Episode]]]:
        """Batches of episodes, each with the place of its first."""
        for start in range(0, len(self.episodes), self.config.batch_size):
            yield start, self.episodes[start : start + self.config.batch_size]

    def kept(
        self,
        key: Mapping[str, Any],
        episodes: Sequence[Episode],
        make: Callable[[Sequence[Episode]], list[Attempt]],
        note: str,
        kinds: Sequence[str],
    ) -> list[Attempt]:
        """The batch as the journal holds it, or made now and kept."""
        key = {**key, "episodes": [e.episode_id for e in episodes]}
        kept = self.journal.get(key)
        if kept is None:
            made = make(episodes)
            # What a server was out for is asked again the next time.
            if not any(f"play/failed/{why}" in a.play for a in made for why in FAILURES):
                self.journal.keep(key, [attempt.as_json() for attempt in made])
            return made
        for kind in kinds:
            self.steps.did(kind, len(episodes), None, note)
        return [Attempt.from_json(e, k) for e, k in zip(episodes, kept, strict=True)]

    def plans(self, name: str, plans: Sequence[str]) -> Row:
        """A row of given plans, one per episode."""
        attempts = []
        for start, some in self.batches():
            texts = list(plans[start : start + len(some)])
            kind = UNCHANGED if name == "empty_plan" else SCORES
            make = partial(self.scored, name, [Guidance(text) for text in texts], kind=kind)
            attempts += self.kept({"plans": texts}, some, make, name, (kind,))
        return self.row(name, None, attempts)

    def scored(
        self,
        note: str,
        outcomes: Sequence[Outcome],
        episodes: Sequence[Episode],
        kind: str = SCORES,
    ) -> list[Attempt]:
        """The outcomes scored now, one for each of the episodes."""
        pairs = list(zip(episodes, outcomes, strict=True))
        return self.timed(note, pairs, self.reward.likelihoods, kind)

    def timed(
        self,
        note: str,
        pairs: Sequence[tuple[Episode, Outcome]],
        score: Callable[
            [Sequence[tuple[Episode, Outcome]]], Sequence[tuple[Likelihood, Likelihood]]
        ],
        kind: str = SCORES,
    ) -> list[Attempt]:
        """What `score` says of episodes and outcomes: likelihoods with and without them."""
        started = time.perf_counter()
        found = score(pairs)
        self.steps.did(kind, len(pairs), time.perf_counter() - started, note)
        return [
            Attempt(
                episode, outcome.plan, improvement_percent(with_plan, baseline), with_plan, baseline
            )
            for (episode, outcome), (with_plan, baseline) in zip(pairs, found, strict=True)
        ]

    def row(self, name: str, decoding: str | None, attempts: Sequence[Attempt]) -> Row:
        interval = self.interval([attempt.improvement for attempt in attempts])
        return Row(name, decoding, interval, tuple(attempts))

    def interval(self, values: Sequence[float]) -> Interval:
        """Of one number per episode, over books."""
        books = [episode.book_id for episode in self.episodes]
        return clustered_bootstrap(values, books, self.config.bootstrap_samples)

    def ahead(self, whole: Row, members: Sequence[Row]) -> Interval:
        """The share of episodes on which the whole is better than every one of the members."""
        alone = zip(*(row.improvements for row in members), strict=True)
        pairs = zip(whole.improvements, alone, strict=True)
        return self.interval([float(is_ahead(*pair)) for pair in pairs])

    def num_cut(self) -> dict[str, int]:
        """Of how many episodes the generator sees each part cut."""
        cuts = [self.reward.encoder.cut(episode) for episode in self.episodes]
        return {part: sum(part in cut for cut in cuts) for part in ("context", "gold")}

    def analysed(self, found: Evaluation, progress: ProgressDisplay) -> Evaluation:
        with progress.stage("compare the rows"):
            return found.analysed(self.genres, self.config.bootstrap_samples)
