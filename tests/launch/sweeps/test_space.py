"""What Hydra's sweeps over settings mean to an optimiser."""

from __future__ import annotations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from launch.sweeps.space import Dimension, dimension

distributions = pytest.importorskip(
    "optuna.distributions", reason="needs Optuna: pip install 'nextchapter[optuna]'"
)


def varied(text: str) -> Dimension:
    return dimension(OverridesParser.create().parse_override(text))


def test_an_interval_is_searched_as_it_is_tagged() -> None:
    found = varied("trainer.learning_rate=tag(log,interval(1e-6,1e-3))")
    assert found.distribution == distributions.FloatDistribution(1e-6, 1e-3, log=True)
    assert found.text(2e-5) == "2e-05" and found.chosen("2e-05") == 2e-5
    whole = varied("+steps=int(interval(1,10))")
    assert whole.distribution == distributions.IntDistribution(1, 10)
    assert whole.name == "steps" and whole.chosen("7") == 7


def test_a_range_ends_before_its_end_as_in_hydra_and_is_written_as_hydra_writes_it() -> None:
    found = varied("reward.weight=range(0.1,0.5,0.1)")
    assert found.texts == ("0.1", "0.2", "0.30000000000000004", "0.4")
    assert found.distribution == distributions.IntDistribution(0, 3)
    assert found.text(2) == "0.30000000000000004" and found.chosen(found.text(2)) == 2


@pytest.mark.parametrize("text", ["trainer=grpo,ppo", "trainer=choice(grpo,ppo,grpo)"])
def test_names_are_chosen_from_without_an_order(text: str) -> None:
    found = varied(text)
    assert found.texts == ("grpo", "ppo")
    assert found.distribution == distributions.CategoricalDistribution((0, 1))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a=interval(3,3)", "a: an interval should rise; got 3.0 to 3.0"),
        ("a=tag(log,interval(0,1))", "a: an interval should rise from above 0; got 0.0 to 1.0"),
        ("trainer=glob(*)", "trainer: an optimiser wants to be told the choices"),
        ("a=range(3,3)", r"a: a=range\(3,3\) has no values"),
    ],
)
def test_what_cannot_be_searched_is_refused_by_its_key(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        varied(text)
