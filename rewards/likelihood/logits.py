"""From hidden states to the likelihood of the gold tokens: at gold positions only, in chunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from rewards.likelihood.checks import finite_likelihood
from rewards.likelihood.head_product import head_product
from rewards.likelihood.precision import own_precision
from rewards.types import Likelihood, ScoreRequest

# N gold tokens, T tokens of a sequence, H hidden size, V vocabulary.

# Tokens of the sequence on which logits are compared with the model's own, and how far they may be
# apart relative to the largest: scaling in fp32 what the model scales in bf16 costs some rounding.
PROBE_TOKENS = 16
PROBE_TOLERANCE = {torch.float32: 1e-4}
PROBE_TOLERANCE_LOW_PRECISION = 0.02


def body(model: PreTrainedModel) -> torch.nn.Module:
    """The model without its head: from token ids to last hidden states."""
    base = model.base_model
    # The text half of a larger family may name as its base what it is not itself part of.
    return base if base is not model else model.get_submodule("model")


def gold_nll(
    logits_of: Callable[[slice], Tensor], gold_ids_N: Tensor, positions_per_chunk: int
) -> Tensor:
    """Negative log-likelihood of each gold token, in nats: shape [N], fp32, in CPU memory.

    `logits_of` makes the logits of a slice of the N positions in a tensor of its own, which is
    overwritten. At most `positions_per_chunk` × V of them live at a time, and no second copy: the
    log-sum-exp is taken in place, in fp32.
    """
    nlls: list[Tensor] = []
    for first in range(0, len(gold_ids_N), positions_per_chunk):
        chunk = slice(first, first + positions_per_chunk)
        logits_NV = logits_of(chunk).float()
        gold_N1 = logits_NV.gather(1, gold_ids_N[chunk, None].to(logits_NV.device))
        largest_N1 = logits_NV.amax(1, keepdim=True)
        sum_N1 = logits_NV.sub_(largest_N1).exp_().sum(1, keepdim=True)
        nlls.append((sum_N1.log_() + (largest_N1 - gold_N1))[:, 0])
    return torch.cat(nlls).cpu()


def gold_likelihoods(
    batch: Sequence[ScoreRequest],
    logits_of: Callable[[slice], Tensor],
    positions_per_chunk: int,
) -> list[Likelihood]:
    """Likelihoods of requests whose gold tokens, one request after the other, have these logits.

    Raises:
        ValueError: a likelihood is not finite; the message names the episode.
    """
    gold_N = torch.tensor([i for r in batch for i in r.gold_ids])
    nll_N = gold_nll(logits_of, gold_N, positions_per_chunk)
    per_request = nll_N.split([len(r.gold_ids) for r in batch])
    return [finite_likelihood(r, nll) for r, nll in zip(batch, per_request, strict=True)]


class LogitHead:
    """A model's way from hidden states to logits, as its own forward goes it, in fp32.

    Raises:
        ValueError: the model's logits are not what `family_logits` makes of its head's output.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._head = cast(torch.nn.Module, model.get_output_embeddings())
        self._config = model.config.get_text_config()
        self._probe(model)

    def __call__(self, hidden_NH: Tensor) -> Tensor:
        """Logits in a fresh tensor: [N, V], fp32."""
        return family_logits(head_product(self._head, hidden_NH), self._config)

    @torch.no_grad()
    def _probe(self, model: PreTrainedModel) -> None:
        """Refuses a family whose logits are made in a way that `family_logits` does not know."""
        ids_BT = (torch.arange(PROBE_TOKENS, device=model.device) % self._config.vocab_size)[None]
        with own_precision(model.device):
            own_TV = model(input_ids=ids_BT, use_cache=False).logits[0].float()
            hidden_TH = body(model)(input_ids=ids_BT, use_cache=False).last_hidden_state[0]
            apart = (self(hidden_TH) - own_TV).abs().max()
        tolerance = PROBE_TOLERANCE.get(model.dtype, PROBE_TOLERANCE_LOW_PRECISION)
        if apart > tolerance * own_TV.abs().max():
            raise ValueError(
                f"generator.model: {type(model).__name__} makes its logits in a way that the "
                f"scorer does not know (off by {apart:.2g}); choose a model of another family, or "
                "teach rewards.likelihood.logits.family_logits."
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
