"""Routers: what they learn is the exact expected worth, and they keep it on disk."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from envs.routing import Router, Routing
from envs.sources.storyworld import StoryWorldSource
from envs.types import Choice, Cost, Guidance
from train.ensembles import routing
from train.ensembles.model_routers import AsksByName, context_rows, network
from train.ensembles.routers import by_features, chosen_worth, expected_worth
from train.ensembles.shelf import Shelf
from train.ensembles.worth import Worth

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FEATURES: list[Router] = ["knn", "domain", "matrix", "mlp"]
ALL: list[Router] = [*FEATURES, "encoder", "policy"]
MakeShelf = Callable[..., Shelf]


def test_the_expected_worth_is_the_sum_over_all_writers() -> None:
    # Even odds of 2 and 4, and 3 : 1 of 8 and 0: (3 + 6) / 2.
    scores = torch.tensor([[0.0, 0.0], [3.0, 1.0]]).log_softmax(-1)
    scores[1] = torch.tensor([0.75, 0.25]).log()
    worth = torch.tensor([[2.0, 4.0], [8.0, 0.0]])
    assert expected_worth(scores, worth).item() == pytest.approx(4.5)
    assert chosen_worth(scores, worth) == pytest.approx((2.0 + 8.0) / 2)


def test_a_router_that_is_sure_is_worth_what_its_writer_is_worth() -> None:
    worth = torch.tensor([[2.0, 4.0], [8.0, 0.0]])
    for place in range(2):
        sure = torch.full((2, 2), -torch.inf)
        sure[:, place] = 0.0
        assert expected_worth(sure, worth).item() == worth[:, place].mean().item()


@pytest.mark.parametrize("router", FEATURES)
def test_a_router_learns_whose_half_a_context_is_of(router: Router) -> None:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(400, 6, generator=generator)
    features[:, 0] = features[:, 0].sign() * 3
    is_north = features[:, 0] > 0
    worth = torch.where(is_north[:, None], torch.tensor([5.0, -1.0]), torch.tensor([-1.0, 5.0]))
    env = Routing(router=router, domains=2, learning_rate=0.02, max_epochs=20)
    made = by_features(env, 0)
    arrays = made.fit(features[:200], worth[:200], features[200:300], worth[200:300])
    unseen = chosen_worth(made.scores(arrays, features[300:]), worth[300:])
    assert unseen > 4.5


@pytest.mark.parametrize("router", ALL)
def test_what_was_fitted_is_the_same_after_it_was_kept(
    router: Router, make_shelf: MakeShelf, world: StoryWorldSource, tmp_path: Path
) -> None:
    shelf, episodes = make_shelf(), world.episodes("train")
    env = Routing(router=router, neighbours=3, domains=2, max_epochs=2, batch_size=8)
    fitted = routing.fit(env, shelf, episodes[:12], episodes[12:16], seed=0)
    unseen = world.episodes("test")
    fitted.save(tmp_path)
    again = routing.load(env, tmp_path, shelf)
    assert torch.equal(again.router.scores(unseen), fitted.router.scores(unseen))
    alone = torch.cat([fitted.router.scores([episode]) for episode in unseen[:3]])
    assert torch.allclose(alone, fitted.router.scores(unseen)[:3], atol=1e-4)
    decided = fitted.decide(unseen)
    assert again.decide(unseen) == decided
    for decision in decided:
        outcome, cost = decision.outcome, decision.costs
        assert isinstance(outcome, Guidance | Choice)
        writer = outcome.writer if isinstance(outcome, Choice) else "generator"
        assert set(cost) == {writer, "router"}
        assert cost["router"].generated_tokens == 0 < cost[writer].generated_tokens


def test_the_generator_stays_as_it_was_when_a_copy_learns_to_choose(
    make_shelf: MakeShelf, world: StoryWorldSource
) -> None:
    shelf, episodes = make_shelf(), world.episodes("train")
    before = {k: v.clone() for k, v in shelf.model("generator").state_dict().items()}
    env = Routing(router="encoder", max_epochs=1, batch_size=8)
    fitted = routing.fit(env, shelf, episodes[:8], episodes[8:12], seed=0)
    after = shelf.model("generator").state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    start = routing.untrained(env, shelf, 0).router.scores(episodes)
    assert not torch.equal(fitted.router.scores(episodes), start)


def test_a_costly_writer_is_chosen_only_where_it_pays(
    make_shelf: MakeShelf, world: StoryWorldSource
) -> None:
    shelf, episodes = make_shelf(), world.episodes("test")[:4]
    worth = Worth.of(shelf, ("generator", "north"), episodes)
    assert worth.gains_EW[:, 0].tolist() == [0.0] * 4
    assert (worth.costs_EW > 0).all()
    expected = worth.gains_EW - 2 * worth.costs_EW
    assert torch.equal(worth.less_costs(2.0), expected)


def test_the_policy_asked_by_name_scores_each_name_behind_the_context(
    make_shelf: MakeShelf,
) -> None:
    shelf = make_shelf()
    asked = network(Routing(router="policy"), shelf, ("north", "south"), 0)
    assert isinstance(asked, AsksByName)
    row = tuple(range(5, 15))
    found = asked([row, row[:6]])
    model = shelf.model("generator")
    for i, context in enumerate((row, row[:6])):
        for j, name in enumerate(asked.names):
            logits = model(torch.tensor([context + name])).logits[0].log_softmax(-1)
            places = range(len(context) - 1, len(context) + len(name) - 1)
            expected = sum(logits[p, t].item() for p, t in zip(places, name, strict=True))
            assert found[i, j].item() == pytest.approx(expected, abs=1e-4)


def test_the_router_by_name_is_a_copy_of_the_policy_and_reads_by_its_tokens(
    make_shelf: MakeShelf,
    make_model: Callable[..., PreTrainedModel],
    other_tokenizer: PreTrainedTokenizerBase,
    world: StoryWorldSource,
) -> None:
    shelf = make_shelf(agent=(make_model(seed=7), other_tokenizer))
    agent, names = shelf.writer("agent"), ("generator", "north")
    shelf = Shelf(
        {n: partial(shelf.writer, n) for n in names}, lambda *_: agent, None, lambda: agent
    )
    env, episodes = Routing(router="policy"), world.episodes("test")[:2]
    asked = network(env, shelf, names, 0)
    assert isinstance(asked, AsksByName)
    copied = zip(asked.model.parameters(), agent.model.parameters(), strict=True)
    assert all(torch.equal(own, its) and own is not its for own, its in copied)
    assert [tuple(other_tokenizer(name)["input_ids"]) for name in names] == list(asked.names)
    rows = context_rows(env, shelf, episodes)
    requests = [agent.encoder.request(episode) for episode in episodes]
    assert rows == [r.prefix_ids + r.guidance_ids for r in requests]
    # The context is read with each name behind it.
    read = 2 * len(rows[0]) + sum(map(len, asked.names))
    weights = sum(p.numel() for p in agent.model.parameters())
    decision, _ = routing.untrained(env, shelf, 0).decide(episodes)
    operations = pytest.approx(2 * weights * read / 1e9)
    assert decision.costs["router"] == Cost(1, read, 0, giga_operations=operations)
    # A copy of the generator chooses by the generator's tokens.
    encoder = Routing(router="encoder")
    assert context_rows(encoder, shelf, episodes) != rows


def test_names_that_begin_alike_are_refused(make_shelf: MakeShelf) -> None:
    with pytest.raises(ValueError, match=r"'nor.*begin with those of 'nor"):
        network(Routing(router="policy"), make_shelf(), ("north", "north"), 0)
