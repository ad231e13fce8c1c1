"""Judging agents on unseen books: one table of improvements with controls and intervals."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from envs.agents import TransformersAgent
from envs.collaboration.collaboration import Collaboration
from envs.members.endpoint import FAILURES
from envs.sampling import Sampling
from envs.self_consistency import SelfConsistency
from envs.types import (
    GENERATOR,
    Agent,
    Env,
    Episode,
    Guidance,
    Outcome,
    PlanStatus,
    Rollout,
    StoryContext,
)
from rewards.improvement import improvement_percent
from rewards.likelihood_improvement import LikelihoodImprovement
from rewards.monitors.controls import random_texts
from rewards.types import Likelihood, LikelihoodScorer
from train.analysis.breakdown import read_genres
from train.analysis.rows import (
    ORACLE,
    SELF_CONSISTENCY,
    WRITER_ROW,
    Attempt,
    Evaluation,
    Row,
    costs_in_play,
    is_ahead,
    mean_of,
    tokens_of,
    writing_cost,
)
from train.journal import Journal
from train.lessons import cost_summary
from train.pace import ANSWERS, SCORES, UNCHANGED, Steps
from train.progress import ProgressDisplay
from train.schema import EvaluationConfig
from train.statistics import Interval, clustered_bootstrap

# Reference plans that are rows of their own; the others (`true_but_…`) are ablations.
REFERENCES = ("inferable", "true")
ABLATION = "true_but_"
T = TypeVar("T")


@dataclass(frozen=True)
class Contestant(Generic[T]):
    """A model to be judged, which is loaded when there is something for it to do.

    `digest` identifies its weights.
    """

    digest: str
    load: Callable[[], T]


@dataclass(frozen=True)
class Made:
    """Outcomes for all episodes, in order, and what each took."""

    outcomes: Sequence[Outcome]
    play: Sequence[Mapping[str, float]]


Planner = Contestant[tuple[PreTrainedModel, PreTrainedTokenizerBase]]
Writer = Contestant[LikelihoodScorer]
Second = Contestant[LikelihoodImprovement]

WITHOUT_PLANS = ("empty_plan", "sft_baseline")
"""Rows that a second generator has nothing to say about."""


class Evaluator:
    """Plays and scores one set of unseen episodes, row by row and batch by batch.

    A batch that `journal` holds is taken from there.
    """

    def __init__(
        self,
        episodes: Sequence[Episode],
        env: Env | None,
        reward: LikelihoodImprovement,
        config: EvaluationConfig,
        seed: int,
        journal: Journal | None = None,
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
        self.journal = journal or Journal(None, {})
        self.genres = read_genres(Path(config.genres) if config.genres else None)
        if self.genres and not {e.book_id for e in self.episodes} & set(self.genres):
            raise ValueError(
                f"evaluation.genres: {config.genres} names none of the books that are evaluated, "
                f"such as {self.episodes[0].book_id!r}; its column 'book' holds their ids"
            )
        self._steps = Steps()

    def table(
        self,
        agents: Mapping[str, Planner],
        sampling: Sampling,
        progress: ProgressDisplay,
        sft: Writer | None = None,
        second: Second | None = None,
    ) -> Evaluation:
        """All rows: each agent under each decoding, the controls, the reference plans.

        Where there is a `second` generator, each row's plans are scored by it as well.
        """
        references = [n for n in REFERENCES if all(n in e.plans for e in self.episodes)]
        ablated = [n for n in self.episodes[0].plans if n.startswith(ABLATION)]
        has_own = bool(agents) or "true" in references
        control = self._collaborates() if agents else None
        num_plays = len(agents) * len(self.config.decodings) + (control is not None)
        num_played = num_plays * len(self.episodes)
        num_given = 1 + len(references) + len(ablated) + (sft is not None)
        num_own = has_own * (1 + (len(self.episodes) > 1))
        num_given += num_own
        num_scores = num_played + num_given * len(self.episodes)
        if second is not None:
            num_scores += num_played + (num_own + len(references)) * len(self.episodes)
        planned = {ANSWERS: num_played, SCORES: num_scores, UNCHANGED: len(self.episodes)}
        with self._steps.shown(progress, planned):
            rows = [
                row for name, agent in agents.items() for row in self._play(name, agent, sampling)
            ]
            if control is not None:
                rows.append(self._alone(control, agents, sampling, rows[-1]))
            given = self._controls(rows)
            given |= {f"{name}_plan": [e.plans[name] for e in self.episodes] for name in references}
            rows += [self.plans(name, plans) for name, plans in given.items()]
            if sft is not None:
                rows.append(self._other_writer("sft_baseline", sft))
            ablations = [self.plans(n, [e.plans[n] for e in self.episodes]) for n in ablated]
            checks = (self._without_context(),)
            if second is not None:
                load = cache(second.load)
                rows = [
                    row if row.name in WITHOUT_PLANS else self._again(row, second.digest, load)
                    for row in rows
                ]
        found = Evaluation(tuple(rows), tuple(ablations), self._num_cut(), (), checks)
        return self._analysed(found, progress)

    def ensemble_table(
        self,
        made: Mapping[str, Made],
        progress: ProgressDisplay,
    ) -> Evaluation:
        """Rows of outcomes that no agent has a part in, and the controls.

        `oracle` takes for each episode the best of the rows of one writer: what no choice among
        them that is made beforehand can beat.
        """
        texts = [e.plans["true"] for e in self.episodes if "true" in e.plans]
        has_texts = len(texts) == len(self.episodes)
        num_scores = (len(made) + 1 + has_texts) * len(self.episodes)
        with self._steps.shown(progress, {SCORES: num_scores, UNCHANGED: len(self.episodes)}):
            rows = [self._made(name, some) for name, some in made.items()]
            made_by = [row for row in rows if row.name.startswith(WRITER_ROW)]
            rows.append(self._oracle(made_by))
            rows.append(self.plans("empty_plan", ["" for _ in self.episodes]))
            if has_texts:
                rows.append(self.plans("random_words", random_texts(self.episodes, texts)))
            checks = (self._without_context(),)
        learned = [row for row in rows if row.way is not None]
        ahead = {row.label: self._ahead(row, made_by) for row in learned}
        found = Evaluation(tuple(rows), (), self._num_cut(), (), checks, ahead=ahead)
        return self._analysed(found, progress)

    def _ahead(self, row: Row, writers: Sequence[Row]) -> Interval:
        """The share of episodes on which the row is better than every one of the writers."""
        alone = zip(*(w.improvements for w in writers), strict=True)
        ahead = [float(is_ahead(*pair)) for pair in zip(row.improvements, alone, strict=True)]
        books = [episode.book_id for episode in self.episodes]
        return clustered_bootstrap(ahead, books, self.config.bootstrap_samples)

    def _made(self, name: str, made: Made) -> Row:
        attempts = []
        for start, some in self._batches():
            place = slice(start, start + len(some))
            make = partial(self._scored, name, made.outcomes[place])
            key = {"outcomes": [repr(outcome) for outcome in made.outcomes[place]]}
            attempts += self._kept(key, some, make, name, (SCORES,))
        attempts = [replace(a, play=p) for a, p in zip(attempts, made.play, strict=True)]
        row = self._row(name, None, attempts)
        return replace(row, play=mean_of(a.play for a in attempts))

    def _oracle(self, rows: Sequence[Row]) -> Row:
        best = [
            max(attempts, key=lambda a: a.improvement)
            for attempts in zip(*(row.attempts for row in rows), strict=True)
        ]
        return replace(self._row(ORACLE, None, best), play=mean_of(a.play for a in best))

    def plans(self, name: str, plans: Sequence[str]) -> Row:
        """A row of given plans, one per episode."""
        attempts = []
        for start, some in self._batches():
            texts = list(plans[start : start + len(some)])
            kind = UNCHANGED if name == "empty_plan" else SCORES
            make = partial(self._scored, name, [Guidance(text) for text in texts], kind=kind)
            attempts += self._kept({"plans": texts}, some, make, name, (kind,))
        return self._row(name, None, attempts)

    def _scored(
        self,
        note: str,
        outcomes: Sequence[Outcome],
        episodes: Sequence[Episode],
        kind: str = SCORES,
    ) -> list[Attempt]:
        pairs = list(zip(episodes, outcomes, strict=True))
        started = time.perf_counter()
        found = self.reward.likelihoods(pairs)
        self._steps.did(kind, len(pairs), time.perf_counter() - started, note)
        return _attempts(pairs, found)

    def _controls(self, rows: Sequence[Row]) -> dict[str, list[str]]:
        """Plans that say nothing of the chapter: none, another book's, and mere words."""
        given = {"empty_plan": ["" for _ in self.episodes]}
        own = self._own_plans(rows)
        if own is not None:
            if len(self.episodes) > 1:
                given["shuffled_plan"] = shuffled_plans(self.episodes, own, self.seed)
            given["random_words"] = random_texts(self.episodes, own)
        return given

    def _play(self, name: str, agent: Planner, sampling: Sampling) -> Iterator[Row]:
        """The agent under each decoding; it is let go afterwards."""
        load = cache(agent.load)
        for decoding in self.config.decodings:
            how = sampling if decoding == "sampled" else replace(sampling, temperature=0.0)
            assert self.env is not None, "agents play in an env"
            play = self.env.play
            attempts = []
            for start, some in self._batches():
                # Of the batch's own, so that a batch does not depend on those before it.
                seed = self.seed + start
                key = {"agent": agent.digest, "sampling": asdict(how), "seed": seed}
                make = partial(self._played, load, how, seed, f"{name}, {decoding}", play)
                attempts += self._kept(key, some, make, f"{name}, {decoding}", (ANSWERS, SCORES))
            yield self._played_row(name, decoding, attempts)

    def _collaborates(self) -> SelfConsistency | None:
        """Of a collaboration, the planner who works alone at the cost of several."""
        if not isinstance(self.env, Collaboration) or isinstance(self.env, SelfConsistency):
            return None
        return SelfConsistency(self.env.prompts, self.env.parser)

    def _alone(
        self,
        control: SelfConsistency,
        agents: Mapping[str, Planner],
        sampling: Sampling,
        together: Row,
    ) -> Row:
        """The last agent alone, with as many tokens at each episode as the play `together` took."""
        agent = list(agents.values())[-1]
        load = cache(agent.load)
        spent = [_tokens_of_agents(attempt) for attempt in together.attempts]
        attempts = []
        for start, some in self._batches():
            own, seed = spent[start : start + len(some)], self.seed + start
            key = {"agent": agent.digest, "sampling": asdict(sampling), "seed": seed, "tokens": own}
            play = partial(control.play_within, num_tokens=own)
            make = partial(self._played, load, sampling, seed, SELF_CONSISTENCY, play)
            attempts += self._kept(key, some, make, SELF_CONSISTENCY, (ANSWERS, SCORES))
        return self._played_row(SELF_CONSISTENCY, None, attempts)

    def _played_row(self, name: str, decoding: str | None, attempts: Sequence[Attempt]) -> Row:
        counts = {s.value: sum(a.status == s for a in attempts) for s in PlanStatus}
        row = self._row(name, decoding, attempts)
        return replace(row, statuses=counts, play=mean_of(a.play for a in attempts))

    def _played(
        self,
        load: Callable[[], tuple[PreTrainedModel, PreTrainedTokenizerBase]],
        how: Sampling,
        seed: int,
        note: str,
        play: Callable[[Sequence[Episode], Agent], list[Rollout]],
        episodes: Sequence[Episode],
    ) -> list[Attempt]:
        agent = TransformersAgent(*load(), how, self.config.batch_size, seed)
        started = time.perf_counter()
        rollouts = play(episodes, agent)
        self._steps.did(ANSWERS, len(episodes), time.perf_counter() - started, note)
        attempts = self._scored(note, [r.outcome for r in rollouts], episodes)
        return [
            replace(
                attempt,
                answer=rollout.reply.text,
                status=rollout.status,
                play=cost_summary([rollout]) | self._writing(attempt),
            )
            for attempt, rollout in zip(attempts, rollouts, strict=True)
        ]

    def _writing(self, attempt: Attempt) -> dict[str, float]:
        """What the generator reads and writes for a chapter of the author's length with this plan,
        so that plays that end in plans compare with ensembles, which write.
        """
        request = self.reward.encoder.request(attempt.episode, attempt.plan)
        return costs_in_play({GENERATOR: writing_cost(request)})

    def _again(self, row: Row, digest: str, load: Callable[[], LikelihoodImprovement]) -> Row:
        """The row with what its plans are worth to a second generator."""
        name = f"{row.label}, second generator"

        def score(plans: Sequence[str], some: Sequence[Episode]) -> list[Attempt]:
            pairs = [(e, Guidance(plan)) for e, plan in zip(some, plans, strict=True)]
            started = time.perf_counter()
            found = load().likelihoods(pairs)
            self._steps.did(SCORES, len(pairs), time.perf_counter() - started, name)
            return _attempts(pairs, found)

        attempts = []
        for start, some in self._batches():
            plans = [a.plan for a in row.attempts[start : start + len(some)]]
            key = {"second_generator": digest, "plans": plans}
            attempts += self._kept(key, some, partial(score, plans), name, (SCORES,))
        return replace(row, second=self._row(row.name, row.decoding, attempts).improvement)

    def _other_writer(self, name: str, writer: Writer) -> Row:
        """Another model in the generator's place, without a plan, on the same gold tokens."""
        load = cache(writer.load)

        def score(some: Sequence[Episode]) -> list[Likelihood]:
            return load().score([self.reward.encoder.request(e) for e in some])

        return self._against_baseline(name, {"writer": writer.digest}, score)

    def _without_context(self) -> Row:
        """The chapter without the story so far: whether the generator knows the book by heart.

        Near 0 it writes the chapter as well without having read what came before.
        """

        def score(some: Sequence[Episode]) -> list[Likelihood]:
            bare = [replace(e, context=StoryContext(()), plans={}) for e in some]
            golds = [self.reward.encoder.request(e).gold_ids for e in some]
            requests = [self.reward.encoder.request(e) for e in bare]
            # A window that holds less of a long chapter behind its context cuts both alike.
            return self.reward.scorer.score(
                [replace(r, gold_ids=gold) for r, gold in zip(requests, golds, strict=True)]
            )

        return self._against_baseline("without_context", {"context": False}, score)

    def _against_baseline(
        self,
        name: str,
        key: Mapping[str, Any],
        score: Callable[[Sequence[Episode]], list[Likelihood]],
    ) -> Row:
        def compare(some: Sequence[Episode]) -> list[Attempt]:
            started = time.perf_counter()
            found = score(some)
            pairs = [(episode, Guidance("")) for episode in some]
            known = [baseline for _, baseline in self.reward.likelihoods(pairs)]
            self._steps.did(SCORES, len(some), time.perf_counter() - started, name)
            return _attempts(pairs, list(zip(found, known, strict=True)))

        attempts = []
        for _, some in self._batches():
            attempts += self._kept(key, some, compare, name, (SCORES,))
        return self._row(name, None, attempts)

    def _kept(
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
            self._steps.did(kind, len(episodes), None, note)
        return [Attempt.from_json(e, k) for e, k in zip(episodes, kept, strict=True)]

    def _analysed(self, found: Evaluation, progress: ProgressDisplay) -> Evaluation:
        with progress.stage("compare the rows"):
            return found.analysed(self.genres, self.config.bootstrap_samples)

    def _batches(self) -> Iterator[tuple[int, Sequence[Episode]]]:
        for start in range(0, len(self.episodes), self.config.batch_size):
            yield start, self.episodes[start : start + self.config.batch_size]

    def _num_cut(self) -> dict[str, int]:
        cuts = [self.reward.encoder.cut(episode) for episode in self.episodes]
        return {part: sum(part in cut for cut in cuts) for part in ("context", "gold")}

    def _own_plans(self, rows: Sequence[Row]) -> list[str] | None:
        """Each episode's true plan where all are known, else what the last agent planned."""
        if all("true" in e.plans for e in self.episodes):
            return [e.plans["true"] for e in self.episodes]
        agents = [row for row in rows if row.decoding is not None]
        return [a.plan for a in agents[-1].attempts] if agents else None

    def _row(self, name: str, decoding: str | None, attempts: Sequence[Attempt]) -> Row:
        interval = clustered_bootstrap(
            [a.improvement for a in attempts],
            [a.episode.book_id for a in attempts],
            self.config.bootstrap_samples,
        )
        return Row(name, decoding, interval, tuple(attempts))


def _attempts(
    pairs: Sequence[tuple[Episode, Outcome]], likelihoods: Sequence[tuple[Likelihood, Likelihood]]
) -> list[Attempt]:
    return [
        Attempt(
            episode, outcome.plan, improvement_percent(with_plan, baseline), with_plan, baseline
        )
        for (episode, outcome), (with_plan, baseline) in zip(pairs, likelihoods, strict=True)
    ]


def _tokens_of_agents(attempt: Attempt) -> float:
    """What was generated to arrive at the plan."""
    own = {k: v for k, v in attempt.play.items() if not k.startswith(f"cost/{GENERATOR}/")}
    return tokens_of(own, "generated") or 0.0


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
