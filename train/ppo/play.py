"""Plays rollouts: which episodes, what the policy answers, and what the answers are worth."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from envs.agents import TransformersAgent
from envs.collaboration.collaboration import Collaboration
from envs.sampling import Sampling
from envs.solo import PLANNER
from envs.tokens import end_id
from envs.types import Answer, Episode, Reply
from train.episode_order import EpisodeOrder
from train.lessons import Lesson, play_lessons, rows_per_play
from train.ppo.settings import PpoSettings
from train.rollouts import Judge, OnScored, summary


@dataclass(frozen=True)
class Played:
    """The answers of one process to its episodes of one rollout, their roles and their scores; what
    has no score only fills a row."""

    answers: tuple[Answer, ...]
    roles: tuple[str, ...]
    scores: tuple[float | None, ...]
    metrics: dict[str, float]


@dataclass(frozen=True)
class Player:
    """Plays any rollout by its number. What it samples follows from seed, number and process alone,
    so that a resumed run samples the same; `order` knows which episodes are played.
    """

    judge: Judge
    order: EpisodeOrder
    tokenizer: PreTrainedTokenizerBase
    settings: PpoSettings
    seed: int
    on_scored: OnScored | None = None

    def play(
        self, number: int, process: int, num_processes: int, policy: PreTrainedModel
    ) -> Played:
        settings = self.settings
        first = number * settings.episodes_per_rollout
        drawn = [self.order[first + place] for place in range(settings.episodes_per_rollout)]
        share = len(drawn) // num_processes
        attempted = [
            episode
            for episode in drawn[process * share : (process + 1) * share]
            for _ in range(settings.num_generations)
        ]
        agent = TransformersAgent(
            policy,
            self.tokenizer,
            Sampling(settings.max_completion_length, settings.temperature),
            settings.per_device_batch_size,
            derived_seed(self.seed, "sampling", number, process),
        )
        lessons, found = self._lessons(attempted, agent, number, process)
        plays = lessons[:: rows_per_play(self.judge.env)]
        rollouts, scores = [p.rollout for p in plays], [p.score for p in plays]
        if self.on_scored is not None:
            self.on_scored(rollouts, scores)
        answers = [lesson.answer for lesson in lessons]
        metrics = {**summary(rollouts, scores), **found, **self._learned(plays, lessons)}
        roles = tuple(lesson.role for lesson in lessons)
        return Played(tuple(answers), roles, tuple(lesson.reward for lesson in lessons), metrics)

    def _learned(self, plays: Sequence[Lesson], lessons: Sequence[Lesson]) -> dict[str, float]:
        """What TRL logs too, of the plays and rows that are learned from; nothing without any."""
        rewards = [play.score.reward for play in plays if play.rollout.is_heard]
        ids = [lesson.answer.ids for lesson in lessons if lesson.reward is not None]
        if not ids:
            return {}
        return {
            "reward": fmean(rewards),
            "reward_std": pstdev(rewards),
            "completions/mean_length": fmean(map(len, ids)),
            "completions/max_length": float(max(map(len, ids))),
            "completions/clipped_ratio": fmean(i[-1] != end_id(self.tokenizer) for i in ids),
        }

    def _lessons(
        self, attempted: Sequence[Episode], agent: TransformersAgent, number: int, process: int
    ) -> tuple[list[Lesson], dict[str, float]]:
        """The rows of these attempts, in order, and what is measured of their turns."""
        env = self.judge.env
        if isinstance(env, Collaboration):
            rng = random.Random(derived_seed(self.seed, "turns", number, process))
            how = (agent, self.settings.credit, rng, end_id(self.tokenizer))
            return play_lessons(env, self.judge.reward, attempted, *how)
        answers: list[Answer] = []
        replies: list[Reply] = []
        ids = [episode.episode_id for episode in attempted]
        together = len(attempted)
        if self.judge.foresees:
            # Whole groups in whole batches: a part is scored while the next one is sampled. Each
            # call of the agent draws anew, so that these are not the answers of one call.
            together = math.lcm(self.settings.num_generations, self.settings.per_device_batch_size)
        for start in range(0, len(attempted), together):
            part = slice(start, start + together)
            answers += agent.answer([env.ask(episode) for episode in attempted[part]])
            replies += [agent.read(answer) for answer in answers[part]]
            if start + together < len(attempted):
                self.judge.foresee(ids[part], replies[part])
        judged = self.judge(ids, replies)
        return [
            Lesson(answer, PLANNER, rollout, score, score.reward)
            for answer, rollout, score in zip(answers, *judged, strict=True)
        ], {}


def shuffled(seed: int, pass_number: int, num_episodes: int) -> list[int]:
    """The order of one pass over all episodes, as places."""
    order = list(range(num_episodes))
    random.Random(derived_seed(seed, "order", pass_number)).shuffle(order)
    return order


def derived_seed(*names: object) -> int:
    """A seed for one purpose: other names, other numbers."""
    return random.Random("/".join(str(name) for name in names)).getrandbits(48)
