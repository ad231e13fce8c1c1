"""Where in the chapter a plan helps: the gain of every gold token, for maps and for reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rewards.encode import GeneratorEncoder
from train.analysis.rows import Attempt, Evaluation
from train.files import write_text

FILE = "token_gains.jsonl"
DIGITS = 4


def write_token_gains(evaluation: Evaluation, encoder: GeneratorEncoder, folder: Path) -> None:
    """A line for each attempt of an agent: its plan, the gold tokens as text, and their gains.

    `nats_without` is what a token costs without the plan, `gain` by how many nats it costs less
    with it. Joined, the tokens are the chapter as the generator was given it.
    """
    lines = [
        json.dumps({"row": row.label, **token_gains(attempt, encoder)}, ensure_ascii=False)
        for row in evaluation.rows
        if row.decoding is not None
        for attempt in row.attempts
    ]
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
        "tokens": [str(encoder.tokenizer.decode([token_id])) for token_id in gold_ids],
        "nats_without": [round(nll, DIGITS) for nll in attempt.baseline.token_nll],
        "gain": [round(gain, DIGITS) for gain in attempt.token_gains],
    }
