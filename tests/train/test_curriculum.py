"""What the shipped curricula play first."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pytest

from envs.types import Episode
from train.curriculum import ByLength, ByRewardVariance, num_words


@pytest.fixture
def episodes(make_episode: Callable[..., Episode]) -> list[Episode]:
    """Of 7, 5, 6 and 5 words of context; chapter and hindsight are the same."""
    known = ("a b c d e f g", "a b c d e", "a b c d e f", "v w x y z")
    return [make_episode(f"book/{n}", known=text) for n, text in enumerate(known)]


def places(picked: Sequence[Episode]) -> list[int]:
    return [int(e.episode_id.removeprefix("book/")) for e in picked]


def test_the_shortest_come_first_and_equals_stay_in_order(episodes: list[Episode]) -> None:
    curriculum = ByLength(passes=1)
    assert places(curriculum.pick(episodes, 3, pass_number=0)) == [1, 3, 2]
    assert places(curriculum.pick(episodes[::-1], 3, pass_number=0)) == [3, 1, 2]


def test_after_its_passes_the_shuffled_order_is_played(episodes: list[Episode]) -> None:
    assert places(ByLength(passes=1).pick(episodes, 3, pass_number=1)) == [0, 1, 2]


def test_length_is_words_of_context_and_chapter(episodes: list[Episode]) -> None:
    # 7 of the context, 5 of the synopsis, 10 of the chapter.
    assert num_words(episodes[0]) == 22


def test_episodes_that_were_never_played_come_first(episodes: list[Episode]) -> None:
    curriculum = ByRewardVariance()
    assert places(curriculum.pick(episodes, 2, 0)) == [0, 1]
    curriculum.observe({"book/0": [1.0, 5.0], "book/1": [1.0, 9.0]})
    # Variances 4 and 16.
    assert places(curriculum.pick(episodes, 4, 1)) == [2, 3, 1, 0]


def test_an_episode_without_signal_waits_until_it_is_visited_again(episodes: list[Episode]) -> None:
    curriculum = ByRewardVariance(revisit_after=2)
    curriculum.pick(episodes, 4, 0)
    curriculum.observe({f"book/{n}": [0.0, float(n)] for n in range(4)})
    # Variances 0, 1/4, 1 and 9/4.
    assert places(curriculum.pick(episodes, 3, 1)) == [3, 2, 1]
    curriculum.observe({f"book/{n}": [0.0, float(n)] for n in (1, 2, 3)})
    assert places(curriculum.pick(episodes, 3, 2)) == [0, 3, 2]


def test_a_pick_of_too_few_ends_the_pass_and_does_not_count_as_played(
    episodes: list[Episode],
) -> None:
    curriculum = ByRewardVariance(revisit_after=2)
    curriculum.pick(episodes, 4, 0)
    curriculum.observe({f"book/{n}": [0.0, 0.0] for n in range(4)})
    assert places(curriculum.pick(episodes, 2, 1)) == []
    assert places(curriculum.pick(episodes[:1], 2, 2)) == [0]
    assert places(curriculum.pick(episodes, 2, 2)) == [0, 1]


def test_what_was_seen_comes_back_from_a_checkpoint(episodes: list[Episode]) -> None:
    curriculum, resumed = ByRewardVariance(), ByRewardVariance()
    curriculum.pick(episodes, 4, 0)
    curriculum.observe({"book/0": [1.0, 5.0], "book/1": [1.0, 9.0], "book/2": [1.0, 1.0]})
    resumed.restore(json.loads(json.dumps(curriculum.state())))
    assert places(resumed.pick(episodes, 4, 1)) == places(curriculum.pick(episodes, 4, 1))
    assert places(curriculum.pick(episodes, 4, 1)) == [3, 1, 0]
