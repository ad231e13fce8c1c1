"""An endless shelf of small books whose next chapter can be worked out by reasoning.

Each book has a cast (name, trait, goal, trusted friend), things that are left in places, and open
threads: debts, promises, lost things, secrets and journeys that come due after some days. A chapter
resolves one thread, and four rules decide how:

1. the thread that comes due first is the one that the next chapter is about;
2. it happens where the thread's thing was last left;
3. the owner's trusted friend comes along;
4. the owner's trait decides what the owner does.

Each rule is followed with probability `rule_strength`, so the next chapter is largely, never fully,
inferable from the story so far. What else a chapter holds (weather, luck, who carries what where,
which thread opens next) is chance. Names are pairs of syllables; the test split uses pairs that the
training split never shows. Prose is in `storyworld_prose.py`.
"""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from envs import storyworld_prose as prose
from envs.types import Chapter, Episode, Section, Split, StoryContext

T = TypeVar("T")
CAST_SIZE = 4
OPEN_THREADS = 3
LONGEST_WAIT_DAYS = 9


@dataclass(frozen=True)
class Character:
    name: str
    trait: str
    goal: str
    friend: str


@dataclass(frozen=True)
class Thread:
    """Something open that comes due on `due_day`; `thing` is what it is about."""

    kind: str
    owner: str
    thing: str
    due_day: int


@dataclass(frozen=True)
class Placement:
    """`mover` left `thing` at `place`."""

    mover: str
    thing: str
    place: str


@dataclass(frozen=True)
class Happening:
    """What a chapter does with a thread: the hidden decision that a plan tries to foretell."""

    owner: str
    kind: str
    thing: str
    place: str
    ally: str
    reaction: str


# The parts of a plan: a thread is its owner, kind and thing.
PARTS = ("thread", "place", "ally", "reaction")


@dataclass(frozen=True)
class Turn:
    """One chapter of a book: the world before it, what it does, and its prose.

    `expected` is what the four rules say; `happening` is what the author really wrote.
    """

    cast: tuple[Character, ...]
    threads: tuple[Thread, ...]
    placements: tuple[Placement, ...]
    day: int
    expected: Happening
    happening: Happening
    chapter: Chapter

    @property
    def told_placements(self) -> list[Placement]:
        """What the summary tells of the open threads' things: the last two places of each."""
        things = {t.thing for t in self.threads}
        return [
            p
            for i, p in enumerate(self.placements)
            if p.thing in things and sum(q.thing == p.thing for q in self.placements[i:]) <= 2
        ]


@functools.cache
def names_of_split(split: Split) -> tuple[str, ...]:
    """Names by split: of ten syllable pairs eight are for training, one for each other split.

    A model that has seen most pairs has no prior against the rest, so it can learn to copy names.
    """
    remainders = {"train": range(8), "validation": (8,), "test": (9,)}[split]
    return tuple(
        first + second
        for i, first in enumerate(prose.FIRST_SYLLABLES)
        for j, second in enumerate(prose.SECOND_SYLLABLES)
        if (i + j) % 10 in remainders
    )


def distinct_names(rng: random.Random, names: Sequence[str]) -> list[str]:
    """A cast that a reader can tell apart: no two names begin with the same letter."""
    chosen: list[str] = []
    while len(chosen) < CAST_SIZE:
        name = rng.choice(names)
        if all(name[0] != other[0] for other in chosen):
            chosen.append(name)
    return chosen


def rng_of(*parts: object) -> random.Random:
    """A generator seeded by what it is for, the same on every machine and Python version."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))


class Simulation:
    """One book in the making: `turns(n)` plays n chapters of it."""

    def __init__(self, rng: random.Random, names: Sequence[str], rule_strength: float) -> None:
        self.rng = rng
        self.rule_strength = rule_strength
        self.day = 0
        chosen = distinct_names(rng, names)
        traits = rng.sample(sorted(prose.REACTION_OF_TRAIT), CAST_SIZE)
        goals = rng.sample(prose.GOALS, CAST_SIZE)
        self.cast = tuple(
            Character(name, trait, goal, rng.choice([n for n in chosen if n != name]))
            for name, trait, goal in zip(chosen, traits, goals, strict=True)
        )
        self.threads: list[Thread] = []
        self.placements: list[Placement] = []
        while len(self.threads) < OPEN_THREADS:
            self._open_thread()
        self._place(rng.choice(self.threads).thing)

    def turns(self, num_chapters: int) -> Iterator[Turn]:
        for number in range(1, num_chapters + 1):
            yield self._play_chapter(number)

    def expected(self) -> Happening:
        """What the four rules say will happen next."""
        return self._rules_for(min(self.threads, key=lambda t: t.due_day))

    def _rules_for(self, thread: Thread) -> Happening:
        owner = next(c for c in self.cast if c.name == thread.owner)
        return Happening(
            owner=owner.name,
            kind=thread.kind,
            thing=thread.thing,
            place=next(p.place for p in reversed(self.placements) if p.thing == thread.thing),
            ally=owner.friend,
            reaction=prose.REACTION_OF_TRAIT[owner.trait],
        )

    def _decide(self) -> tuple[Thread, Happening]:
        """The author's choice: the rules, each broken now and then."""
        thread = self._mostly(min(self.threads, key=lambda t: t.due_day), self.threads)
        ruled = self._rules_for(thread)
        others = [c.name for c in self.cast if c.name != thread.owner]
        return thread, replace(
            ruled,
            place=self._mostly(ruled.place, prose.PLACES),
            ally=self._mostly(ruled.ally, others),
            reaction=self._mostly(ruled.reaction, sorted(prose.REACTION_OF_TRAIT.values())),
        )

    def _mostly(self, ruled: T, options: Sequence[T]) -> T:
        if self.rng.random() < self.rule_strength:
            return ruled
        return self.rng.choice([o for o in options if o != ruled])

    def _play_chapter(self, number: int) -> Turn:
        before = (self.cast, tuple(self.threads), tuple(self.placements), self.day)
        expected = self.expected()
        thread, happening = self._decide()
        self.threads.remove(thread)
        self.day = thread.due_day
        self._postpone_late_threads()
        opened = self._open_thread()
        placed = self.placements[-1]
        self._place(self.rng.choice(self.threads).thing)
        goal = next(c.goal for c in self.cast if c.name == happening.owner)
        text = prose.chapter_text(self.rng, happening, goal, opened, placed)
        title = prose.chapter_title(number)
        return Turn(*before, expected, happening, Chapter(title, text))

    def _postpone_late_threads(self) -> None:
        """A thread that the author passed over is late: it stays open and comes due next."""
        day = self.day
        for thread in sorted(self.threads, key=lambda t: t.due_day):
            day = max(thread.due_day, day + 1)
            self.threads[self.threads.index(thread)] = replace(thread, due_day=day)

    def _open_thread(self) -> Thread:
        """Open threads share nothing: neither kind nor owner, neither thing nor day."""
        days = range(self.day + 1, self.day + LONGEST_WAIT_DAYS + 1)
        thread = Thread(
            kind=self._unused("kind", prose.KINDS),
            owner=self._unused("owner", [c.name for c in self.cast]),
            thing=self._unused("thing", prose.THINGS),
            due_day=self._unused("due_day", days),
        )
        self.threads.append(thread)
        self._place(thread.thing)
        return thread

    def _unused(self, attribute: str, options: Sequence[T]) -> T:
        used = {getattr(thread, attribute) for thread in self.threads}
        return self.rng.choice([o for o in options if o not in used])

    def _place(self, thing: str) -> Placement:
        last = [p.place for p in self.placements if p.thing == thing][-1:]
        place = self.rng.choice([p for p in prose.PLACES if p not in last])
        placement = Placement(self.rng.choice(self.cast).name, thing, place)
        self.placements.append(placement)
        return placement


def uninformed_answer(turn: Turn, marker: str, rng: random.Random) -> str:
    """An answer in the right form whose every decision is a coin toss.

    It quotes three notes of the context, each drawn at random: an open thread, where anything was
    left, who anyone is. Then it claims that the trait it quoted shows in some way, drawn at random,
    and its plan says what it quoted and claimed: the form of a reasoned plan, without the reasons
    for what to quote and what to claim. Since nobody comes along with themselves, the owner is
    described a little more often (0.37) than one time in four.
    """
    thread = rng.choice(turn.threads)
    # Nobody comes along with themselves.
    sheet = rng.choice([c for c in turn.cast if c.friend != thread.owner])
    placement = rng.choice(turn.told_placements)
    guess = Happening(
        owner=thread.owner,
        kind=thread.kind,
        thing=thread.thing,
        place=placement.place,
        ally=sheet.friend,
        reaction=rng.choice(sorted(prose.REACTION_OF_TRAIT.values())),
    )
    quotes = prose.reasoning(thread, turn.day, placement, sheet, guess.reaction)
    plan = prose.plan(rng.randrange(prose.NUM_PLAN_WORDINGS), guess)
    return f"{quotes} {marker} {plan}"


def spoil(turn: Turn, part: str, rng: random.Random) -> Happening:
    """What the chapter does, except that one part of it is wrong."""
    true = turn.happening
    if part == "thread":
        # Nobody comes along with themselves, so not the ally's own thread; of three one is left.
        wrong = rng.choice([t for t in turn.threads if t.owner not in (true.owner, true.ally)])
        return replace(true, owner=wrong.owner, kind=wrong.kind, thing=wrong.thing)
    options = {
        "place": prose.PLACES,
        "ally": [c.name for c in turn.cast if c.name != true.owner],
        "reaction": sorted(prose.REACTION_OF_TRAIT.values()),
    }[part]
    return replace(true, **{part: rng.choice([o for o in options if o != getattr(true, part)])})


@dataclass(frozen=True)
class StoryWorld:
    """Books by split and number; the same on every machine for the same seed."""

    seed: int = 0
    chapters_per_book: int = 6
    rule_strength: float = 0.95

    def turns(self, split: Split, book: int) -> list[Turn]:
        rng = rng_of("storyworld", self.seed, split, book)
        simulation = Simulation(rng, names_of_split(split), self.rule_strength)
        return list(simulation.turns(self.chapters_per_book))

    def book(self, split: Split, book: int) -> list[tuple[Episode, Turn]]:
        """The episodes of one book: every chapter but the first, which has none before it."""
        turns = self.turns(split, book)
        book_id = f"storyworld-{self.seed}-{split}-{book}"
        return [
            (_episode(f"{book_id}/{index}", turns[index - 1], turns[index]), turns[index])
            for index in range(1, len(turns))
        ]


def _episode(episode_id: str, previous: Turn, turn: Turn) -> Episode:
    rng = rng_of("storyworld-notes", episode_id)
    context = StoryContext(
        (
            Section("Story so far", prose.summary(rng, turn)),
            Section("Characters", prose.character_sheets(turn.cast)),
            Section("Previous chapter", previous.chapter.text),
        )
    )
    # All plans of an episode share one wording, so that they differ in nothing but content.
    wording = rng.randrange(prose.NUM_PLAN_WORDINGS)
    happenings = {
        "true": turn.happening,
        "inferable": turn.expected,
        **{f"true_but_{part}": spoil(turn, part, rng) for part in PARTS},
    }
    plans = {name: prose.plan(wording, happening) for name, happening in happenings.items()}
    return Episode(episode_id, context, turn.chapter, plans)
