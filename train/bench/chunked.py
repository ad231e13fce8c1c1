"""TRL's way of scoring: padded rows, log-probabilities in tiles of tokens and vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from transformers import PreTrainedModel
from trl.kernels import ChunkedLogProbFunction

from rewards.likelihood.flops import ModelShape
from rewards.likelihood.logits import body
from rewards.types import Likelihood, ScoreRequest
from train.bench.contenders import likelihood, longest, padded, rows_in_order
from train.bench.workload import Workload

# Width of a tile as TRL's trainers set it.
VOCAB_TILE = 32_768


@dataclass(frozen=True)
class Chunked:
    """TRL's own function on the gold positions of padded rows.

    That is what its trainers do on a GPU. On a CPU they give the function all positions, which is
    slower: here it has the gold ones everywhere.
    """

    model: PreTrainedModel
    rows_per_batch: int
    name = "chunked"

    def prepare(self, workload: Workload) -> None: ...

    @torch.inference_mode()
    def score(self, workload: Workload) -> list[Likelihood]:
        batches = rows_in_order(workload.requests, self.rows_per_batch)
        return [found for batch in batches for found in self._score_batch(batch)]

    def _score_batch(self, batch: Sequence[ScoreRequest]) -> list[Likelihood]:
        ids_BT, mask_BT = padded(batch, self.model.device)
        hidden_BTH = body(self.model)(
            input_ids=ids_BT, attention_mask=mask_BT, use_cache=False
        ).last_hidden_state
        is_gold_BT = torch.zeros_like(mask_BT, dtype=torch.bool)
        for row_T, request in zip(is_gold_BT, batch, strict=True):
            row_T[request.num_tokens - len(request.gold_ids) : request.num_tokens] = True
        head = cast(torch.nn.Linear, self.model.get_output_embeddings())
        logprobs_N, *_ = ChunkedLogProbFunction.apply(
            hidden_BTH[:, :-1][is_gold_BT[:, 1:]],
            head.weight,
            head.bias,
            ids_BT[is_gold_BT],
            1.0,  # temperature
            VOCAB_TILE,
            None,  # soft-capping
            1.0,  # scale of the logits
            ("log_probs",),
        )
        per_request = (-logprobs_N).split([len(request.gold_ids) for request in batch])
        return [likelihood(nll_N) for nll_N in per_request]

    def model_flops(self, workload: Workload) -> int:
        shape = ModelShape.of(self.model)
        rows = [
            len(batch) * shape.body_flops(longest(batch))
            for batch in rows_in_order(workload.requests, self.rows_per_batch)
        ]
        return sum(rows) + shape.head_flops(sum(len(r.gold_ids) for r in workload.requests))
