"""A judge agent: asked about every two texts in both orders, its answers read strictly."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from envs.types import Agent, Conversation, Reply
from train.judging.comparisons import Comparison
from train.judging.judgments import DIMENSIONS, REFUSED, TIE, UNCLEAR, Judgment
from train.judging.wording import REFUSAL, VERDICT, JudgeWording

_LINE = re.compile(rf"({'|'.join(DIMENSIONS)}): *(A|B|{TIE})")
_DECLINES = re.compile(
    r"\W*(?:I(?:['’]m| am) (?:sorry|unable|not able)|sorry|I (?:cannot|can['’]?t|won['’]?t|must "
    r"decline|will not)|as an AI)\b",
    re.IGNORECASE,
)


def ask_judge(
    agent: Agent, comparisons: Sequence[Comparison], annotator: str, wording: JudgeWording
) -> list[Judgment]:
    """Two judgments for each comparison, one with either text shown first.

    An answer that cannot be read stands as `refused`, `unclear` or empty on the dimensions
    concerned: it is counted and excluded where votes are counted.
    """
    replies = agent.reply([conversation for _, conversation in prompts(comparisons, wording)])
    asked = ((comparison, first) for comparison in comparisons for first in (0, 1))
    return [
        _judgment(comparison, first, reply, annotator)
        for (comparison, first), reply in zip(asked, replies, strict=True)
    ]


def prompts(
    comparisons: Sequence[Comparison], wording: JudgeWording
) -> Iterator[tuple[Comparison, Conversation]]:
    """For each comparison the prompt with its first text as A, then the one with its second."""
    for comparison in comparisons:
        first, second = comparison.texts
        yield comparison, wording.conversation(comparison.context, first, second)
        yield comparison, wording.conversation(comparison.context, second, first)


def _judgment(comparison: Comparison, first: int, reply: Reply, annotator: str) -> Judgment:
    names = {"A": comparison.options[first], "B": comparison.options[1 - first]}
    return Judgment(
        comparison.options,
        {dim: names.get(answer, answer) for dim, answer in read_reply(reply).items()},
        item=comparison.item,
        pair=comparison.item,
        annotator=annotator,
        first=names["A"],
        improvements=comparison.improvements,
    )


def read_reply(reply: Reply) -> dict[str, str]:
    """For each dimension `A`, `B`, `same`, `refused` or `unclear`.

    Read is what follows the last line `VERDICT`. A dimension is unclear where no line of the form
    asked for answers it, or where two lines differ; all are where there is no verdict, and where
    the length limit cut the reply, because its last line may not be what was meant. Where a server
    gave no reply, all are empty.
    """
    if reply.failure:
        return dict.fromkeys(DIMENSIONS, "")
    lines = [line.strip() for line in reply.text.splitlines()]
    if VERDICT not in lines:
        declined = REFUSAL in lines or _DECLINES.match(reply.text.strip())
        return dict.fromkeys(DIMENSIONS, REFUSED if declined and not reply.truncated else UNCLEAR)
    verdict = lines[len(lines) - lines[::-1].index(VERDICT) :]
    if reply.truncated:
        return dict.fromkeys(DIMENSIONS, UNCLEAR)
    if REFUSAL in verdict:
        return dict.fromkeys(DIMENSIONS, REFUSED)
    given: dict[str, set[str]] = {dimension: set() for dimension in DIMENSIONS}
    for dimension, answer in _answers(verdict):
        given[dimension].add(answer)
    return {d: next(iter(found)) if len(found) == 1 else UNCLEAR for d, found in given.items()}


def _answers(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        if found := _LINE.fullmatch(line):
            yield found.group(1), found.group(2)
        elif dimension := next((d for d in DIMENSIONS if line.startswith(f"{d}:")), None):
            # An answer to the question that names neither.
            yield dimension, UNCLEAR
