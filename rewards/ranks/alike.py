"""Scoring what all ranks ask alike, where requests cannot travel: each rank does a part of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from rewards.ranks.exchange import Exchange, LostRank
from rewards.ranks.packing import (
    pack_error,
    pack_likelihoods,
    raise_first_error,
    unpack_likelihoods,
)
from rewards.types import Likelihood, LikelihoodScorer, ScoreRequest


class AlikeScorer:
    """Scores the same requests, in the same order, on all ranks, each of them once.

    `score` is collective. The requests are dealt out by their lengths, and only likelihoods travel,
    so they may be of mixtures, which have no form as bytes. Where the ranks do not ask alike, each
    scores its own. An error on one rank is raised on all.
    """

    def __init__(self, scorer: LikelihoodScorer, exchange: Exchange) -> None:
        self.scorer = scorer
        self.exchange = exchange

    def score(self, requests: Sequence[ScoreRequest]) -> list[Likelihood]:
        """One likelihood per request, in order.

        Raises:
            ValueError, OSError, RuntimeError: what the scorer of any rank raised, by its family.
            LostRank: a rank died or does not answer.
        """
        if not self._ask_alike(requests):
            return self.scorer.score(requests)
        # Longest first, so that what is dealt last, and unevenly, is short.
        dealt = sorted(dict.fromkeys(requests), key=lambda request: -request.num_tokens)
        count = self.exchange.num_ranks
        replies = self.exchange.swap([self._answer(dealt[self.exchange.rank :: count])] * count)
        raise_first_error(replies)
        found: dict[ScoreRequest, Likelihood] = {}
        for rank, reply in enumerate(replies):
            part = dealt[rank::count]
            scored = unpack_likelihoods(reply, [len(request.gold_ids) for request in part])
            found |= zip(part, scored, strict=True)
        return [found[request] for request in requests]

    def _answer(self, part: Sequence[ScoreRequest]) -> torch.Tensor:
        try:
            return pack_likelihoods(self.scorer.score(part))
        except LostRank:
            raise
        except Exception as error:
            # Whatever it is, the others wait for an answer.
            return pack_error(error)

    def _ask_alike(self, requests: Sequence[ScoreRequest]) -> bool:
        content = b"".join(request.digest for request in requests)
        own = torch.frombuffer(bytearray(hashlib.sha256(content).digest()), dtype=torch.uint8)
        return all(torch.equal(own, other) for other in self.exchange.broadcast_all(own))
