"""Which way to share a prefix is right for a model: found by trial against the dense scorer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Protocol

import torch
from accelerate.utils.memory import clear_device_cache
from transformers import PreTrainedModel

from rewards.likelihood.back_off import DoesNotFit, is_out_of_memory
from rewards.likelihood.budget import tokens_per_call
from rewards.likelihood.dense import DenseScorer
from rewards.likelihood.rounding import largest_difference, same_but_for_rounding
from rewards.prefix.merged_attention import CannotMerge
from rewards.prefix.prefix import Prefix, prefill
from rewards.prefix.suffixes import ExpandedCache, MergedAttention, SuffixPath
from rewards.ranks.exchange import LostRank
from rewards.types import Likelihood, ScoreRequest

logger = logging.getLogger(__name__)

# How far off a path may be in lower precision than fp32, as a multiple of what rounding does to the
# dense scorer. Over 20 families in bfloat16, right paths were off by at most 0.8 of that, but twice
# that where rounding sends tokens to other experts; a prefix that lacks a token, by 3.4 and more
# wherever the family can tell.
ROUNDINGS = 3.0


class Scorer(Protocol):
    """What is tried: a scorer that can be told which path to take."""

    model: PreTrainedModel
    dense: DenseScorer

    def score_along(
        self, path: SuffixPath, prefix: Prefix, group: Sequence[ScoreRequest]
    ) -> dict[ScoreRequest, Likelihood]: ...


def choose_path(
    scorer: Scorer,
    group: Sequence[ScoreRequest],
    prefix_tokens: int,
    twin_of: Callable[[], Scorer | None],
) -> SuffixPath | None:
    """The fastest path that agrees with the dense scorer on requests of this group; None for none.

    Tried behind the group's prefix, and behind that prefix repeated to so many tokens.

    In lower precision, rounding could hide that a state is lost, so a path has to agree in fp32
    first: `twin_of` makes a scorer of a copy of the model, where memory allows one.

    Raises:
        DoesNotFit: memory is too short for the trial.
    """
    lengths = dict.fromkeys([len(group[0].prefix_ids), prefix_tokens])
    samples = [_sample(group, length) for length in lengths]
    model = scorer.model
    paths: list[SuffixPath] = [MergedAttention(), ExpandedCache(tokens_per_call(model.device))]
    refusals: list[str] = []
    if model.dtype != torch.float32 and (twin := twin_of()) is not None:
        paths = list(_agreeing(twin, paths, samples, refusals))
        del twin
    chosen = next(_agreeing(scorer, paths, samples, refusals), None)
    by = "every request on its own" if chosen is None else chosen.name
    logger.info("scoring %s by %s%s", type(model).__name__, by, "".join(refusals))
    return chosen


def _agreeing(
    scorer: Scorer,
    paths: Sequence[SuffixPath],
    samples: Sequence[Sequence[ScoreRequest]],
    refusals: list[str],
) -> Iterator[SuffixPath]:
    """The paths that give what the dense scorer gives, each tried when it is asked for."""
    trials = [_Trial.of(scorer, sample) for sample in samples]
    for path in paths:
        reasons = (trial.refusal(path) for trial in trials)
        reason = next((reason for reason in reasons if reason), None)
        if reason is None:
            yield path
        else:
            refusals.append(f"; not by {path.name}: {reason}")


@dataclass(frozen=True)
class _Trial:
    """Requests of one prefix, and what the dense scorer makes of them."""

    scorer: Scorer
    sample: Sequence[ScoreRequest]
    expected: Sequence[Likelihood]
    is_right: Callable[[Sequence[Likelihood]], bool]

    @classmethod
    def of(cls, scorer: Scorer, sample: Sequence[ScoreRequest]) -> _Trial:
        dense = scorer.dense
        expected = dense.score(sample)
        is_right = same_but_for_rounding(
            scorer.model, expected, lambda: dense.score(sample), ROUNDINGS
        )
        return cls(scorer, sample, expected, is_right)

    def refusal(self, path: SuffixPath) -> str | None:
        """Why not to take the path; None where it is right."""
        rows = self.scorer.dense.rows
        longest = rows.regimes.split(self.sample, lambda r: r.num_tokens)[0]
        if path.pads and not rows.padding_is_inert(longest):
            return "padding changes what the model computes"
        found = _tried(self.scorer, path, self.sample)
        if isinstance(found, Exception):
            return str(found) or type(found).__name__
        if self.is_right(found):
            return None
        return f"off by up to {largest_difference(found, self.expected):.2g} nats a token"


def _tried(
    scorer: Scorer, path: SuffixPath, sample: Sequence[ScoreRequest]
) -> list[Likelihood] | Exception:
    """What the path makes of the sample, or the error that it ends in twice.

    Raises:
        DoesNotFit: it ends twice for want of memory.
    """
    found: list[Likelihood] | Exception = []
    # An error may pass, as when memory was short for a moment, and a path is not given up for that.
    for _ in range(2):
        try:
            scored = scorer.score_along(path, prefill(scorer.model, sample[0].prefix_ids), sample)
            return [scored[r] for r in sample]
        except LostRank:
            raise
        except CannotMerge as error:
            return error.with_traceback(None)
        # Whatever a family's code makes of being called like this: there is another path.
        except Exception as error:
            # Without its traceback, which holds what filled the memory.
            found = error.with_traceback(None)
        clear_device_cache(garbage_collection=True)
    if isinstance(found, Exception) and is_out_of_memory(found):
        raise DoesNotFit(f"no memory to try {path.name}") from found
    return found


def _sample(group: Sequence[ScoreRequest], prefix_tokens: int) -> list[ScoreRequest]:
    """Requests of the group on which a wrong path shows.

    All that follows the prefix is taken as gold, since a wrong state fades with the distance from
    it; beginnings and lengths differ, so that padding and packing are tried as well.
    """
    suffixes = {r.guidance_ids + r.gold_ids: r.gold_ids for r in group}
    longest = max(suffixes, key=len)
    half = longest[: (len(longest) + 1) // 2]
    chosen = dict.fromkeys([longest, suffixes[longest], min(suffixes, key=len), half])
    prefix = tuple(islice(cycle(group[0].prefix_ids), prefix_tokens))
    return [ScoreRequest(group[0].episode_id, prefix, (), ids) for ids in chosen]
