"""Episodes to read: context, plan and gold chapter, with what the plan gained on each token."""

from __future__ import annotations

from pathlib import Path

from envs.prompts import Prompts
from rewards.encode import GeneratorEncoder
from train.analysis.rows import UNTRAINED, Attempt, Evaluation
from train.files import write_text

_HEAD = """\
# What the trained agent planned

Each example shows what the agent knew, what it planned, and the chapter that the author wrote.
The last block gives each token of that chapter with its gain: by how many nats the plan made it
more likely (+) or less likely (-). Gains under {threshold} nats are left out.
"""
GAIN_THRESHOLD_NATS = 0.2


def write_examples(
    evaluation: Evaluation,
    prompts: Prompts,
    encoder: GeneratorEncoder,
    num_examples: int,
    path: Path,
) -> None:
    """The best, the median and the worst episode of the trained agent, and others between."""
    agents = [row for row in evaluation.rows if row.decoding is not None]
    trained = [row for row in agents if row.name != UNTRAINED]
    if not trained or not num_examples:
        return
    attempts = sorted(trained[0].attempts, key=lambda a: -a.improvement)
    last = len(attempts) - 1
    ranks = sorted({round(i * last / max(1, num_examples - 1)) for i in range(num_examples)})
    parts = [_HEAD.format(threshold=GAIN_THRESHOLD_NATS)]
    parts += [_example(attempts[rank], rank + 1, len(attempts), prompts, encoder) for rank in ranks]
    write_text(path, "\n".join(parts))


def _example(
    attempt: Attempt, rank: int, total: int, prompts: Prompts, encoder: GeneratorEncoder
) -> str:
    episode = attempt.episode
    context = episode.context if prompts.include_hindsight else episode.context.known_before()
    known = "\n\n".join(f"**{s.heading}**\n\n{s.text}" for s in context.sections)
    return (
        f"## {episode.episode_id}: {attempt.improvement:+.2f} % (rank {rank} of {total})\n\n"
        f"### Context\n\n{known}\n\n### Plan\n\n{attempt.plan or '(none)'}\n\n"
        f"### Gold chapter\n\n{episode.chapter.text}\n\n"
        f"### Gain per token, in nats\n\n{_gains(attempt, encoder)}\n"
    )


def _gains(attempt: Attempt, encoder: GeneratorEncoder) -> str:
    """The gold tokens in order; those that the plan moved carry their gain in brackets."""
    request = encoder.request(attempt.episode)
    shown = []
    for token_id, before, after in zip(
        request.gold_ids, attempt.baseline.token_nll, attempt.with_plan.token_nll, strict=True
    ):
        text = str(encoder.tokenizer.decode([token_id])).replace("\n", " ")
        gain = before - after
        shown.append(text if abs(gain) < GAIN_THRESHOLD_NATS else f"{text}[{gain:+.1f}]")
    return "".join(shown)
