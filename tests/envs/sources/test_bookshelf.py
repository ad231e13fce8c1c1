"""Real books as a source: splits by book, contexts without foresight, plans without labels."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from envs.plans import PlanParser
from envs.prompts import Prompts, prompt_leaks
from envs.sources.bookshelf import BookshelfSource
from envs.types import Episode, PlanStatus, Reply, Split

NAMES = ("Anselm", "Brida", "Corvin", "Dagny", "Emrik", "Folke", "Gerda")
THINGS = ("lantern", "ferry", "ledger", "orchard", "violin", "glacier", "anvil")
PLACES = tuple(f"{name}holm" for name in (*NAMES, "Hedda", "Ivar", "Jorun"))
COLOURS = ("azure", "beige", "cyan", "drab", "ecru", "fawn", "gold", "hazel", "ivory", "jade")
SPLITS: tuple[Split, ...] = get_args(Split)


def book(number: int, num_chapters: int = 4) -> dict[str, Any]:
    """A book whose chapters share its hero and its thing; each goes to a place of its own."""
    name, thing = NAMES[number], THINGS[number]
    chapters = [
        {
            "title": f"Chapter {chapter}",
            "text": f"It rained when {name} woke. It was then that {name} took the {thing} to "
            f"{place}, though nobody there had asked for a {thing} with {colour} paint. "
            f"It ended on day {chapter} of the {thing}.",
        }
        for chapter, place, colour in zip(
            range(1, num_chapters + 1), PLACES[number:], COLOURS[number:], strict=False
        )
    ]
    return {"title": f"The {thing.title()}", "author": f"{name} Writer", "chapters": chapters}


def write(path: Path, *books: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(each) + "\n" for each in books), encoding="utf-8")
    return str(path)


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    return [write(tmp_path / "shelf.jsonl", *(book(n) for n in range(7)))]


def source(paths: list[str], **settings: Any) -> BookshelfSource:
    # On so small a shelf most words are in most stretches.
    small = {"min_word_stretches": 0, "max_word_share": 0.3, "num_demonstrations": 40}
    return BookshelfSource(paths, **{**small, **settings})


def everything(books: BookshelfSource) -> Iterator[Episode]:
    for split in SPLITS:
        yield from books.episodes(split)
    yield from (episode for episode, _ in books.writing_samples())
    yield from (episode for episode, _ in books.demonstrations("In summary:"))


def listed(plan: str, part: str) -> list[str]:
    found = re.search(rf"^{part.title()}: (.*)\.$", plan, re.MULTILINE)
    return found.group(1).split(", ") if found else []


def test_every_book_is_in_exactly_one_split(paths: list[str]) -> None:
    ids = [[b.book_id for b in source(paths).books(split)] for split in SPLITS]
    assert [len(each) for each in ids] == [5, 1, 1]
    assert len({book_id for each in ids for book_id in each}) == 7


def test_the_split_depends_on_the_seed_and_not_on_the_order_of_the_files(
    paths: list[str], tmp_path: Path
) -> None:
    turned = [write(tmp_path / "turned.jsonl", *(book(n) for n in reversed(range(7))))]
    assert {e.episode_id for e in source(paths).episodes("test")} == {
        e.episode_id for e in source(turned).episodes("test")
    }
    held_out = {source(paths, seed=seed).books("test")[0].book_id for seed in range(10)}
    assert len(held_out) > 1


def test_every_chapter_but_the_first_is_one_episode(paths: list[str]) -> None:
    (tested,) = source(paths).books("test")
    episodes = source(paths, max_gold_words=12).episodes("test")
    assert [e.episode_id for e in episodes] == [f"{tested.book_id}/{n}" for n in (1, 2, 3)]
    assert {e.book_id for e in episodes} == {tested.book_id}
    assert episodes[0].chapter.title == "Chapter 2"
    assert episodes[0].chapter.text == " ".join(tested.chapters[1].text.split()[:12])


def test_the_context_is_the_book_before_the_chapter(paths: list[str]) -> None:
    books = source(paths, max_previous_words=6, max_digest_words=10, max_characters=1)
    (tested,) = books.books("test")
    name, thing = tested.author.split()[0], tested.title.split()[1].lower()
    last = books.episodes("test")[2]
    assert [(s.heading, s.text, s.hindsight) for s in last.context.sections] == [
        ("Book", f"{tested.title} by {tested.author}", False),
        ("Characters", name, False),
        # Each opening has five words, so that of the first of three chapters is left out.
        ("Story so far", f"It rained when {name} woke. It rained when {name} woke.", False),
        ("Previous pages", f"on day 3 of the {thing}.", False),
    ]


def test_no_prompt_holds_text_of_the_chapter(paths: list[str]) -> None:
    prompts = Prompts()
    for episode in everything(source(paths, max_gold_words=14)):
        for conversation in (
            prompts.ask_for_plan(episode.context),
            prompts.ask_for_chapter(episode.context),
        ):
            assert prompt_leaks(conversation, episode) == []


def test_plans_name_what_the_chapter_uses(paths: list[str]) -> None:
    for episode in source(paths).episodes("test"):
        name, place = re.findall(r"took|\b[A-Z]\w\w+", episode.chapter.text)[0::3]
        assert listed(episode.plans["true"], "names") == [name, place]
        assert len(listed(episode.plans["true"], "words")) == 2  # the book's thing and a colour


def test_the_inferable_plan_holds_only_what_the_context_shows(paths: list[str]) -> None:
    for episode in source(paths).episodes("test"):
        context = Prompts().render(episode.context)
        inferable = episode.plans["inferable"]
        # The hero and the thing of the book are known; the place and the colour are news.
        assert [name in context for name in listed(inferable, "names")] == [True]
        assert [word in context for word in listed(inferable, "words")] == [True]
        assert listed(inferable, "names")[0] in episode.chapter.text


def test_an_ablation_takes_one_part_from_another_book(paths: list[str]) -> None:
    for episode in source(paths).episodes("test"):
        true = episode.plans["true"]
        for part, other_part in (("names", "words"), ("words", "names")):
            spoilt = episode.plans[f"true_but_{part}"]
            assert listed(spoilt, other_part) == listed(true, other_part)
            assert listed(spoilt, part) != listed(true, part)


def test_the_generator_learns_from_every_stretch_of_the_training_books(paths: list[str]) -> None:
    books = source(paths, max_gold_words=10)
    samples = books.writing_samples()
    for shelved in books.books("train"):
        own = [e for e, _ in samples if e.book_id == shelved.book_id]
        written = [word for e in own for word in e.chapter.text.split()]
        wanted = [word for chapter in shelved.chapters[1:] for word in chapter.text.split()]
        # What remains of a chapter after whole stretches is left out where it is short.
        assert set(written) <= set(wanted) and len(written) >= 0.8 * len(wanted)
        assert len({e.episode_id for e in own}) == len(own)
    assert {e.book_id for e, _ in samples} == {b.book_id for b in books.books("train")}


def test_with_a_share_of_its_own_the_generator_learns_from_no_book_of_the_agent(
    paths: list[str],
) -> None:
    books = source(paths, generator_share=0.4)
    written = {e.book_id for e, _ in books.writing_samples()}
    played = {e.book_id for e in books.episodes("train")}
    assert (len(written), len(played)) == (2, 3)
    assert written | played == {b.book_id for b in books.books("train")}
    assert [e.book_id for e in books.episodes("test")] == [
        e.book_id for e in source(paths).episodes("test")
    ]


def test_a_share_that_leaves_the_agent_no_book_is_refused(paths: list[str]) -> None:
    with pytest.raises(ValueError, match=r"data\.generator_share: 0\.95 of 5 training books"):
        source(paths, generator_share=0.95).episodes("train")


def test_the_shares_decide_which_samples_have_plans_and_which_plans_are_true(
    paths: list[str],
) -> None:
    assert {plan for _, plan in source(paths, planless_share=1.0).writing_samples()} == {""}
    true = {e.episode_id: e.plans["true"] for e in source(paths).episodes("train")}
    clean = source(paths, planless_share=0.0, noisy_share=0.0).writing_samples()
    assert {e.episode_id: plan for e, plan in clean} == true
    noisy = source(paths, planless_share=0.0, noisy_share=1.0).writing_samples()
    assert {e.episode_id: plan for e, plan in noisy} != true


def test_demonstrations_have_the_form_of_a_plan_and_quote_the_context_alone(
    paths: list[str],
) -> None:
    demonstrations = source(paths).demonstrations("In summary:")
    assert len(demonstrations) == 40
    for episode, answer in demonstrations:
        plan, status = PlanParser("In summary:").parse(Reply(answer))
        assert status is PlanStatus.COMPLETE
        cast = next(s.text for s in episode.context.sections if s.heading == "Characters")
        assert set(listed(plan, "names")) <= set(cast.split(", "))
        context = Prompts().render(episode.context)
        assert all(re.search(rf"\b{word}\b", context) for word in listed(plan, "words"))


def test_the_same_books_and_settings_give_the_same_material(paths: list[str]) -> None:
    one, other = source(paths), source(paths)
    assert one.episodes("train") == other.episodes("train")
    assert one.writing_samples() == other.writing_samples()
    assert one.demonstrations("So:") == other.demonstrations("So:")


def test_the_key_names_the_text_and_not_where_it_lies(paths: list[str], tmp_path: Path) -> None:
    moved = write(tmp_path / "moved.jsonl", *(book(n) for n in range(7)))
    longer = write(tmp_path / "longer.jsonl", book(0, 5), *(book(n) for n in range(1, 7)))
    key = source(paths).key()
    assert source([moved]).key() == key
    assert source([longer]).key() != key
    assert source(paths, seed=1).key() != key


def test_too_few_books_for_three_splits_are_refused(tmp_path: Path) -> None:
    few = [write(tmp_path / "few.jsonl", book(0), book(1))]
    with pytest.raises(ValueError, match="2 books cannot be split"):
        source(few).episodes("train")


def test_shares_that_leave_no_training_book_are_refused(paths: list[str]) -> None:
    with pytest.raises(ValueError, match=r"data\.test_share"):
        source(paths, validation_share=0.4, test_share=0.5).episodes("train")
    with pytest.raises(ValueError, match="Lower one of them"):
        source(paths, validation_share=0.5, test_share=0.5)


def test_ready_episodes_are_refused(tmp_path: Path) -> None:
    row = {"story_id": "mill", "chapter_index": 1, "next_chapter": "Rain."}
    with pytest.raises(ValueError, match="data=published"):
        source([write(tmp_path / "rows.jsonl", row)]).episodes("train")


def test_no_prompt_made_from_real_books_holds_text_of_the_chapter(shared_books: Path) -> None:
    books = BookshelfSource([str(shared_books)], max_gold_words=120, max_previous_words=100)
    assert [len(books.books(split)) for split in SPLITS] == [12, 2, 3]
    prompts = Prompts()
    for split in SPLITS:
        for episode in books.episodes(split):
            assert prompt_leaks(prompts.ask_for_plan(episode.context), episode) == []
            assert episode.plans["true"]
