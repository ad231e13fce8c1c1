"""What the monitors measure, on numbers from a pencil."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from envs.types import Chapter, Episode
from rewards.monitors.concentration import top_share
from rewards.monitors.controls import random_texts
from rewards.monitors.copying import seen_share, trigrams, unseen_share
from rewards.monitors.correlation import correlation_within_groups
from rewards.monitors.signal import share_without_signal
from rewards.types import Likelihood


def test_trigrams_are_runs_of_three_words_without_case_and_punctuation() -> None:
    assert trigrams("Ann — owes Bob, a ring.") == [
        ("ann", "owes", "bob"),
        ("owes", "bob", "a"),
        ("bob", "a", "ring"),
    ]


def test_the_seen_share_counts_the_trigrams_that_stand_in_the_source() -> None:
    # Four trigrams; the first two stand in the source.
    text, source = "Ann owes Bob a ring now", "It is known: ann owes bob A lamp."
    assert seen_share(text, source) == 0.5
    assert unseen_share(text, source) == 0.5
    assert unseen_share("Ann owes Bob", source) == 0.0
    assert seen_share("Cid has a crow", source) == 0.0


def test_a_text_of_two_words_has_no_share() -> None:
    assert seen_share("Ann pays", "Ann pays") is unseen_share("Ann pays", "") is None


def test_a_correlation_within_groups_does_not_see_what_differs_between_them() -> None:
    # Within each group both rise together; between the groups one rises and the other falls.
    rising = [[(1.0, 10.0), (2.0, 12.0)], [(11.0, 0.0), (12.0, 2.0)]]
    assert correlation_within_groups(rising) == pytest.approx(1.0)
    falling = [[(1.0, 5.0), (3.0, 1.0)]]
    assert correlation_within_groups(falling) == pytest.approx(-1.0)


def test_a_correlation_by_pencil() -> None:
    # Differences to the means: (-1, 0, 1) and (0, -1, 1); covariance 1, spreads 2 and 2.
    assert correlation_within_groups([[(1, 5), (2, 4), (3, 6)]]) == pytest.approx(0.5)


@pytest.mark.parametrize("groups", [[], [[]], [[(1.0, 2.0)]], [[(1.0, 2.0), (1.0, 3.0)]]])
def test_what_does_not_vary_has_no_correlation(groups: list[list[tuple[float, float]]]) -> None:
    assert correlation_within_groups(groups) is None


def likelihood(*costs: float) -> Likelihood:
    return Likelihood(math.fsum(costs), costs)


def test_the_top_share_is_what_the_tokens_that_gain_most_gain() -> None:
    # Twenty tokens: one gains 6 nats, four gain 1 each, the others lose one each.
    before = likelihood(*[10.0] * 20)
    after = likelihood(4.0, *[9.0] * 4, *[11.0] * 15)
    assert top_share(after, before) == 0.6
    assert top_share(after, before, share=0.1) == 0.7
    # At least one token, however short the chapter.
    assert top_share(likelihood(1.0, 1.0), likelihood(2.0, 4.0)) == 0.75


def test_no_gain_has_no_share() -> None:
    assert top_share(likelihood(2.0, 3.0), likelihood(2.0, 1.0)) is None


def test_groups_without_signal_are_those_whose_rewards_are_all_alike() -> None:
    assert share_without_signal([[1.0, 1.0], [0.5, 0.7], [0.0], [2.0, 2.0, 2.1]]) == 0.5


def test_random_texts_have_the_plans_lengths_and_other_books_words(
    make_episode: Callable[..., Episode],
) -> None:
    def episode(episode_id: str, text: str) -> Episode:
        made = make_episode(episode_id)
        return Episode(episode_id, made.context, Chapter("", text))

    shelf = [episode("ash/1", "crow"), episode("ash/2", "owl"), episode("birch/1", "bell mill")]
    texts = random_texts(shelf, ["Ann pays Bob now.", "", "Ann runs."])
    assert [len(text.split()) for text in texts] == [4, 0, 2]
    assert set(texts[0].split()) <= {"bell", "mill"}
    assert set(texts[2].split()) <= {"crow", "owl"}
    assert random_texts(shelf, ["Ann pays Bob now.", "", "Ann runs."]) == texts
    assert random_texts(shelf[:1], ["Ann pays."]) == ["crow crow"]
