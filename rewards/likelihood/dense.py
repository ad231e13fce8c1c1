"""The plain scorer: every request is one row, the whole row goes through the model.

Slow where requests share a prefix, and right for every family: the oracle of the fast scorer and
what it falls back to.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from rewards.likelihood.back_off import TokenBudget, run_batches
from rewards.likelihood.batches import padded_batches
from rewards.likelihood.budget import find_max_tokens, tokens_per_call
from rewards.likelihood.checks import check_plain, check_request
from rewards.likelihood.logits import gold_likelihoods
from rewards.likelihood.precision import own_precision
from rewards.likelihood.whole_rows import WholeRows
from rewards.types import Likelihood, ScoreRequest


class DenseScorer:
    """Exact likelihoods under a frozen causal language model.

    The model is put in evaluation mode and its parameters are frozen here. Equal requests are
    scored once, so an outcome that changes nothing scores exactly what the baseline scores.
    `max_tokens_per_batch` is found from the device where it is None.

    Raises:
        ValueError: the model's logits are not what this scorer would make of its hidden states.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        max_tokens_per_batch: int | None = None,
        positions_per_chunk: int = 256,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.rows = WholeRows(model, positions_per_chunk)
        self.budget = TokenBudget(
            max_tokens_per_batch or find_max_tokens(model, positions_per_chunk)
        )

    def score(self, requests: Sequence[ScoreRequest]) -> list[Likelihood]:
        """One likelihood per request, in order.

        Raises:
            ValueError: a request has no gold token, nothing before it, a token that the model does
                not know, is longer than the model's context, or its likelihood is not finite; the
                message names the episode.
        """
        for request in requests:
            check_plain(request)
            check_request(request, self.model.config)
        call = tokens_per_call(self.model.device)
        found: dict[ScoreRequest, Likelihood] = {}
        with own_precision(self.model.device):
            for alike in self.rows.regimes.split(
                list(dict.fromkeys(requests)), lambda r: r.num_tokens
            ):
                found |= run_batches(
                    alike,
                    lambda r: r.num_tokens,
                    lambda lengths, most: padded_batches(lengths, most, call),
                    self._score_batch,
                    self.budget,
                )
        return [found[request] for request in requests]

    # Not in inference mode, here and elsewhere: FSDP2 cannot gather weights into tensors of that.
    @torch.no_grad()
    def _score_batch(self, batch: Sequence[ScoreRequest]) -> list[Likelihood]:
        before_NH = self.rows.states_before_gold(batch)
        return gold_likelihoods(
            batch, lambda chunk: self.rows.head(before_NH[chunk]), self.rows.positions_per_chunk
        )
