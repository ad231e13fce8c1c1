"""Where in the chapter a plan helps: the gain of every gold token, for maps and for reports."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from rewards.encode import GeneratorEncoder
from train.analysis.rows import Attempt, Evaluation
from train.files import write_text

FILE = "token_gains.jsonl"
DIGITS = 4
# What decoders put in place of half a character.
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def write_token_gains(evaluation: Evaluation, encoder: GeneratorEncoder, folder: Path) -> None:
    """A line for each attempt of an agent: its plan, the gold tokens as text, and their gains.

    `nats_without` is what a token costs without the plan, `gain` by how many nats it costs less
    with it. Joined, the tokens are the chapter as the generator was given it. `written` is the
    chapter that the generator wrote with the plan, `written_without_plan` the one without, where it
    wrote them.
    """
    without = {
        attempt.episode.episode_id: attempt.chapter
        for row in evaluation.rows
        if row.name == "empty_plan"
        for attempt in row.attempts
    }
    lines = []
    for row in evaluation.rows:
        for attempt in row.attempts if row.decoding is not None else ():
            line = {"row": row.label, **token_gains(attempt, encoder)}
            if attempt.chapter is not None:
                line["written"] = attempt.chapter
                line["written_without_plan"] = without.get(attempt.episode.episode_id)
            lines.append(json.dumps(line, ensure_ascii=False))
    write_text(folder / FILE, "".join(f"{line}\n" for line in lines))


def token_gains(attempt: Attempt, encoder: GeneratorEncoder) -> dict[str, Any]:
    gold_ids = encoder.request(attempt.episode).gold_ids
    return {
        "episode_id": attempt.episode.episode_id,
        "improvement": attempt.improvement,
        "plan": attempt.plan,
        "answer": attempt.answer,
        "context": [
            {"heading": s.heading, "text": s.text}
            for s in attempt.episode.context.known_before().sections
        ],
        "tokens": token_texts(encoder.tokenizer, gold_ids),
        "nats_without": [round(nll, DIGITS) for nll in attempt.baseline.token_nll],
        "gain": [round(gain, DIGITS) for gain in attempt.token_gains],
    }


def token_texts(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """What each token adds to the text; a character of several tokens stands with its last one."""
    texts: list[str] = []
    # Decoded behind those before: alone, a token may lose its space or be half a character.
    first = read = 0
    for end in range(1, len(ids) + 1):
        before = str(tokenizer.decode(list(ids[first:read])))
        now = str(tokenizer.decode(list(ids[first:end])))
        if now.endswith(REPLACEMENT) and end < len(ids):
            texts.append("")
            continue
        texts.append(now[len(before) :])
        first, read = read, end
    return texts
