"""What a merge is judged by: the cost of gold chapters per token, each chapter counting alike."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from statistics import fmean

from torch import Tensor
from torch.func import functional_call
from transformers import PreTrainedModel

from rewards.likelihood.dense import DenseScorer
from rewards.types import ScoreRequest
from train.merging.weights import Weights, put_weights
from train.supervised import Batcher, Sample, weighted_nll


class MergeLoss:
    """Mean over chapters of the negative log-likelihood per gold token, in nats, at any weights.

    The weights are those of one architecture; they are put into a copy of `model`.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._scratch = copy.deepcopy(model)
        self._scorer = DenseScorer(self._scratch)

    def __call__(self, weights: Weights, requests: Sequence[ScoreRequest]) -> float:
        put_weights(self._scratch, weights)
        return mean_nll(self._scorer, requests)

    def gradient_to(self, weights: Weights, requests: Sequence[ScoreRequest]) -> Tensor:
        """The same as a scalar whose gradient flows to the weights, and to what they are made of.

        Source of the way: a forward pass of which the weights are an argument.
        """
        return batch_nll(self._scratch, requests, weights)


def mean_nll(scorer: DenseScorer, requests: Sequence[ScoreRequest]) -> float:
    """Mean over chapters of the negative log-likelihood per gold token, in nats."""
    return fmean(found.nll / found.num_tokens for found in scorer.score(requests))


def batch_nll(
    model: PreTrainedModel, requests: Sequence[ScoreRequest], weights: Weights | None = None
) -> Tensor:
    """The same in one forward pass, as a scalar with a gradient; at other weights where given."""
    samples = [
        Sample(
            request.prefix_ids + request.guidance_ids,
            request.gold_ids,
            # Chapters weigh alike, however long they are.
            (1 / len(request.gold_ids),) * len(request.gold_ids),
        )
        for request in requests
    ]
    # Padding is never looked at, and has no weight: any token will do.
    batch = Batcher(0, prompt_loss_weight=0.0)(samples)
    batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
    given = {"input_ids": batch["input_ids"], "use_cache": False}
    if weights is None:
        logits_BTV = model(**given).logits
    else:
        logits_BTV = functional_call(model, dict(weights), (), given).logits
    return weighted_nll(logits_BTV, batch["input_ids"], batch["loss_weights"])
