"""The plain scorer: every request is one row, the whole row goes through the model.

Slow where requests share a prefix, and right for every family: the oracle of the fast scorer and
what it falls back to.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rewards.batches import TokenBudget, padded_batches, run_batches
from rewards.budget import find_max_tokens, tokens_per_call
from rewards.checks import check_plain, check_request, finite_likelihood
from rewards.logits import LogitHead, body, gold_nll
from rewards.regimes import LengthRegimes
from rewards.types import Likelihood, ScoreRequest

# B batch, T tokens, N gold tokens of the batch, H hidden size.


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
        self.head = LogitHead(model)
        self.positions_per_chunk = positions_per_chunk
        self.budget = TokenBudget(
            max_tokens_per_batch or find_max_tokens(model, positions_per_chunk)
        )
        self._regimes = LengthRegimes(model.config)

    def score(self, requests: Sequence[ScoreRequest]) -> list[Likelihood]:
        """One likelihood per request, in order.

        Raises:
            ValueError: a request has no gold token, nothing before it, is longer than the model's
                context, or its likelihood is not finite; the message names the episode.
        """
        for request in requests:
            check_plain(request)
            check_request(request, self.model.config)
        call = tokens_per_call(self.model.device)
        found: dict[ScoreRequest, Likelihood] = {}
        for alike in self._regimes.split(list(dict.fromkeys(requests)), lambda r: r.num_tokens):
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
        before_NH = states_before_gold(self.model, batch)
        return gold_likelihoods(batch, before_NH, self.head, self.positions_per_chunk)


def states_before_gold(model: PreTrainedModel, batch: Sequence[ScoreRequest]) -> Tensor:
    """The hidden state before each gold token, one request after the other: [N, H]."""
    rows = [torch.tensor(r.token_ids) for r in batch]
    # Right padding: a causal model never looks at what comes after, so no mask is needed.
    # Validity comes from the lengths below, never from the padding token.
    ids_BT = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(model.device)
    hidden_BTH = body(model)(input_ids=ids_BT, use_cache=False).last_hidden_state
    return torch.cat(
        [
            hidden_BTH[i, r.num_tokens - len(r.gold_ids) - 1 : r.num_tokens - 1]
            for i, r in enumerate(batch)
        ]
    )


def gold_likelihoods(
    batch: Sequence[ScoreRequest], before_NH: Tensor, head: LogitHead, positions_per_chunk: int
) -> list[Likelihood]:
    """Likelihoods from the states before the gold tokens of all requests."""
    gold_N = torch.tensor([i for r in batch for i in r.gold_ids], device=before_NH.device)
    nll_N = gold_nll(lambda chunk: head(before_NH[chunk]), gold_N, positions_per_chunk).cpu()
    per_request = nll_N.split([len(r.gold_ids) for r in batch])
    return [finite_likelihood(r, nll) for r, nll in zip(batch, per_request, strict=True)]
