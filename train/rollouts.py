"""What every trainer does with sampled answers: join them with their episodes, and score them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any, cast

from envs.collaboration.collaboration import Collaboration
from envs.solo import SoloPlanner
from envs.types import Episode, PlanStatus, Reply, Rollout
from rewards.encode import CUTTABLE
from rewards.types import BackgroundScorer, Reward, Score
from train.rewarding import rewarded

OnScored = Callable[[Sequence[Rollout], Sequence[Score]], None]
"""Is shown what a process had scored."""


class Judge:
    """Ends each play in its outcome and says what it is worth.

    With several processes, all call it equally often: the scorer works for all of them together.
    """

    def __init__(
        self, episodes: Sequence[Episode], env: SoloPlanner | Collaboration, reward: Reward
    ) -> None:
        self.episodes = {e.episode_id: e for e in episodes}
        self.env = env
        self.reward = reward

    def __call__(
        self, episode_ids: Sequence[str], replies: Sequence[Reply]
    ) -> tuple[list[Rollout], list[Score]]:
        rollouts = self._concluded(episode_ids, replies)
        return rollouts, rewarded(self.reward, rollouts)

    @property
    def foresees(self) -> bool:
        """Whether answers can be scored while others are still being sampled."""
        scorer = getattr(self.reward, "scorer", None)
        return hasattr(self.reward, "foresee") and isinstance(scorer, BackgroundScorer)

    def foresee(self, episode_ids: Sequence[str], replies: Sequence[Reply]) -> None:
        """Begins to score whole groups in the background; they are to be judged later on."""
        if self.foresees:
            cast(Any, self.reward).foresee(self._concluded(episode_ids, replies))

    def _concluded(self, episode_ids: Sequence[str], replies: Sequence[Reply]) -> list[Rollout]:
        assert isinstance(self.env, SoloPlanner), "a collaboration plays and scores by itself"
        return [
            self.env.conclude(self.episodes[id_], reply)
            for id_, reply in zip(episode_ids, replies, strict=True)
        ]


def summary(rollouts: Sequence[Rollout], scores: Sequence[Score]) -> dict[str, float]:
    """Mean improvement in per cent and value of each term, the share of each plan status, what was
    cut how often, and how many tokens the generator read per attempt behind the context.

    All but the statuses are those of the rollouts that were scored, not judged by a rule.
    """
    counts = Counter(r.status for r in rollouts)
    shares = {f"plan/{status}": counts[status] / len(rollouts) for status in PlanStatus}
    scored = [s for s in scores if s.improvement is not None]
    if not scored:
        return shares
    cuts = Counter(part for score in scored for part in score.cut)
    return {
        "improvement": fmean(s.improvement for s in scored if s.improvement is not None),
        "scored_tokens": fmean(s.num_scored_tokens for s in scored),
        **{f"reward/{name}": fmean(s.terms[name] for s in scored) for name in scored[0].terms},
        **shares,
        **{f"cut/{part}": cuts[part] / len(scored) for part in CUTTABLE},
    }
