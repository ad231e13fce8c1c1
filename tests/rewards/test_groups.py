"""Groups line up with processes, or the line says what has to divide what."""

from __future__ import annotations

import pytest

from rewards.groups import check_aligned

KEY = "trainer.episodes_per_step"


@pytest.mark.parametrize(("episodes", "processes"), [(16, 1), (16, 4), (16, 16), (3, 3)])
def test_whole_groups_on_each_process_are_fine(episodes: int, processes: int) -> None:
    check_aligned(8, episodes, processes, ["rank"], KEY)


def test_groups_that_straddle_processes_are_refused_with_the_remedy() -> None:
    with pytest.raises(
        ValueError,
        match=r"^trainer\.episodes_per_step: reward\.terms\.rank compares all attempts .* of "
        r"num_generations = 8; 3 groups do not divide over 2 processes\. Make it a multiple of 2$",
    ):
        check_aligned(8, 3, 2, ["rank"], KEY)


def test_a_trainer_without_groups_is_refused() -> None:
    with pytest.raises(ValueError, match=r"reward\.terms\.a, reward\.terms\.b compare .* is 1 of"):
        check_aligned(1, 16, 1, ["a", "b"], KEY)
