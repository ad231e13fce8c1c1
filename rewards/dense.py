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
from transformers import PretrainedConfig, PreTrainedModel

from rewards.types import Likelihood, ScoreRequest

# B batch, T tokens, N gold tokens of the batch, H hidden size, V vocabulary.

# Tokens of the sequence on which logits are compared with the model's own, and how far they may be
# apart relative to the largest: scaling in fp32 what the model scales in bf16 costs some rounding.
PROBE_TOKENS = 16
PROBE_TOLERANCE = {torch.float32: 1e-4}
PROBE_TOLERANCE_LOW_PRECISION = 0.02


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

    Raises:
        ValueError: the model's logits are not what this scorer would make of its hidden states.
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
        self._probe()

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
        config = self.model.config.get_text_config()
        longest = getattr(config, "max_position_embeddings", None)
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
        hidden_BTH = self._hidden(ids_BT)
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

    def _hidden(self, ids_BT: Tensor) -> Tensor:
        return self.model.base_model(input_ids=ids_BT, use_cache=False).last_hidden_state

    def _project(self, hidden_NH: Tensor) -> Tensor:
        """Hidden states to logits: [N, V], fp32."""
        head = cast(torch.nn.Module, self.model.get_output_embeddings())
        return family_logits(head(hidden_NH).float(), self.model.config.get_text_config())

    @torch.inference_mode()
    def _probe(self) -> None:
        """Refuses a family whose logits are made in a way that `family_logits` does not know."""
        config = self.model.config.get_text_config()
        ids_BT = (torch.arange(PROBE_TOKENS, device=self.model.device) % config.vocab_size)[None]
        own_TV = self.model(input_ids=ids_BT, use_cache=False).logits[0].float()
        apart = (self._project(self._hidden(ids_BT)[0]) - own_TV).abs().max()
        tolerance = PROBE_TOLERANCE.get(self.model.dtype, PROBE_TOLERANCE_LOW_PRECISION)
        if apart > tolerance * own_TV.abs().max():
            raise ValueError(
                f"generator.model: {type(self.model).__name__} makes its logits in a way that the "
                f"scorer does not know (off by {apart:.2g}); choose a model of another family, or "
                "teach rewards.dense.family_logits."
            )


def family_logits(logits_NV: Tensor, config: PretrainedConfig) -> Tensor:
    """What a family does to the output of its head, by the config field that states it."""
    if (scale := getattr(config, "logits_scaling", None)) is not None:
        # HyperCLOVA X multiplies by the field of that name; Granite and all others divide by it.
        multiplies = config.model_type.startswith("hyperclovax")
        logits_NV = logits_NV * scale if multiplies else logits_NV / scale
    for factor in ("logit_scale", "lm_head_multiplier", "output_multiplier"):
        if (scale := getattr(config, factor, None)) is not None:
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
