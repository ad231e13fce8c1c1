"""How sure a policy is of what it writes."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import cast

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from envs.tokens import chat_text, end_id
from envs.types import Rollout

# A answer tokens, V vocabulary.

POSITIONS_PER_CHUNK = 256


def entropies(logits_AV: Tensor) -> Tensor:
    """Entropy of each row's distribution, in nats: shape [A], fp32."""
    found = [
        torch.distributions.Categorical(logits=chunk_AV.float()).entropy()
        for chunk_AV in logits_AV.split(POSITIONS_PER_CHUNK)
    ]
    return torch.cat(found)


@torch.no_grad()
def mean_answer_entropy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rollouts: Sequence[Rollout]
) -> float:
    """Mean entropy of the policy, at temperature 1, before each token of the answers, in nats.

    Every answer counts alike. Its tokens are those that the tokenizer makes of it, with the end.
    """
    was_training = model.training
    model.eval()
    try:
        return fmean(_answer_entropy(model, tokenizer, rollout) for rollout in rollouts)
    finally:
        model.train(was_training)


def _answer_entropy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rollout: Rollout
) -> float:
    prompt_ids = _ids(tokenizer, chat_text(tokenizer, rollout.prompt))
    end = [] if rollout.reply.truncated else [end_id(tokenizer)]
    answer_ids = _ids(tokenizer, rollout.reply.text) + end
    if not answer_ids:
        return 0.0
    ids = torch.tensor([prompt_ids + answer_ids], device=model.device)
    # What stands before a token predicts it; the logits after the last one predict nothing here.
    logits_AV = model(input_ids=ids, use_cache=False, logits_to_keep=len(answer_ids) + 1).logits
    return float(entropies(logits_AV[0, :-1]).mean())


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return cast(list[int], tokenizer(text, add_special_tokens=False)["input_ids"])
