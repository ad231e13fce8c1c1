"""Whether a model goes on with a book by heart."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from envs.tokens import end_id, pad_id
from envs.types import Episode
from rewards.encode import GeneratorEncoder
from rewards.monitors.copying import seen_share
from rewards.types import TokenIds
from train.evaluation.contestants import Contestant
from train.journal import Journal
from train.progress import Did
from train.schema import EvaluationConfig
from train.statistics import Interval, clustered_bootstrap

BEGINNING_TOKENS = 64
WRITTEN_TOKENS = 64


def trigram_recall(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    chapters: Sequence[TokenIds],
    batch_size: int,
) -> list[float | None]:
    """Share of the word trigrams of each chapter's continuation that the model writes, in [0, 1].

    It is given the first 64 tokens of the chapter, or half of a shorter one, and nothing else, and
    goes on greedily for as many tokens as are compared. A model that has not read the book writes
    common phrases at most. None where there are fewer than three words to compare with.
    """
    found: list[float | None] = []
    for start in range(0, len(chapters), batch_size):
        some = chapters[start : start + batch_size]
        beginnings = [ids[: min(BEGINNING_TOKENS, len(ids) // 2)] for ids in some]
        written = _continued(model, tokenizer, beginnings)
        for ids, beginning, own in zip(some, beginnings, written, strict=True):
            expected = ids[len(beginning) : len(beginning) + WRITTEN_TOKENS]
            # As many tokens, or the last word would go on.
            text = str(tokenizer.decode(own[: len(expected)], skip_special_tokens=True))
            found.append(seen_share(str(tokenizer.decode(list(expected))), text))
    return found


def _continued(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, beginnings: Sequence[TokenIds]
) -> list[list[int]]:
    longest = max(len(ids) for ids in beginnings)
    pad = pad_id(tokenizer)
    rows = [[pad] * (longest - len(ids)) + list(ids) for ids in beginnings]
    mask = [[0] * (longest - len(ids)) + [1] * len(ids) for ids in beginnings]
    config = GenerationConfig(
        max_new_tokens=WRITTEN_TOKENS,
        do_sample=False,
        pad_token_id=pad,
        eos_token_id=end_id(tokenizer),
    )
    with torch.no_grad():
        output = cast(Any, model).generate(
            input_ids=torch.tensor(rows, device=model.device),
            attention_mask=torch.tensor(mask, device=model.device),
            generation_config=config,
        )
    return output[:, longest:].tolist()


def by_heart(
    episodes: Sequence[Episode],
    encoder: GeneratorEncoder,
    generator: Contestant[tuple[PreTrainedModel, PreTrainedTokenizerBase]],
    journal: Journal,
    config: EvaluationConfig,
    did: Did,
) -> Interval | None:
    """Mean share of what follows the beginning of a chapter that the generator knows by heart.

    `did` is told how many episodes were looked at, and in how many seconds.
    """
    found: list[tuple[str, float]] = []
    for start in range(0, len(episodes), config.batch_size):
        some = episodes[start : start + config.batch_size]
        key = {"recall": generator.digest, "episodes": [e.episode_id for e in some]}
        shares = journal.get(key)
        seconds = None
        if shares is None:
            started = time.perf_counter()
            golds = [encoder.request(e).gold_ids for e in some]
            shares = trigram_recall(*generator.load(), golds, config.batch_size)
            seconds = time.perf_counter() - started
            journal.keep(key, shares)
        did(len(some), seconds)
        pairs = zip(some, shares, strict=True)
        found += [(e.book_id, share) for e, share in pairs if share is not None]
    if not found:
        return None
    books, known = zip(*found, strict=True)
    return clustered_bootstrap(known, books, config.bootstrap_samples)
