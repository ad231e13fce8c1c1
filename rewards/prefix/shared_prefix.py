"""The fast scorer: what requests share is read once, and only what follows it per request."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from accelerate.utils.memory import clear_device_cache
from torch import Tensor
from transformers import PreTrainedModel

from rewards.likelihood.back_off import DoesNotFit, run_batches
from rewards.likelihood.budget import tokens_per_call
from rewards.likelihood.checks import check_plain, check_request
from rewards.likelihood.dense import DenseScorer
from rewards.likelihood.logits import gold_likelihoods
from rewards.likelihood.oracle import fp32_copy
from rewards.likelihood.precision import own_precision
from rewards.likelihood.regimes import LengthRegimes, Reach
from rewards.prefix.prefix import Prefix, prefill
from rewards.prefix.prefix_store import PrefixStore
from rewards.prefix.suffixes import SuffixPath
from rewards.prefix.trial import choose_path
from rewards.types import Likelihood, ScoreRequest, TokenIds


class SharedPrefixScorer:
    """Exact likelihoods of requests in groups of one prefix, which the model reads once a group.

    How suffixes see their prefix is chosen by trial: the first group is scored by the fastest path
    and, in part, by the dense scorer; a path that fails or disagrees is given up for the next, and
    the dense scorer is the last. The choice holds as far as it was tried, which is twice as far as
    the group asks for within its length regimes, and is made anew beyond. `paths` tells what was
    chosen, and for which groups.

    `prefixes` keeps what was prefilled, as far as its budget goes; without it, a prefix is
    forgotten when its group is done.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        max_tokens_per_batch: int | None = None,
        positions_per_chunk: int = 256,
        prefixes: PrefixStore | None = None,
    ) -> None:
        self.model = model
        self.dense = DenseScorer(model, max_tokens_per_batch, positions_per_chunk)
        self.prefixes = prefixes
        self.paths: dict[Reach, SuffixPath | None] = {}
        self._regimes = LengthRegimes(model.config)

    def score(self, requests: Sequence[ScoreRequest]) -> list[Likelihood]:
        """One likelihood per request, in order; requests of one prefix need not be neighbours.

        Raises:
            ValueError: a request has no gold token, nothing before it, is longer than the model's
                context or than memory, or its likelihood is not finite; the message names the
                episode.
        """
        groups: dict[TokenIds, list[ScoreRequest]] = {}
        for request in dict.fromkeys(requests):
            check_plain(request)
            check_request(request, self.model.config)
            groups.setdefault(request.prefix_ids, []).append(request)
        found: dict[ScoreRequest, Likelihood] = {}
        alone: list[ScoreRequest] = []
        with own_precision(self.model.device):
            for group in groups.values():
                # Where a group lies on both sides of a length, x is read once for each side.
                for alike in self._regimes.split(group, lambda r: r.num_tokens):
                    if (scored := self._score_group(alike)) is None:
                        alone += alike
                    else:
                        found |= scored
        found |= zip(alone, self.dense.score(alone), strict=True)
        return [found[request] for request in requests]

    def _score_group(self, group: Sequence[ScoreRequest]) -> dict[ScoreRequest, Likelihood] | None:
        """Scores requests of one prefix and one regime; None where the dense scorer should.

        Those that are scored by themselves have no say in how, where there are others.
        """
        deciding = [r for r in group if not r.by_itself] or group
        if not self._pays(deciding) or (path := self._path(deciding)) is None:
            return None
        return self.score_along(path, self.prefix(group[0]), group)

    def _path(self, group: Sequence[ScoreRequest]) -> SuffixPath | None:
        """How the group's suffixes are to see their prefix; None for the dense scorer."""
        longest = max(r.num_tokens for r in group)
        reach = self._regimes.reach(len(group[0].prefix_ids), longest)
        known = next((tried for tried in self.paths if tried.covers(reach)), None)
        if known is not None:
            return self.paths[known]
        budget = self.dense.budget.max_tokens
        # Where memory is too short for a trial at twice the length, the choice holds less far.
        for tried in (self._regimes.reach_to_try(reach), reach):
            try:
                self.paths[tried] = choose_path(self, group, tried.prefix_tokens, self._fp32_twin)
                return self.paths[tried]
            except DoesNotFit:
                # What groups will ask for is less than what the trial asked for.
                self.dense.budget.max_tokens = budget
            clear_device_cache(garbage_collection=True)
        self.paths[reach] = None
        return None

    def _pays(self, group: Sequence[ScoreRequest]) -> bool:
        """Whether sharing saves more than the calls that it adds, all counted in tokens."""
        prefix_ids = group[0].prefix_ids
        if not prefix_ids:
            return False
        is_kept = self.prefixes is not None and prefix_ids in self.prefixes
        saved = len(prefix_ids) * (len(group) if is_kept else len(group) - 1)
        # One call for the prefix and one for what follows, where dense rows of many groups share
        # theirs; a group too large for one call is large enough for calls not to matter.
        calls = 1 if is_kept else 2
        return saved > calls * tokens_per_call(self.model.device)

    def prefix(self, request: ScoreRequest) -> Prefix:
        """The state behind the request's prefix, kept or made now."""
        kept = None if self.prefixes is None else self.prefixes.get(request.prefix_ids)
        if kept is not None:
            return kept
        prefix = run_batches(
            [request],
            lambda r: len(r.prefix_ids),
            lambda lengths, _: [[i] for i in range(len(lengths))],
            lambda batch: [prefill(self.model, r.prefix_ids) for r in batch],
            self.dense.budget,
        )[request]
        if self.prefixes is not None:
            self.prefixes.put(request.prefix_ids, prefix)
        return prefix

    def score_along(
        self, path: SuffixPath, prefix: Prefix, group: Sequence[ScoreRequest]
    ) -> dict[ScoreRequest, Likelihood]:
        """Scores requests of that prefix by that path."""
        return run_batches(
            group,
            lambda r: path.row_tokens(prefix.num_tokens, r.num_tokens - prefix.num_tokens),
            path.form_batches,
            lambda batch: self._score_batch(path, prefix, batch),
            self.dense.budget,
        )

    def _fp32_twin(self) -> SharedPrefixScorer | None:
        twin = fp32_copy(self.model)
        return None if twin is None else SharedPrefixScorer(twin, self.dense.budget.max_tokens)

    @torch.no_grad()
    def _score_batch(
        self, path: SuffixPath, prefix: Prefix, batch: Sequence[ScoreRequest]
    ) -> list[Likelihood]:
        suffixes = [r.guidance_ids + r.gold_ids for r in batch]
        states = path.states(self.model, prefix, suffixes)
        before_NH = torch.cat(
            [_before_gold(prefix, hidden, r) for hidden, r in zip(states, batch, strict=True)]
        )
        rows = self.dense.rows
        return gold_likelihoods(
            batch, lambda chunk: rows.head(before_NH[chunk]), rows.positions_per_chunk
        )


def _before_gold(prefix: Prefix, hidden_TH: Tensor, request: ScoreRequest) -> Tensor:
    """The state before each gold token; of the first, it may be the prefix's last."""
    first = len(request.guidance_ids)
    if first:
        return hidden_TH[first - 1 : -1]
    return torch.cat([prefix.last_hidden_1H, hidden_TH[:-1]])
