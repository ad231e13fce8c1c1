"""The story world: the same everywhere, inferable but not given away, and demonstrated blindly."""

from __future__ import annotations

import hashlib
import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from envs import storyworld_prose as prose
from envs.sources.storyworld import StoryWorldSource
from envs.storyworld import (
    PARTS,
    Character,
    Happening,
    Placement,
    Simulation,
    StoryWorld,
    Thread,
    Turn,
    names_of_split,
    spoil,
    uninformed_answer,
)
from envs.types import Episode, Split

REACTIONS = sorted(prose.REACTION_OF_TRAIT.values())
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def turns(num_books: int, seed: int = 5) -> list[Turn]:
    world = StoryWorld(seed)
    return [turn for book in range(num_books) for turn in world.turns("train", book)]


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def the_one(found: Sequence[str], options: Sequence[str]) -> str:
    (option,) = {word for word in found if word in options}
    return option


def test_a_seed_is_one_world_in_every_process() -> None:
    script = (
        "import hashlib\nfrom envs.storyworld import StoryWorld\n"
        "print(hashlib.sha256(repr(StoryWorld(3).book('test', 1)).encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for hash_seed in ("1", "2")
    }
    here = hashlib.sha256(repr(StoryWorld(3).book("test", 1)).encode()).hexdigest()
    assert digests == {here}


def test_another_seed_split_or_book_is_another_story(world: StoryWorldSource) -> None:
    chapters = [
        tuple(turn.chapter.text for turn in StoryWorld(seed).turns(split, book))
        for seed in (0, 1)
        for split in SPLITS
        for book in (0, 1)
    ]
    assert len(set(chapters)) == 2 * 3 * 2
    assert world.episodes("test") == replace(world).episodes("test")


def test_every_stage_has_books_of_its_own(world: StoryWorldSource) -> None:
    stages = [
        [e for e, _ in world.writing_samples()],
        [e for e, _ in world.demonstrations("In summary:")],
        *(world.episodes(split) for split in SPLITS),
    ]
    books = [{episode.book_id for episode in episodes} for episodes in stages]
    assert [len(ids) for ids in books] == [6, 4, 4, 2, 3]
    assert len(set.union(*books)) == 6 + 4 + 4 + 2 + 3
    # Six chapters a book, the first of which has none before it.
    assert [len(episodes) for episodes in stages] == [30, 20, 20, 10, 15]


def test_no_name_is_in_two_splits() -> None:
    names = [set(names_of_split(split)) for split in SPLITS]
    assert len(set.union(*names)) == sum(len(each) for each in names)
    for split in SPLITS:
        told = {c.name for turn in StoryWorld(0).turns(split, 0) for c in turn.cast}
        assert told <= set(names_of_split(split))


def test_the_four_rules_by_hand() -> None:
    story = Simulation(random.Random(0), names_of_split("train"), rule_strength=1.0)
    story.cast = (
        Character("Ann", "proud", "gold", friend="Bob"),
        Character("Bob", "timid", "rest", friend="Cid"),
        Character("Cid", "bold", "fame", friend="Ann"),
    )
    story.threads = [
        Thread("debt", "Ann", "ring", due_day=5),
        Thread("secret", "Bob", "map", due_day=2),
        Thread("search", "Cid", "key", due_day=9),
    ]
    story.placements = [
        Placement("Ann", "map", "mill"),
        Placement("Cid", "ring", "inn"),
        Placement("Bob", "map", "tower"),
        Placement("Ann", "key", "chapel"),
    ]
    # Bob's thread comes due first; the map was last left at the tower; Bob trusts Cid and is timid.
    expected = Happening("Bob", "secret", "map", place="tower", ally="Cid", reaction="flee")
    assert story.expected() == expected
    assert next(story.turns(1)).happening == expected


def test_the_author_follows_each_rule_as_often_as_stated() -> None:
    followed: Counter[str] = Counter()
    found = turns(500)
    for turn in found:
        owner = next(c for c in turn.cast if c.name == turn.happening.owner)
        last = [p.place for p in turn.placements if p.thing == turn.happening.thing][-1]
        followed["thread"] += turn.happening.owner == turn.expected.owner
        followed["place"] += turn.happening.place == last
        followed["ally"] += turn.happening.ally == owner.friend
        followed["reaction"] += turn.happening.reaction == prose.REACTION_OF_TRAIT[owner.trait]
    # 3000 chapters at 95 %: four standard deviations are 1.6 points.
    assert {part: n / len(found) for part, n in followed.items()} == pytest.approx(
        dict.fromkeys(PARTS, 0.95), abs=0.016
    )


def test_the_inferable_plan_can_be_worked_out_from_the_context_alone(
    world: StoryWorldSource,
) -> None:
    for episode in world.episodes("test"):
        assert read_plan(episode.plans["inferable"]) == reason(episode)


def test_a_chapter_mentions_every_part_of_what_happens() -> None:
    for turn in turns(100):
        assert set(vars(turn.happening).values()) <= set(words(turn.chapter.text))


def test_a_spoilt_plan_differs_in_its_part_alone(world: StoryWorldSource) -> None:
    vocabulary = {"place": prose.PLACES, "reaction": REACTIONS, "ally": names_of_split("test")}
    thread_words = {*prose.KINDS, *prose.THINGS, *names_of_split("test")}
    for episode in world.episodes("test"):
        true = words(episode.plans["true"])
        for part in PARTS:
            pairs = zip(true, words(episode.plans[f"true_but_{part}"]), strict=True)
            changed = {word for pair in pairs if len(set(pair)) == 2 for word in pair}
            assert changed, f"{episode.episode_id}: {part} is not spoilt"
            assert changed <= set(vocabulary.get(part, thread_words))


def test_a_spoilt_thread_is_another_open_one() -> None:
    rng = random.Random(0)
    for turn in turns(50):
        wrong = spoil(turn, "thread", rng)
        assert (wrong.owner, wrong.kind, wrong.thing) in {
            (t.owner, t.kind, t.thing) for t in turn.threads if t.owner != turn.happening.owner
        }
        assert wrong.ally != wrong.owner
        true = turn.happening
        assert (wrong.place, wrong.ally, wrong.reaction) == (true.place, true.ally, true.reaction)


def test_demonstrations_know_nothing_of_what_happens() -> None:
    rng, found = random.Random(0), turns(500)
    right: dict[str, list[bool]] = {part: [] for part in PARTS}
    chance: dict[str, list[float]] = {part: [] for part in PARTS}
    for turn in found:
        true = turn.happening
        plan = read_plan(uninformed_answer(turn, "PLAN", rng).rpartition("PLAN")[2])
        # Whoever draws any note of the context is right so often.
        friends = [c.friend for c in turn.cast if c.friend != plan.owner]
        places = [p.place for p in turn.told_placements]
        options = {
            "thread": [thread.owner for thread in turn.threads],
            "place": places,
            "ally": friends,
            "reaction": REACTIONS,
        }
        for part, drawn_from in options.items():
            named = "owner" if part == "thread" else part
            wanted = getattr(true, named)
            right[part].append(getattr(plan, named) == wanted)
            chance[part].append(drawn_from.count(wanted) / len(drawn_from))
    for part in PARTS:
        variance = sum(p * (1 - p) for p in chance[part])
        surprise = (sum(right[part]) - sum(chance[part])) / variance**0.5
        assert abs(surprise) < 4, part


def test_demonstrations_quote_notes_of_the_context_word_for_word() -> None:
    source = StoryWorldSource(demonstration_books=20)
    for episode, answer in source.demonstrations("PLAN"):
        context = "\n".join(section.text for section in episode.context.sections)
        quotes = answer.partition(" PLAN ")[0].split(". ")
        assert len(quotes) == 4
        assert all(quote in context for quote in quotes[:3])
        assert quotes[3] not in context


def test_notes_can_be_told_apart() -> None:
    for turn in turns(100):
        for attribute in ("kind", "owner", "thing", "due_day"):
            assert len({getattr(thread, attribute) for thread in turn.threads}) == 3


def test_writing_samples_have_no_plan_or_a_wrong_part_as_often_as_stated() -> None:
    source = StoryWorldSource(writing_books=300, planless_share=0.3, plan_noise=0.1)
    pairs = source.writing_samples()
    planned = [(episode, plan) for episode, plan in pairs if plan]
    # 1500 samples and about 1050 plans of four parts: four standard deviations each.
    assert 1 - len(planned) / len(pairs) == pytest.approx(0.3, abs=0.048)
    right = sum(read_plan(p) == read_plan(e.plans["true"]) for e, p in planned)
    assert right / len(planned) == pytest.approx(0.9**4, abs=0.06)


def test_whatever_changes_the_books_changes_the_key(world: StoryWorldSource) -> None:
    assert world.key() == replace(world).key()
    for change in ({"seed": 9}, {"rule_strength": 0.5}, {"writing_books": 7}):
        assert replace(world, **change).key() != world.key()


def read_plan(plan: str) -> Happening:
    """The happening that a plan tells of; its owner is the name that stands in it twice."""
    found = words(plan)
    fixed = {
        "kind": the_one(found, prose.KINDS),
        "thing": the_one(found, prose.THINGS),
        "place": the_one(found, prose.PLACES),
        "reaction": the_one(found, REACTIONS),
    }
    names = Counter(w for w in found if w[0].isupper() and w not in {"The", "At"})
    (owner, _), (ally, _) = names.most_common(2)
    return Happening(owner=owner, ally=ally, **fixed)


def reason(episode: Episode) -> Happening:
    """A perfect reasoner: reads the context as text and follows the four rules."""
    so_far, characters, _ = (section.text for section in episode.context.sections)
    sheets = [words(line) for line in characters.split(".") if line.strip()]
    cast = {sheet[0] for sheet in sheets}
    due: list[tuple[int, list[str]]] = []
    left_at: dict[str, str] = {}
    for line in (words(sentence) for sentence in so_far.split(".") if sentence.strip()):
        if set(line) & set(prose.KINDS):
            due.append((prose.NUMBERS.index(the_one(line, prose.NUMBERS)), line))
        else:
            left_at[the_one(line, prose.THINGS)] = the_one(line, prose.PLACES)
    _, thread = min(due)
    owner, thing = the_one(thread, sorted(cast)), the_one(thread, prose.THINGS)
    sheet = next(sheet for sheet in sheets if sheet[0] == owner)
    return Happening(
        owner=owner,
        kind=the_one(thread, prose.KINDS),
        thing=thing,
        place=left_at[thing],
        ally=sheet[sheet.index("trusts") + 1],
        reaction=prose.REACTION_OF_TRAIT[the_one(sheet, list(prose.REACTION_OF_TRAIT))],
    )
