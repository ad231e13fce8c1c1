"""Numbers of a rule are found where a pencil puts the optimum, by gradient and without."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from envs.fusion import LogitFusion
from train.ensembles.fusion_learning import FusionLoss, HeldChapter, learn, search
from train.ensembles.fusion_rules import (
    Adaptive,
    Contrastive,
    FusionRule,
    Mixture,
    Product,
    ProxyTuning,
    Sizes,
    WithAndWithoutContext,
)
from train.ensembles.routing_rules import ComplementaryRouter, TokenRouter


def as_given(states: Sequence[Tensor]) -> list[Tensor]:
    """Writers whose states are their logits."""
    return list(states)


def chapter(gold: Sequence[int], *odds: Sequence[float], **how: Any) -> HeldChapter:
    """Every writer gives the same odds at each of the gold tokens."""
    states = tuple(torch.tensor([list(o)] * len(gold)).log() for o in odds)
    return HeldChapter(states, torch.tensor(list(gold)), **how)


# One writer gives the tokens 9:1 and the other 1:9; the chapter has them 7:3. A mixture of shares w
# and 1-w says 0.7 where 0.9w + 0.1(1-w) = 0.7: w = 3/4.
SEVEN_TO_THREE = chapter([0] * 7 + [1] * 3, (9, 1), (1, 9))
AT_BEST = -(0.7 * math.log(0.7) + 0.3 * math.log(0.3))


def start_of(rule: FusionRule, *numbers: int) -> dict[str, Tensor]:
    return rule.start(Sizes(*numbers), seed=0)


def test_learned_shares_are_the_optimum() -> None:
    rule = Mixture()
    env = LogitFusion(rule=rule, learning_rate=0.1, epochs=300, patience=20)
    start = start_of(rule, 2, 2, 2)
    found = learn(env, FusionLoss(rule, as_given), start, [SEVEN_TO_THREE], [SEVEN_TO_THREE], 0)
    shares_K = found.numbers["log_shares"].softmax(0)
    assert shares_K.tolist() == pytest.approx([0.75, 0.25], abs=0.005)
    assert min(found.validation_nll) == pytest.approx(AT_BEST, abs=1e-4)


def test_searched_shares_are_the_optimum() -> None:
    rule = Mixture()
    loss = FusionLoss(rule, as_given)
    found = search(loss, start_of(rule, 2, 2, 2), [SEVEN_TO_THREE], evaluations=100)
    shares_K = found.numbers["log_shares"].softmax(0)
    assert shares_K.tolist() == pytest.approx([0.75, 0.25], abs=0.005)


def test_a_search_keeps_to_its_budget() -> None:
    rule = Product()
    loss = FusionLoss(rule, as_given)
    found = search(loss, start_of(rule, 2, 2, 2), [SEVEN_TO_THREE], evaluations=7)
    assert len(found.validation_nll) == 7


def test_a_search_over_a_gate_is_refused() -> None:
    rule = TokenRouter()
    loss = FusionLoss(rule, as_given)
    with pytest.raises(ValueError, match=r"16 numbers at most, and this rule has 202; set env"):
        search(loss, start_of(rule, 2, 100, 2), [SEVEN_TO_THREE], evaluations=7)


def test_learned_weights_of_a_product_are_the_optimum() -> None:
    # Odds 9^(w - v) : 1 are 7:3 at w - v = ln(7/3) / ln 9.
    rule = Product()
    env = LogitFusion(rule=rule, learning_rate=0.05, epochs=200, patience=20)
    start = start_of(rule, 2, 2, 2)
    found = learn(env, FusionLoss(rule, as_given), start, [SEVEN_TO_THREE], [SEVEN_TO_THREE], 0)
    first, second = found.numbers["weights"].tolist()
    assert first - second == pytest.approx(math.log(7 / 3) / math.log(9), abs=0.01)


def test_the_start_is_kept_where_learning_does_not_help_on_validation() -> None:
    rule = Mixture()
    env = LogitFusion(rule=rule, epochs=30, patience=2)
    other_way = chapter([0, 1], (9, 1), (1, 9))
    start = start_of(rule, 2, 2, 2)
    found = learn(env, FusionLoss(rule, as_given), start, [SEVEN_TO_THREE], [other_way], 0)
    assert found.numbers["log_shares"].tolist() == start["log_shares"].tolist()
    assert len(found.validation_nll) == 3


def test_a_cost_in_parts_is_the_cost_of_the_whole() -> None:
    rule = Product()
    start = start_of(rule, 2, 2, 2)
    whole, parts = (FusionLoss(rule, as_given, n).mean(start, [SEVEN_TO_THREE]) for n in (256, 3))
    assert parts == pytest.approx(whole)


# The first writer's state tells which writer is right: 100:1 for the first token, or 1:100.
HINTED = HeldChapter(
    (
        torch.tensor([[100.0, 1.0], [1.0, 100.0]] * 5).log(),
        torch.tensor([[1.0, 100.0], [100.0, 1.0]] * 5).log(),
    ),
    torch.tensor([0, 0] * 5),
)


def test_a_token_router_learns_whom_to_ask_from_what_stands_before() -> None:
    rule = TokenRouter()
    env = LogitFusion(rule=rule, learning_rate=0.1, epochs=100, patience=10)
    found = learn(env, FusionLoss(rule, as_given), start_of(rule, 2, 2, 2), [HINTED], [HINTED], 0)
    # Equal shares would cost ln 2.
    assert found.validation_nll[0] == pytest.approx(math.log(2))
    assert min(found.validation_nll) < 0.05
    assert rule.shares(found.numbers, HINTED.states[0]).tolist() == pytest.approx(
        [0.5, 0.5], abs=0.02
    )


def test_a_writer_who_costs_more_than_it_gains_is_asked_no_more() -> None:
    # The second is never better, and a tenth of a nat dearer.
    rule = TokenRouter(costs=(0.0, 0.1))
    env = LogitFusion(rule=rule, learning_rate=0.1, epochs=100, patience=10)
    alike = chapter([0, 1], (1, 1), (1, 1))
    loss = FusionLoss(rule, as_given)
    start = start_of(rule, 2, 2, 2)
    # ln 2 for the token, and half of 0.1 for whom is asked.
    assert loss.mean(start, [alike]) == pytest.approx(math.log(2) + 0.05)
    found = learn(env, loss, start, [alike], [alike], 0)
    assert rule.shares(found.numbers, alike.states[0])[1].item() < 0.02


def test_a_complementary_router_gains_where_no_writer_is_right() -> None:
    rule = ComplementaryRouter(rank=2)
    env = LogitFusion(rule=rule, learning_rate=0.1, epochs=100, patience=20)
    hinted = HeldChapter(
        (torch.tensor([[1.0, 2.0], [2.0, 1.0]]), torch.zeros(2, 2)), torch.tensor([0, 1])
    )
    start = start_of(rule, 2, 2, 2)
    found = learn(env, FusionLoss(rule, as_given), start, [hinted], [hinted], 0)
    # At the start the first of equals is chosen, and its odds are e:1 for the wrong token.
    assert found.validation_nll[0] == pytest.approx(math.log(1 + math.e))
    assert min(found.validation_nll) < 0.1


def test_adaptive_weights_follow_the_context_and_not_the_chapter() -> None:
    rule = Adaptive(temperature=0.5)
    combine = rule.combine(start_of(rule, 2, 2, 2), torch.tensor([1.0, 1.0 + 0.5 * math.log(3)]))
    assert [float(w) for w in combine.weights] == pytest.approx([3 / 4, 1 / 4])


def test_writers_take_their_seats_by_rule() -> None:
    assert WithAndWithoutContext().seats(["north"]).writers == ("north", "north")
    assert WithAndWithoutContext().seats(["north"]).without_context == (1,)
    with pytest.raises(ValueError, match=r"ProxyTuning combines 3 writers; got generator, north\."):
        ProxyTuning().seats(["generator", "north"])
    with pytest.raises(ValueError, match="Product combines two or more writers; got generator"):
        Product().seats(["generator"])


@pytest.mark.parametrize("alpha_rule", [ProxyTuning(0.0), Contrastive(0.0)])
def test_a_rule_of_strength_zero_is_its_base(alpha_rule: FusionRule) -> None:
    three = [(5.0, 2.0), (9.0, 1.0), (1.0, 9.0)][: alpha_rule.num_writers]
    found = FusionLoss(alpha_rule, as_given).mean(
        start_of(alpha_rule, 3, 2, 2), [chapter([0], *three)]
    )
    assert found == pytest.approx(-math.log(5 / 7))


def test_weights_that_do_not_fit_the_writers_are_refused() -> None:
    with pytest.raises(ValueError, match="2 weights for 3 writers"):
        start_of(Product((0.5, 0.5)), 3, 2, 2)
    with pytest.raises(ValueError, match=r"shares are above 0; got \[1.0, 0.0\]"):
        start_of(Mixture((1.0, 0.0)), 2, 2, 2)
    with pytest.raises(ValueError, match="1 costs for 2 writers"):
        start_of(TokenRouter((0.1,)), 2, 2, 2)
