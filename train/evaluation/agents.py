"""Judging agents on unseen books: one table of improvements with controls and intervals."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from envs.sampling import Sampling
from envs.types import Env
from train.analysis.rows import Evaluation, answer_row, members_of
from train.evaluation.contestants import Planner, Second, Writer
from train.evaluation.controls import control_plans, other_writer, without_context
from train.evaluation.evaluator import Evaluator
from train.evaluation.members import member_rows
from train.evaluation.plays import Plays
from train.evaluation.second import WITHOUT_PLANS, again
from train.pace import ANSWERS, SCORES, UNCHANGED
from train.progress import ProgressDisplay
from train.statistics import Interval

# Reference plans that are rows of their own; the others (`true_but_…`) are ablations.
REFERENCES = ("inferable", "true")
ABLATION = "true_but_"


def agents_table(
    evaluator: Evaluator,
    env: Env,
    agents: Mapping[str, Planner],
    sampling: Sampling,
    progress: ProgressDisplay,
    sft: Writer | None = None,
    second: Second | None = None,
) -> Evaluation:
    """All rows: each agent under each decoding, the controls, the reference plans.

    Where there is a `second` generator, each row's plans are scored by it as well, but not those of
    single members of a collaboration.
    """
    episodes = evaluator.episodes
    references = [n for n in REFERENCES if all(n in e.plans for e in episodes)]
    ablated = [n for n in episodes[0].plans if n.startswith(ABLATION)]
    has_own = bool(agents) or "true" in references
    plays = Plays(evaluator, env, sampling)
    control = plays.control() if agents else None
    num_plays = len(agents) * len(evaluator.config.decodings) + (control is not None)
    num_played = num_plays * len(episodes)
    num_given = 1 + len(references) + len(ablated) + (sft is not None)
    num_own = has_own * (1 + (len(episodes) > 1))
    num_given += num_own
    num_scores = num_played + num_given * len(episodes)
    if second is not None:
        num_scores += num_played + (num_own + len(references)) * len(episodes)
    planned = {ANSWERS: num_played, SCORES: num_scores, UNCHANGED: len(episodes)}
    with evaluator.steps.shown(progress, planned):
        rows = [row for name, agent in agents.items() for row in plays.rows(name, agent)]
        if control is not None:
            rows.append(plays.alone(control, list(agents.values())[-1], rows[-1]))
        given = control_plans(evaluator, rows)
        given |= {f"{name}_plan": [e.plans[name] for e in episodes] for name in references}
        rows += [evaluator.plans(name, plans) for name, plans in given.items()]
        if sft is not None:
            rows.append(other_writer(evaluator, "sft_baseline", sft))
        ablations = [evaluator.plans(n, [e.plans[n] for e in episodes]) for n in ablated]
        checks = (without_context(evaluator),)
        if second is not None:
            load = cache(second.load)
            rows = [
                row if row.name in WITHOUT_PLANS else again(evaluator, row, second.digest, load)
                for row in rows
            ]
    ahead: dict[str, Interval] = {}
    whole = answer_row(rows)
    if whole is not None and evaluator.config.members:
        rows += member_rows(evaluator, whole, progress)
        members = members_of([row.name for row in rows])
        if members:
            alone = [row for row in rows if row.name in members]
            ahead[whole.label] = evaluator.ahead(whole, alone)
    found = Evaluation(tuple(rows), tuple(ablations), evaluator.num_cut(), (), checks, ahead=ahead)
    return evaluator.analysed(found, progress)
