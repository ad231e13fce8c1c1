"""The table of rewards: numbers from a pencil."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.compare_rewards import as_markdown, parts_named, pooled
from envs.types import Episode


def test_a_part_is_named_where_all_its_words_stand_in_the_plan(
    make_episode: Callable[..., Episode],
) -> None:
    episode = make_episode(
        true="The debt of Ann over the ring ends at the mill with Bob. Ann will flee.",
        true_but_thread="The secret of Cid over the cup ends at the mill with Bob. Cid will flee.",
        true_but_place="The debt of Ann over the ring ends at the inn with Bob. Ann will flee.",
        true_but_ally="The debt of Ann over the ring ends at the mill with Dan. Ann will flee.",
        true_but_reaction="The debt of Ann over the ring ends at the mill with Bob. Ann will lie.",
    )
    assert parts_named(episode, episode.plans["true"]) == 1
    assert parts_named(episode, "At the mill, with Bob, the debt of Ann over the cup ends.") == 0.5
    assert parts_named(episode, "") == 0


def test_seeds_are_pooled_with_a_t_interval() -> None:
    # Deviation 1, so half of 4.303 / sqrt(3) on either side.
    found = pooled([1.0, 2.0, 3.0])
    assert found["mean"] == 2.0
    assert found["half_width"] == pytest.approx(2.484, abs=1e-3)
    assert pooled([5.0]) == {"mean": 5.0}


def test_the_table_has_a_line_for_each_reward() -> None:
    cell = {"mean": 1.25, "half_width": 0.31}
    row = {"seeds": [0, 1], **dict.fromkeys(("greedy", "sampled", "accuracy", "words"), cell)}
    table = as_markdown({"raw": {**row, "copied": {"mean": 4.0}}})
    assert table.splitlines()[-1] == f"| `raw` | {' | '.join(['1.2 ± 0.3'] * 4)} | 4.0 | 2 |"
