"""The project's reward: how far a rollout's outcome lowers the frozen generator's perplexity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from envs.types import Episode, Rollout
from rewards.encode import GeneratorEncoder
from rewards.improvement import improvement_percent
from rewards.likelihood_store import LikelihoodStore, MemoryLikelihoodStore
from rewards.shaping import Shaping
from rewards.types import Likelihood, LikelihoodScorer, Score


@dataclass(frozen=True)
class StatusRules:
    """What each plan status is worth: `score` for its improvement, or a fixed reward.

    A malformed answer has to be worth less than a wrong plan, or silence beats an honest try.
    """

    complete: float | str = "score"
    truncated: float | str = "score"
    no_plan: float | str = 0.0

    def __post_init__(self) -> None:
        for status, rule in vars(self).items():
            if isinstance(rule, str) and rule != "score":
                raise ValueError(
                    f"reward.rules.{status} must be a number or 'score'; got {rule!r}."
                )


class LikelihoodImprovement:
    """Scores rollouts by the shaped improvement of their plan over no plan.

    The no-plan likelihood of an episode is computed once for the life of `store`; without one, of
    this object.
    """

    def __init__(
        self,
        scorer: LikelihoodScorer,
        encoder: GeneratorEncoder,
        shaping: Shaping,
        rules: StatusRules,
        store: LikelihoodStore | None = None,
    ) -> None:
        self.scorer = scorer
        self.encoder = encoder
        self.shaping = shaping
        self.rules: Mapping[str, float | str] = vars(rules)
        self.store = MemoryLikelihoodStore() if store is None else store

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        scored = [r for r in rollouts if self.rules[r.status.value] == "score"]
        likelihoods = iter(self.likelihoods([(r.episode, r.outcome.plan) for r in scored]))
        return [
            self._scored(r, *next(likelihoods))
            if self.rules[r.status.value] == "score"
            else Score(r.episode.episode_id, float(self.rules[r.status.value]), None, None, None)
            for r in rollouts
        ]

    def likelihoods(
        self, plans: Sequence[tuple[Episode, str]]
    ) -> list[tuple[Likelihood, Likelihood]]:
        """For each episode and plan, the gold chapter's likelihood with the plan and without."""
        baselines = [self.encoder.request(e) for e, _ in plans]
        requests = [self.encoder.request(e, plan) for e, plan in plans]
        known = self.store.lookup(dict.fromkeys(baselines))
        missing = [b for b in dict.fromkeys(baselines) if b not in known]
        # Apart from the plans: what is scored together decides the last digits, and those of a plan
        # must not depend on what an earlier run has kept, or a resumed run would go another way.
        scored = dict(zip(missing, self.scorer.score(missing), strict=True))
        self.store.add(scored)
        # A plan that changes nothing is worth exactly what no plan is worth. Scored again beside
        # other requests, it would differ by rounding, in bfloat16 by a thousandth of a per cent.
        found = known | scored
        unknown = [r for r in dict.fromkeys(requests) if r not in found]
        # One call, so that a scorer sees whole groups and can share what they share.
        found |= zip(unknown, self.scorer.score(unknown), strict=True)
        return [(found[r], found[b]) for r, b in zip(requests, baselines, strict=True)]

    def _scored(self, rollout: Rollout, with_plan: Likelihood, baseline: Likelihood) -> Score:
        improvement = improvement_percent(with_plan, baseline)
        reward = self.shaping(improvement)
        cut = self.encoder.cut(rollout.episode, rollout.outcome.plan)
        return Score(rollout.episode.episode_id, reward, improvement, with_plan, baseline, cut)
