"""This project's scorer among the contenders: cold, and as it is from the second epoch on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from transformers import PreTrainedModel

from rewards.likelihood.flops import ModelShape
from rewards.prefix.prefix_store import PrefixStore
from rewards.prefix.shared_prefix import SharedPrefixScorer
from rewards.stores.likelihood_store import MemoryLikelihoodStore
from rewards.types import Likelihood, ScoreRequest
from train.bench.workload import Workload

# Room for every prefix of a benchmark.
PREFIX_STORE_BYTES = 8 * 2**30


class OursCold:
    """Nothing is known of an episode: its prefix is read and its baseline scored."""

    name = "ours_cold"

    def __init__(self, model: PreTrainedModel) -> None:
        self._scorer = SharedPrefixScorer(model)
        self._shape = ModelShape.of(model)

    def prepare(self, workload: Workload) -> None: ...

    def score(self, workload: Workload) -> list[Likelihood]:
        # As a run asks: so no plan's last digits depend on whether its baseline is known.
        baselines = [replace(baseline, by_itself=True) for baseline in workload.baselines]
        return self._scorer.score(workload.attempts + baselines)

    def model_flops(self, workload: Workload) -> int:
        prefixes = sum(self._shape.body_flops(len(group.prefix_ids)) for group in workload.groups)
        return prefixes + suffix_flops(self._shape, workload.requests)


class OursWarm:
    """The baseline and the model's state after the prefix are in their stores."""

    name = "ours_warm"

    def __init__(self, model: PreTrainedModel) -> None:
        self._prefixes = PrefixStore(PREFIX_STORE_BYTES)
        self._baselines = MemoryLikelihoodStore()
        self._scorer = SharedPrefixScorer(model, prefixes=self._prefixes)
        self._shape = ModelShape.of(model)

    def prepare(self, workload: Workload) -> None:
        for group in workload.groups:
            if not self._baselines.lookup([group.baseline]):
                # With an attempt, as a prefix that only one request has is not kept.
                baseline, _ = self._scorer.score([group.baseline, group.attempts[0]])
                self._baselines.add({group.baseline: baseline})

    def score(self, workload: Workload) -> list[Likelihood]:
        stored = self._baselines.lookup(workload.baselines)
        return self._scorer.score(workload.attempts) + [stored[b] for b in workload.baselines]

    def model_flops(self, workload: Workload) -> int:
        return suffix_flops(self._shape, workload.attempts)


def suffix_flops(shape: ModelShape, requests: Sequence[ScoreRequest]) -> int:
    """What follows the prefixes, without padding, and the head at gold positions."""
    return sum(
        shape.body_flops(r.num_tokens - len(r.prefix_ids), len(r.prefix_ids))
        + shape.head_flops(len(r.gold_ids))
        for r in requests
    )
