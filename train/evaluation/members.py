"""Single members of a collaboration: what each role planned alone, and the rest without it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

from envs.collaboration.collaboration import Collaboration
from envs.types import Env, Guidance, PlanStatus, Rollout
from train.analysis.rows import ALONE_ROW, WITHOUT_ROW, Attempt, Row
from train.evaluation.evaluator import Evaluator
from train.pace import SCORES
from train.progress import ProgressDisplay

NOTE = "members"


def plans_of_members(env: Env, rollout: Rollout) -> dict[str, tuple[str, PlanStatus]]:
    """By the name of their row: what each role planned alone, and the play without each role.

    None where there is one role, which is the whole.
    """
    if not isinstance(env, Collaboration) or len(env.most_turns) < 2:
        return {}
    alone = {f"{ALONE_ROW}{role}": read for role, read in env.alone(rollout.turns).items()}
    without = {
        f"{WITHOUT_ROW}{role}": env.without_role(rollout.turns, role) for role in env.most_turns
    }
    return {**alone, **without}


def member_rows(evaluator: Evaluator, whole: Row, progress: ProgressDisplay) -> list[Row]:
    """The rows of single members of the plays in `whole`, from their fixed transcripts.

    Each plan of an episode is scored once. An empty one is worth 0, and that of the whole what the
    whole is worth.
    """
    found = _scored(evaluator, whole, progress)
    named = dict.fromkeys(name for attempt in whole.attempts for name in attempt.members)
    # A role that was heard alone in a later play only stands with its like.
    names = sorted(named, key=lambda name: not name.startswith(ALONE_ROW))
    rows = []
    for name in names:
        attempts = [_attempt(attempt, name, found) for attempt in whole.attempts]
        counts = {s.value: sum(a.status == s for a in attempts) for s in PlanStatus}
        rows.append(replace(evaluator.row(name, None, attempts), statuses=counts))
    return rows


def _scored(
    evaluator: Evaluator, whole: Row, progress: ProgressDisplay
) -> dict[tuple[str, str], Attempt]:
    """By episode and plan, what is neither empty nor the plan of the whole."""
    asked = [(a.episode, plan) for a in whole.attempts for plan in _other_plans(a)]
    found: dict[tuple[str, str], Attempt] = {}
    if not asked:
        return found
    size = evaluator.config.batch_size
    with evaluator.steps.shown(progress, {SCORES: len(asked)}, "score single members"):
        for start in range(0, len(asked), size):
            episodes, plans = zip(*asked[start : start + size], strict=True)
            make = partial(evaluator.scored, NOTE, [Guidance(plan) for plan in plans])
            for attempt in evaluator.kept({"plans": plans}, episodes, make, NOTE, (SCORES,)):
                found[attempt.episode.episode_id, attempt.plan] = attempt
    return found


def _other_plans(attempt: Attempt) -> Iterator[str]:
    plans = dict.fromkeys(plan for plan, _ in attempt.members.values())
    return (plan for plan in plans if plan not in ("", attempt.plan))


def _attempt(attempt: Attempt, name: str, found: Mapping[tuple[str, str], Attempt]) -> Attempt:
    plan, status = attempt.members.get(name, ("", PlanStatus.NO_PLAN))
    bare = Attempt(attempt.episode, plan, 0.0, attempt.baseline, attempt.baseline, status=status)
    if not plan:
        return bare
    same = attempt if plan == attempt.plan else found[attempt.episode.episode_id, plan]
    return replace(bare, improvement=same.improvement, with_plan=same.with_plan)
