"""Every request as one row of a batch, the whole of which goes through the model."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rewards.likelihood.logits import LogitHead, body, gold_likelihoods
from rewards.likelihood.regimes import LengthRegimes
from rewards.likelihood.rounding import same_but_for_rounding
from rewards.types import Likelihood, ScoreRequest

logger = logging.getLogger(__name__)

# How far off padding may make a row in lower precision than fp32, as a multiple of what rounding
# does. Over 22 families in bfloat16 on a CPU, 0.28 at most where padding is inert, 6.5 to 8.5 where
# it is not (doge); but less than 1 where rounding as well changes which tokens are attended to.
ROUNDINGS = 1.0

# N gold tokens of the batch, H hidden size, B rows, T tokens.


class WholeRows:
    """A model that reads whole rows, padded to the right where that changes nothing.

    A causal model never looks at what comes after, so no mask is needed; but some families choose,
    among all the tokens of a row, those that each token attends to. So in each regime, and again
    with every doubling of the length, rows are tried with padding and without. Where that differs,
    only rows of one length go through the model together.

    Raises:
        ValueError: the model's logits are not what `LogitHead` would make of its hidden states.
    """

    def __init__(self, model: PreTrainedModel, positions_per_chunk: int) -> None:
        self.model = model
        self.head = LogitHead(model)
        self.positions_per_chunk = positions_per_chunk
        self.regimes = LengthRegimes(model.config)
        # By regime: up to how many tokens it is known, and whether padding changes nothing.
        self._is_inert: dict[int, tuple[int, bool]] = {}

    def states_before_gold(self, batch: Sequence[ScoreRequest]) -> Tensor:
        """The hidden state before each gold token, one request after the other: [N, H].

        The requests are of one regime.
        """
        by_length: dict[int, list[int]] = {}
        for place, request in enumerate(batch):
            by_length.setdefault(request.num_tokens, []).append(place)
        if len(by_length) == 1 or self.padding_is_inert(batch):
            return torch.cat(self._states(batch, max(by_length)))
        states: dict[int, Tensor] = {}
        for length, places in by_length.items():
            alike = self._states([batch[place] for place in places], length)
            states.update(zip(places, alike, strict=True))
        return torch.cat([states[place] for place in range(len(batch))])

    def _states(self, batch: Sequence[ScoreRequest], num_tokens: int) -> list[Tensor]:
        """The states of each request's row, padded to so many tokens."""
        # Validity comes from the lengths, never from the padding token.
        rows = [r.token_ids + (0,) * (num_tokens - r.num_tokens) for r in batch]
        ids_BT = torch.tensor(rows, device=self.model.device)
        hidden_BTH = body(self.model)(input_ids=ids_BT, use_cache=False).last_hidden_state
        return [
            hidden_TH[r.num_tokens - len(r.gold_ids) - 1 : r.num_tokens - 1]
            for hidden_TH, r in zip(hidden_BTH, batch, strict=True)
        ]

    @torch.no_grad()
    def padding_is_inert(self, batch: Sequence[ScoreRequest]) -> bool:
        """Whether these rows, all of one regime, may be padded to the longest of them."""
        longest = max(batch, key=lambda r: r.num_tokens)
        regime = self.regimes.of(longest.num_tokens)
        known_tokens, is_inert = self._is_inert.get(regime, (0, True))
        if longest.num_tokens > known_tokens:
            tried = self.regimes.length_to_try(longest.num_tokens)
            # The shortest row gets most padding; the longest is most likely to mind it.
            shortest = min(batch, key=lambda r: r.num_tokens)
            is_inert = all(
                self._may_be_padded(row, (longest.num_tokens, tried)) for row in (shortest, longest)
            )
            self._is_inert[regime] = (tried, is_inert)
            if not is_inert:
                logger.info(
                    "scoring %s without padding, which changes what it computes at %d tokens",
                    type(self.model).__name__,
                    tried,
                )
        return is_inert

    def _may_be_padded(self, request: ScoreRequest, lengths: Sequence[int]) -> bool:
        """Whether padding to each of the lengths changes nothing."""

        def alone() -> list[Likelihood]:
            return self._likelihoods(request, request.num_tokens)

        is_same = same_but_for_rounding(self.model, alone(), alone, ROUNDINGS)
        longer = [n for n in dict.fromkeys(lengths) if n > request.num_tokens]
        return all(is_same(self._likelihoods(request, n)) for n in longer)

    def _likelihoods(self, request: ScoreRequest, num_tokens: int) -> list[Likelihood]:
        (before_NH,) = self._states([request], num_tokens)
        return gold_likelihoods(
            [request], lambda chunk: self.head(before_NH[chunk]), self.positions_per_chunk
        )
