"""Which way to share a prefix is right for a model: found by trial against the dense scorer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import torch
from transformers import PreTrainedModel

from rewards.budget import tokens_per_call
from rewards.dense import DenseScorer
from rewards.prefix import Prefix
from rewards.rounding import largest_difference, rms_difference, rounded_otherwise
from rewards.suffixes import ExpandedCache, MergedAttention, SuffixPath
from rewards.types import Likelihood, ScoreRequest

logger = logging.getLogger(__name__)

# Nats by which a token may cost more or less than under the dense scorer, in fp32.
TOLERANCE_FP32 = 1e-4
# In lower precision: how far off a path may be (root of the mean square), as a multiple of what the
# dense scorer is off when its input is rounded otherwise. Over 20 families in bfloat16, right paths
# were off by at most 0.8 of that, but twice that where rounding sends tokens to other experts; a
# prefix that lacks a token, by 3.4 and more wherever the family can tell.
ROUNDINGS = 3.0


class Scorer(Protocol):
    """What is tried: a scorer that can be told which path to take."""

    model: PreTrainedModel
    dense: DenseScorer

    def prefix(self, request: ScoreRequest) -> Prefix: ...

    def score_along(
        self, path: SuffixPath, prefix: Prefix, group: Sequence[ScoreRequest]
    ) -> dict[ScoreRequest, Likelihood]: ...


def choose_path(
    scorer: Scorer, group: Sequence[ScoreRequest], twin_of: Callable[[], Scorer | None]
) -> SuffixPath | None:
    """The fastest path that agrees with the dense scorer on requests of this group; None for none.

    In lower precision, rounding could hide that a state is lost, so a path has to agree in fp32
    first: `twin_of` makes a scorer of a copy of the model, where memory allows one.
    """
    sample = _sample(group)
    model = scorer.model
    paths: list[SuffixPath] = [MergedAttention(), ExpandedCache(tokens_per_call(model.device))]
    refusals: list[str] = []
    if model.dtype != torch.float32 and (twin := twin_of()) is not None:
        paths = list(_agreeing(twin, paths, sample, refusals))
        del twin
    chosen = next(_agreeing(scorer, paths, sample, refusals), None)
    by = "every request on its own" if chosen is None else chosen.name
    logger.info("scoring %s by %s%s", type(model).__name__, by, "".join(refusals))
    return chosen


def _agreeing(
    scorer: Scorer,
    paths: Sequence[SuffixPath],
    sample: Sequence[ScoreRequest],
    refusals: list[str],
) -> Iterator[SuffixPath]:
    """The paths that give what the dense scorer gives, each tried when it is asked for."""
    expected = scorer.dense.score(sample)
    is_right = _judge(scorer, sample, expected)
    for path in paths:
        # Whatever a family's code makes of being called like this: there is another path.
        try:
            scored = scorer.score_along(path, scorer.prefix(sample[0]), sample)
        except Exception as error:
            refusals.append(f"; not by {path.name}: {error or type(error).__name__}")
            continue
        found = [scored[r] for r in sample]
        if is_right(found):
            yield path
        else:
            apart = largest_difference(found, expected)
            refusals.append(f"; not by {path.name}: off by up to {apart:.2g} nats a token")


def _judge(
    scorer: Scorer, sample: Sequence[ScoreRequest], expected: Sequence[Likelihood]
) -> Callable[[Sequence[Likelihood]], bool]:
    """Tells whether likelihoods of the sample are the dense ones but for rounding."""
    if scorer.model.dtype == torch.float32:
        return lambda found: largest_difference(found, expected) <= TOLERANCE_FP32
    with rounded_otherwise(scorer.model):
        allowed = ROUNDINGS * rms_difference(scorer.dense.score(sample), expected)
    return lambda found: rms_difference(found, expected) <= allowed


def _sample(group: Sequence[ScoreRequest]) -> list[ScoreRequest]:
    """Requests of the group on which a wrong path shows.

    All that follows the prefix is taken as gold, since a wrong state fades with the distance from
    it; beginnings and lengths differ, so that padding and packing are tried as well.
    """
    suffixes = {r.guidance_ids + r.gold_ids: r.gold_ids for r in group}
    longest = max(suffixes, key=len)
    half = longest[: (len(longest) + 1) // 2]
    chosen = dict.fromkeys([longest, suffixes[longest], min(suffixes, key=len), half])
    return [replace(group[0], guidance_ids=(), gold_ids=ids) for ids in chosen]
