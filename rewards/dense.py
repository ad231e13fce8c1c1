"""The plain scorer: every request is one row, the whole row goes through the model.

Logits are made at gold positions only and in fp32, so that precision is that of the model's body
and memory does not grow with vocabulary times length of context.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rewards.types import Likelihood, ScoreRequest

# B batch, T tokens, N gold tokens of the batch, H hidden size, V vocabulary.


def gold_nll(
    hidden_NH: Tensor,
    gold_ids_N: Tensor,
    project: Callable[[Tensor], Tensor],
    positions_per_chunk: int,
) -> Tensor:
    """Negative log-likelihood of each gold token, in nats: shape [N], fp32.

    `hidden_NH` holds the states *before* the gold tokens; `project` maps them to logits. The
    log-sum-exp is taken in fp32, chunk by chunk, so at most `positions_per_chunk` × V logits live.
    """
    chunks = [
        torch.nn.functional.cross_entropy(project(hidden).float(), ids, reduction="none")
        for hidden, ids in zip(
            hidden_NH.split(positions_per_chunk), gold_ids_N.split(positions_per_chunk), strict=True
        )
    ]
    return torch.cat(chunks)


def token_budget_batches(
    requests: Sequence[ScoreRequest], max_tokens: int
) -> Iterator[list[ScoreRequest]]:
    """Batches whose padded size stays within `max_tokens`; a longer request stands alone.

    Longest first: the batch most likely to run out of memory is the first one, not the last.
    """
    batch: list[ScoreRequest] = []
    for request in sorted(requests, key=lambda r: -r.num_tokens):
        if batch and batch[0].num_tokens * (len(batch) + 1) > max_tokens:
            yield batch
            batch = []
        batch.append(request)
    if batch:
        yield batch


class DenseScorer:
    """Exact likelihoods under a frozen causal language model.

    The model is put in evaluation mode and its parameters are frozen here. Equal requests are
    scored once, so an outcome that changes nothing scores exactly what the baseline scores.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        max_tokens_per_batch: int = 16_384,
        positions_per_chunk: int = 2_048,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.max_tokens_per_batch = max_tokens_per_batch
        self.positions_per_chunk = positions_per_chunk

    def score(self, requests: Sequence[ScoreRequest]) -> list[Likelihood]:
        """One likelihood per request, in order.

        Raises:
            ValueError: a request has no gold token, nothing before it, is longer than the model's
                context, or its likelihood is not finite; the message names the episode.
        """
        for request in requests:
            self._check(request)
        found: dict[ScoreRequest, Likelihood] = {}
        for batch in token_budget_batches(list(dict.fromkeys(requests)), self.max_tokens_per_batch):
            found.update(zip(batch, self._score_batch(batch), strict=True))
        return [found[request] for request in requests]

    def _check(self, request: ScoreRequest) -> None:
        longest = getattr(self.model.config, "max_position_embeddings", None)
        if not request.gold_ids:
            raise ValueError(f"episode {request.episode_id}: the gold chapter is empty.")
        if not request.prefix_ids and not request.guidance_ids:
            raise ValueError(
                f"episode {request.episode_id}: nothing stands before the gold chapter; "
                "its first token has no prediction."
            )
        if longest is not None and request.num_tokens > longest:
            raise ValueError(
                f"episode {request.episode_id}: {request.num_tokens} tokens exceed the generator's "
                f"context of {longest}; lower generator.max_context_tokens or max_gold_tokens."
            )

    @torch.inference_mode()
    def _score_batch(self, batch: Sequence[ScoreRequest]) -> list[Likelihood]:
        device = self.model.device
        rows = [torch.tensor(r.prefix_ids + r.guidance_ids + r.gold_ids) for r in batch]
        # Right padding: a causal model never looks at what comes after, so no mask is needed.
        # Validity comes from the lengths below, never from the padding token.
        ids_BT = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)
        hidden_BTH = self.model.base_model(input_ids=ids_BT, use_cache=False).last_hidden_state
        before_NH = torch.cat(
            [
                hidden_BTH[i, r.num_tokens - len(r.gold_ids) - 1 : r.num_tokens - 1]
                for i, r in enumerate(batch)
            ]
        )
        gold_N = torch.cat([torch.tensor(r.gold_ids) for r in batch]).to(device)
        nll_N = gold_nll(before_NH, gold_N, self._project, self.positions_per_chunk).cpu()
        per_request = nll_N.split([len(r.gold_ids) for r in batch])
        return [_likelihood(r, nll) for r, nll in zip(batch, per_request, strict=True)]

    def _project(self, hidden_NH: Tensor) -> Tensor:
        """Hidden states to logits: [N, V], with the scaling and capping that some families apply."""
        config = self.model.config.get_text_config()
        head = cast(torch.nn.Module, self.model.get_output_embeddings())
        logits_NV = head(hidden_NH).float()
        if (scale := getattr(config, "logits_scaling", None)) is not None:
            logits_NV = logits_NV / scale
        if (scale := getattr(config, "logit_scale", None)) is not None:
            logits_NV = logits_NV * scale
        if (cap := getattr(config, "final_logit_softcapping", None)) is not None:
            logits_NV = cap * torch.tanh(logits_NV / cap)
        return logits_NV


def _likelihood(request: ScoreRequest, nll_N: Tensor) -> Likelihood:
    total = nll_N.double().sum().item()
    if not math.isfinite(total):
        raise ValueError(
            f"episode {request.episode_id}: the generator gave a likelihood of {total}; "
            "load it in float32 or bfloat16, or check its weights."
        )
    return Likelihood(total, tuple(nll_N.tolist()))
