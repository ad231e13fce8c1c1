"""Cascades: thresholds that keep to a budget, and chapters that go only as far as doubt carries."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from envs.cascade import Cascade, Signal
from envs.routing import Routing
from envs.sources.storyworld import StoryWorldSource
from train.ensembles import cascade
from train.ensembles.cascade import calibrated, stops
from train.ensembles.drafts import disagreement, drafts
from train.ensembles.fitted import written_by
from train.ensembles.shelf import Shelf, in_order

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MakeShelf = Callable[..., Shelf]


def test_a_chapter_goes_to_the_first_writer_without_doubt() -> None:
    doubts = torch.tensor([[0.1, 0.9], [0.6, 0.2], [0.6, 0.9]])
    assert stops(doubts, (0.5, 0.5)) == [0, 1, 2]
    # What is exactly at the threshold stays.
    assert stops(doubts, (0.6, 0.9)) == [0, 0, 0]


def test_thresholds_gain_most_within_the_budget() -> None:
    # Doubt tells exactly whom the second writer helps: of four chapters two gain, one loses.
    doubts = torch.tensor([[0.9], [0.8], [0.3], [0.1]])
    gains = torch.tensor([[0.0, 6.0], [0.0, 4.0], [0.0, -3.0], [0.0, -3.0]])
    spent = torch.tensor([[1.0, 3.0]] * 4)
    (half,) = calibrated(doubts, gains, spent, 0.5)
    assert half == pytest.approx(0.55)
    # A quarter of the way from 1 to 3 pays for one chapter in four.
    (quarter,) = calibrated(doubts, gains, spent, 0.25)
    assert quarter == pytest.approx(0.85)
    (none,) = calibrated(doubts, gains, spent, 0.0)
    assert none == math.inf


def test_drafts_that_say_the_same_do_not_disagree() -> None:
    assert disagreement(["a b c", "a b c"]) == 0
    assert disagreement(["a b", "c d"]) == 1


def test_the_entropy_of_a_draft_is_that_of_the_tokens_it_was_drawn_from(
    make_shelf: MakeShelf,
) -> None:
    model, tokenizer = make_shelf().model("north"), make_shelf().tokenizer("north")
    rows = [tuple(range(10, 22)), tuple(range(10, 15))]
    together = drafts(model, tokenizer, rows, 5, sampled=False, seed=0, batch_size=2)
    for row, draft in zip(rows, together, strict=True):
        (alone,) = drafts(model, tokenizer, [row], 5, sampled=False, seed=0, batch_size=1)
        assert alone.text == draft.text
        assert alone.entropy == pytest.approx(draft.entropy, abs=1e-4)
        first = model(torch.tensor([row])).logits[0, -1].log_softmax(-1)
        (one,) = drafts(model, tokenizer, [row], 1, sampled=False, seed=0, batch_size=1)
        expected = -(first.exp() * first).sum().item()
        assert one.entropy == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("signal", ["quality", "agreement", "uncertainty"])
def test_a_cascade_is_the_same_after_it_was_kept(
    signal: Signal, make_shelf: MakeShelf, world: StoryWorldSource, tmp_path: Path
) -> None:
    shelf, episodes = make_shelf(), world.episodes("train")
    env = Cascade(("generator", "north", "south"), signal=signal, num_drafts=2, draft_tokens=4)
    fitted = cascade.fit(env, shelf, episodes[:10], episodes[10:18], seed=0)
    fitted.save(tmp_path)
    again = cascade.load(env, tmp_path, shelf)
    unseen = world.episodes("test")
    assert torch.equal(again.doubts(unseen), fitted.doubts(unseen))
    alone = torch.cat([fitted.doubts([episode]) for episode in unseen[:3]])
    assert torch.allclose(alone, fitted.doubts(unseen)[:3], atol=1e-4)
    decided, names = fitted.decide(unseen), ["generator", "north", "south"]
    assert again.decide(unseen) == decided
    for stop, decision in zip(fitted.stopped_at(unseen), decided, strict=True):
        assert decision.outcome == written_by(names[stop])
        router = ["router"] if signal == "quality" else []
        assert list(decision.costs) == names[: stop + 1] + router
    before = cascade.untrained(env, shelf, 0)
    assert before.stopped_at(unseen) == [0] * len(unseen)


THREE = ("generator", "north", "south")


@pytest.mark.parametrize("signal", ["quality", "agreement", "uncertainty"])
def test_without_a_budget_the_first_writer_writes_every_chapter(
    signal: Signal, make_shelf: MakeShelf, world: StoryWorldSource
) -> None:
    shelf, episodes = make_shelf(), world.episodes("train")
    env = Cascade(THREE, signal=signal, budget=0, num_drafts=2, draft_tokens=4)
    fitted = cascade.fit(env, shelf, episodes[:10], episodes[10:18], seed=0)
    decided = fitted.decide(world.episodes("test"))
    assert {decision.outcome for decision in decided} == {written_by("generator")}


@pytest.mark.parametrize("signal", ["quality", "agreement", "uncertainty"])
def test_where_every_draft_is_doubted_the_last_writer_writes_every_chapter(
    signal: Signal, make_shelf: MakeShelf, world: StoryWorldSource
) -> None:
    env = Cascade(THREE, signal=signal, num_drafts=2, draft_tokens=4)
    doubting = replace(cascade.untrained(env, make_shelf(), 0), thresholds=(-math.inf, -math.inf))
    decided = doubting.decide(world.episodes("test"))
    assert {decision.outcome for decision in decided} == {written_by("south")}
    assert all(set(THREE) <= set(decision.costs) for decision in decided)


def test_with_a_whole_budget_all_is_handed_on_if_that_gains_most() -> None:
    doubts = torch.tensor([[0.9, 0.2], [0.1, 0.7], [0.5, 0.5]])
    gains = torch.tensor([[0.0, 1.0, 2.0]] * 3)
    spent = torch.tensor([[1.0, 3.0, 6.0]] * 3)
    assert calibrated(doubts, gains, spent, 1.0) == (-math.inf, -math.inf)


@pytest.mark.parametrize(
    ("named", "order"),
    [((), ("small", "generator", "north", "south")), (("north", "small"), ("north", "small"))],
)
def test_the_smallest_writer_is_asked_first_unless_an_order_is_named(
    named: tuple[str, ...],
    order: tuple[str, ...],
    make_shelf: MakeShelf,
    make_model: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    shelf = make_shelf(small=(make_model(num_hidden_layers=1), tokenizer))
    assert cascade.untrained(Cascade(named), shelf, 0).writers == order
    assert in_order(Routing(), shelf) == shelf.names


def test_one_writer_is_no_cascade(make_shelf: MakeShelf) -> None:
    with pytest.raises(ValueError, match="name two or more"):
        cascade.untrained(Cascade(("north",)), make_shelf(), 0)


def test_sampled_drafts_of_a_chapter_do_not_depend_on_other_chapters(
    make_shelf: MakeShelf, world: StoryWorldSource
) -> None:
    shelf = make_shelf()
    requests = [shelf.request("north", e) for e in world.episodes("test")[:2]]
    first, second = (r.prefix_ids + r.guidance_ids for r in requests)
    model, tokenizer = shelf.model("north"), shelf.tokenizer("north")

    def texts(rows: list[tuple[int, ...]]) -> list[str]:
        found = drafts(model, tokenizer, rows, 6, sampled=True, seed=0, batch_size=8)
        return [draft.text for draft in found]

    together = texts([first, first, second, second])
    assert together == texts([first, first]) + texts([second, second])
    assert len(set(together)) == 4, "drafts of one chapter differ as well"
