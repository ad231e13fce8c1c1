"""What flows through scoring: requests in, likelihoods out, and the scores made of them."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from envs.types import Rollout

if TYPE_CHECKING:
    from torch import Tensor

TokenIds = tuple[int, ...]


class Combine(Protocol):
    """Makes one next-token distribution of several: hashable, as it is part of a request."""

    def __call__(self, logits_NV: Sequence[Tensor]) -> Tensor:
        """Scores [N, V] whose softmax is the distribution; the caller normalises them."""
        ...


@runtime_checkable
class StateCombine(Protocol):
    """Combines otherwise at each position, by what the first generator knows there: a gate."""

    def at(self, states_NH: Tensor) -> Combine:
        """How to combine at these positions, by the first generator's last hidden states: what
        stands before each token, and neither the token nor what follows.
        """
        ...


@dataclass(frozen=True)
class Mixture:
    """Generators that write a chapter together, by name, and how their distributions combine.

    A generator may stand there twice. `prompts` are the ids that each reads before the chapter, in
    its own vocabulary; None where it reads the request's own, and empty where all do.
    """

    generators: tuple[str, ...]
    combine: Combine | StateCombine
    prompts: tuple[TokenIds | None, ...] = ()

    def __post_init__(self) -> None:
        if self.prompts and len(self.prompts) != len(self.generators):
            raise ValueError(
                f"a mixture of {len(self.generators)} generators has {len(self.prompts)} prompts; "
                "give one for each, or none."
            )


@dataclass(frozen=True)
class ScoreRequest:
    """Token ids of one gold chapter and of what stands before it, joined in field order.

    `prefix_ids` is the same for all requests of an episode; `guidance_ids` is what the outcome put
    between it and the chapter; only `gold_ids` is scored. Their meaning is nothing to the scorer.
    `writer` names the model that writes in the generator's place, `mixture` those that write
    together; both are None where the scorer's one generator writes alone.

    What goes through a model together decides the last digits of each. A request that is scored
    `by_itself` shares no batch, so that no digit of the others depends on whether it is there; it
    shares their prefix where they share it. That is how, not what: with it and without it, a
    request is the same, and where equal ones of a call differ in it, either way may be taken.
    """

    episode_id: str
    prefix_ids: TokenIds
    guidance_ids: TokenIds
    gold_ids: TokenIds
    mixture: Mixture | None = None
    writer: str | None = None
    by_itself: bool = field(default=False, compare=False)

    @property
    def token_ids(self) -> TokenIds:
        """All of it, as the generator reads it."""
        return self.prefix_ids + self.guidance_ids + self.gold_ids

    @property
    def num_tokens(self) -> int:
        return len(self.prefix_ids) + len(self.guidance_ids) + len(self.gold_ids)

    @property
    def digest(self) -> bytes:
        """32 bytes for what its likelihood depends on: all ids, which are scored, by whom.

        Neither the episode's name nor the border between prefix and guidance is part of it.
        """
        content = array("q", [len(self.gold_ids), *self.token_ids]).tobytes()
        alone = self.mixture is None and self.writer is None
        by_whom = b"" if alone else repr((self.writer, self.mixture)).encode()
        return hashlib.sha256(content + by_whom).digest()


@dataclass(frozen=True)
class Likelihood:
    """Summed negative log-likelihood of a request's gold tokens, in nats.

    `token_nll` has one value per gold token, in order.
    """

    nll: float
    token_nll: tuple[float, ...]

    @property
    def num_tokens(self) -> int:
        return len(self.token_nll)


@dataclass(frozen=True)
class Pair:
    """One chapter's likelihood with the plan and without, over the same token ids."""

    with_plan: Likelihood
    baseline: Likelihood


@dataclass(frozen=True)
class Measured:
    """What one scoring pass found out about one rollout: all that a term of the reward sees.

    `improvement` is in per cent. `num_plan_tokens` is by how many tokens the plan, heading included
    and cut to the generator's limit, lengthens the generator's prompt: 0 for an empty plan.
    `distractors` are other episodes' chapters, scored behind the same context and plan.
    `num_scored_tokens` is what the generator read for it behind the context, distractors included.
    """

    rollout: Rollout
    gold: Pair
    improvement: float
    num_plan_tokens: int
    distractors: tuple[Pair, ...] = ()
    num_scored_tokens: int = 0


@dataclass(frozen=True)
class Score:
    """What one rollout is worth.

    `improvement` is in per cent and None where the rules gave a fixed reward without scoring;
    `reward` is what the policy maximises. `cut` names what was too long for the generator's limits
    and was scored in part: `context`, `plan`, `gold`. `terms` are the values, before
    weighting, that the reward is the sum of, and `exact_reward` is the part of that sum into which
    no likelihood went, and so no rounding; `num_scored_tokens` is what the generator read for it
    behind the context.
    """

    episode_id: str
    reward: float
    improvement: float | None
    likelihood: Likelihood | None
    baseline: Likelihood | None
    cut: frozenset[str] = frozenset()
    terms: Mapping[str, float] = field(default_factory=dict)
    num_scored_tokens: int = 0
    exact_reward: float = 0.0


class LikelihoodScorer(Protocol):
    """Scores requests under a frozen generator; one likelihood per request, in order."""

    def score(self, requests: Sequence[ScoreRequest]) -> list[Likelihood]: ...


@runtime_checkable
class BackgroundScorer(LikelihoodScorer, Protocol):
    """A scorer that works while its caller does something else."""

    def start(self, requests: Sequence[ScoreRequest]) -> None:
        """Begins to score them; a later `score` takes up what was started."""
        ...


class Term(Protocol):
    """One part of a reward: a number for each measured rollout of one group, in order.

    A group is every attempt at one episode in one call of the reward, without those that the rules
    judged. Three optional attributes tell of a term: `needs_group` is True where a value depends on
    the other attempts, so that a part of a group would give wrong ones; `num_distractors` is how
    many other chapters each attempt is to be scored on; `is_exact` is True where no likelihood goes
    into a value, so that the scorer's noise does not touch it.
    """

    def __call__(self, group: Sequence[Measured]) -> Sequence[float]: ...


class Reward(Protocol):
    """Turns plays into scores; one score per rollout, in order."""

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]: ...
