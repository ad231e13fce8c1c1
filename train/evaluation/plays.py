"""Rows of agents: what they plan when they play the episodes, and what the plans are worth."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from envs.agents import TransformersAgent
from envs.collaboration.collaboration import Collaboration
from envs.sampling import Sampling
from envs.self_consistency import SelfConsistency
from envs.types import GENERATOR, Agent, Env, Episode, PlanStatus, Rollout
from train.analysis.rows import (
    SELF_CONSISTENCY,
    Attempt,
    Row,
    costs_in_play,
    mean_of,
    tokens_of,
    writing_cost,
)
from train.evaluation.contestants import Planner
from train.evaluation.evaluator import Evaluator
from train.evaluation.members import plans_of_members
from train.lessons import cost_summary
from train.pace import ANSWERS, SCORES


@dataclass(frozen=True)
class Plays:
    """Plays of the evaluator's episodes in one env, with answers drawn as `sampling` says."""

    evaluator: Evaluator
    env: Env
    sampling: Sampling

    def rows(self, name: str, agent: Planner) -> Iterator[Row]:
        """The agent under each decoding; it is let go afterwards."""
        load = cache(agent.load)
        for decoding in self.evaluator.config.decodings:
            is_sampled = decoding == "sampled"
            how = self.sampling if is_sampled else replace(self.sampling, temperature=0.0)
            note = f"{name}, {decoding}"
            attempts = []
            for start, some in self.evaluator.batches():
                # Of the batch's own, so that a batch does not depend on those before it.
                seed = self.evaluator.seed + start
                key = {"agent": agent.digest, "sampling": asdict(how), "seed": seed}
                make = partial(self._played, load, how, seed, note, self.env, self.env.play)
                attempts += self.evaluator.kept(key, some, make, note, (ANSWERS, SCORES))
            yield self._row(name, decoding, attempts)

    def control(self) -> SelfConsistency | None:
        """Of a collaboration, the planner who works alone at the cost of several."""
        if not isinstance(self.env, Collaboration) or isinstance(self.env, SelfConsistency):
            return None
        return SelfConsistency(self.env.prompts, self.env.parser)

    def alone(self, control: SelfConsistency, agent: Planner, together: Row) -> Row:
        """The agent alone, with as many tokens at each episode as the play `together` took."""
        load = cache(agent.load)
        spent = [_tokens_of_agents(attempt) for attempt in together.attempts]
        attempts = []
        for start, some in self.evaluator.batches():
            own, seed = spent[start : start + len(some)], self.evaluator.seed + start
            key = {"agent": agent.digest, "sampling": asdict(self.sampling), "seed": seed}
            play = partial(control.play_within, num_tokens=own)
            how = (load, self.sampling, seed, SELF_CONSISTENCY, control, play)
            make = partial(self._played, *how)
            attempts += self.evaluator.kept(
                {**key, "tokens": own}, some, make, SELF_CONSISTENCY, (ANSWERS, SCORES)
            )
        return self._row(SELF_CONSISTENCY, None, attempts)

    def _row(self, name: str, decoding: str | None, attempts: Sequence[Attempt]) -> Row:
        counts = {s.value: sum(a.status == s for a in attempts) for s in PlanStatus}
        row = self.evaluator.row(name, decoding, attempts)
        return replace(row, statuses=counts, play=mean_of(a.play for a in attempts))

    def _played(
        self,
        load: Callable[[], tuple[PreTrainedModel, PreTrainedTokenizerBase]],
        how: Sampling,
        seed: int,
        note: str,
        env: Env,
        play: Callable[[Sequence[Episode], Agent], list[Rollout]],
        episodes: Sequence[Episode],
    ) -> list[Attempt]:
        evaluator = self.evaluator
        agent = TransformersAgent(*load(), how, evaluator.config.batch_size, seed)
        started = time.perf_counter()
        rollouts = play(episodes, agent)
        evaluator.steps.did(ANSWERS, len(episodes), time.perf_counter() - started, note)
        attempts = evaluator.scored(note, [r.outcome for r in rollouts], episodes)
        return [
            replace(
                attempt,
                answer=rollout.reply.text,
                status=rollout.status,
                play=cost_summary([rollout]) | self._writing(attempt),
                members=plans_of_members(env, rollout),
            )
            for attempt, rollout in zip(attempts, rollouts, strict=True)
        ]

    def _writing(self, attempt: Attempt) -> dict[str, float]:
        """What the generator reads and writes for a chapter of the author's length with this plan,
        so that plays that end in plans compare with ensembles, which write.
        """
        request = self.evaluator.reward.encoder.request(attempt.episode, attempt.plan)
        cost = writing_cost(request, self.evaluator.generator_weights)
        return costs_in_play({GENERATOR: cost})


def _tokens_of_agents(attempt: Attempt) -> float:
    """What was generated to arrive at the plan."""
    own = {k: v for k, v in attempt.play.items() if not k.startswith(f"cost/{GENERATOR}/")}
    return tokens_of(own, "generated") or 0.0
