"""How a writer begins a chapter, and how sure it is of that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from statistics import fmean
from typing import Any, cast

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from envs.tokens import end_id, pad_id
from rewards.types import TokenIds
from train.analysis.rouge import rouge_l
from train.cache import digest
from train.ensembles.worth import padded


@dataclass(frozen=True)
class Draft:
    """The beginning of a chapter, and the mean entropy, in nats, of the tokens as they were drawn.

    An end of the text is among them.
    """

    text: str
    num_tokens: int
    entropy: float


@torch.no_grad()
def drafts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[TokenIds],
    max_tokens: int,
    *,
    sampled: bool,
    seed: int,
    batch_size: int,
) -> list[Draft]:
    """What the writer says behind each row: at temperature 1, or its likeliest words.

    Sampled drafts of a row follow from the row, `seed` and how many are drawn of it in a row, and
    from nothing else: neighbours that are equal are drawn together, and with no others.
    """
    found: list[Draft] = []
    config = GenerationConfig(
        max_new_tokens=max_tokens,
        do_sample=sampled,
        top_k=0 if sampled else None,
        pad_token_id=pad_id(tokenizer),
        eos_token_id=end_id(tokenizer),
        output_logits=True,
        return_dict_in_generate=True,
    )
    with torch.random.fork_rng():
        for batch in _alike(rows) if sampled else _batches(rows, batch_size):
            torch.manual_seed(int(digest([seed, batch])[:12], 16))
            ids_BL, mask_BL = padded(batch, model.device, pad_id(tokenizer), "left")
            # Every causal model can generate, but transformers' type for any model has no say.
            output = cast(Any, model).generate(
                ids_BL,
                attention_mask=mask_BL,
                generation_config=config,
            )
            said_BT = output.sequences[:, ids_BL.shape[1] :]
            logprobs_BTV = torch.stack(output.logits, dim=1).float().log_softmax(-1)
            entropy_BT = torch.special.entr(logprobs_BTV.exp()).sum(-1)
            found += [_draft(tokenizer, said_BT[i], entropy_BT[i]) for i in range(len(said_BT))]
    return found


def disagreement(texts: Sequence[str]) -> float:
    """1 less the mean ROUGE-L F1 of all pairs of texts: 0 where all say the same."""
    return 1 - fmean(rouge_l(one, other).f1 for one, other in combinations(texts, 2))


def _draft(tokenizer: PreTrainedTokenizerBase, said_T: Tensor, entropy_T: Tensor) -> Draft:
    ids = said_T.tolist()
    end = end_id(tokenizer)
    length = ids.index(end) + 1 if end in ids else len(ids)
    text = str(tokenizer.decode(ids[:length], skip_special_tokens=True))
    return Draft(text, length, entropy_T[:length].mean().item())


def _alike(rows: Sequence[TokenIds]) -> list[Sequence[TokenIds]]:
    """Runs of equal rows."""
    return [list(run) for _, run in groupby(rows)]


def _batches(rows: Sequence[TokenIds], size: int) -> list[Sequence[TokenIds]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
