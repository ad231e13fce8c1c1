"""The words of the story world: vocabulary, plans, summaries, character sheets and chapters.

Plans and chapters have several wordings, drawn at random, so that a model has to learn what is said
rather than one string; the notes of the context have one each, so that they can be quoted. Nothing
here decides what happens; `storyworld.py` does.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envs.storyworld import Character, Happening, Placement, Thread, Turn

FIRST_SYLLABLES = [
    "Al", "Bra", "Cor", "Do", "El", "Fe", "Go", "Ha", "Il", "Ji", "Ka", "Li", "Ma", "Ne", "Or",
    "Pe", "Qua", "Ru", "Sa", "Te", "Ul", "Vi", "Wy", "Xa", "Yo", "Zu", "Bel", "Car", "Dri",
    "Fan", "Gre", "Hol", "Jun", "Kel", "Lor", "Mis", "Nal", "Pro", "Ros", "Tam",
]  # fmt: skip
SECOND_SYLLABLES = [
    "lin", "ra", "dan", "mo", "sek", "tha", "vel", "nor", "bi", "gus", "ta", "rik", "son",
    "wen", "la", "mir", "do", "fay", "shu", "po", "ven", "nia", "dor", "lis", "mund", "bert",
    "ryn", "das", "tor", "zel", "ka", "net", "ford", "gar", "hild", "ssa", "wick", "yan", "phi",
    "quin",
]  # fmt: skip
PLACES = ["mill", "inn", "harbour", "chapel", "bridge", "market", "tower", "orchard"]
THINGS = ["ring", "map", "key", "lamp", "book", "cup", "sword", "bell"]
GOALS = ["gold", "peace", "fame", "wisdom", "justice", "freedom", "rest", "adventure"]
KINDS = ["debt", "promise", "search", "secret", "journey"]
REACTION_OF_TRAIT = {
    "proud": "refuse",
    "gentle": "forgive",
    "timid": "flee",
    "greedy": "bargain",
    "clever": "lie",
    "bold": "fight",
}
NUMBERS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve",
]  # fmt: skip

_PLANS = (
    "The {kind} of {owner} over the {thing} ends at the {place} with {ally}. "
    "{owner} will {reaction}.",
    "At the {place}, with {ally}, the {kind} of {owner} over the {thing} ends. "
    "{owner} will {reaction}.",
)
NUM_PLAN_WORDINGS = len(_PLANS)
_DUE = (
    "The {kind} of {owner} over the {thing} could wait no longer.",
    "The day had come for {owner}, and the {kind} over the {thing} was due.",
    "{owner} woke early and thought of the {thing} and the {kind}.",
    "All night {owner} had feared the {kind} over the {thing}.",
)
_GOING = (
    "With {ally} close behind, the way led to the {place}.",
    "{ally} came too, and they met at the {place}.",
    "At the {place} stood {ally}, ready to help.",
    "So {owner} and {ally} went to the {place}.",
)
_REACTIONS = {
    "refuse": (
        "{owner} chose to refuse and turned away.",
        "To refuse was easy for {owner}.",
        "Nothing could stop {owner}, who would refuse to the end.",
    ),
    "forgive": (
        "{owner} chose to forgive and smiled.",
        "To forgive was all that {owner} wanted.",
        "There {owner} did forgive, and wept.",
    ),
    "flee": (
        "{owner} chose to flee in the dark.",
        "To flee was the only thought of {owner}.",
        "There {owner} did flee, and hid.",
    ),
    "bargain": (
        "{owner} chose to bargain for more.",
        "To bargain was second nature to {owner}.",
        "There {owner} did bargain until dark.",
    ),
    "lie": (
        "{owner} chose to lie to them all.",
        "To lie was a game to {owner}.",
        "There {owner} did lie, and was believed.",
    ),
    "fight": (
        "{owner} chose to fight and stood firm.",
        "To fight was the only way for {owner}.",
        "There {owner} did fight, and won a scar.",
    ),
}
_LUCK = (
    "It went well.",
    "It ended badly.",
    "Rain began to fall.",
    "The crowd fell silent.",
    "Far away a dog barked.",
    "Nobody spoke of it again.",
)
_GOAL = (
    "Still {owner} dreamed of {goal}.",
    "And {goal} seemed far from {owner}.",
    "Only {goal} would content {owner}.",
)
_OPENED = (
    "By evening {mover} left the {thing} at the {place}, and a {kind} of {owner} began.",
    "Later {mover} took the {thing} to the {place}, for {owner} had a new {kind}.",
)
# Notes have one wording each, and what they tell stands two or three words after something that
# no other note of their kind shares: a small model can quote them word for word.
_PLACED = "The {thing} reached the {place}."
_STANDS = "In {days} {owner}: {kind}, {thing}."
_SHEET = "{name} is {trait}, trusts {friend}."
_WISH = "{name} wants {goal}."
_MAXIM = "The {trait} {reaction}."


def plan(wording: int, happening: Happening) -> str:
    """The plan in one of its wordings; which one says nothing about the happening."""
    return _PLANS[wording % len(_PLANS)].format(**vars(happening))


def reasoning(
    thread: Thread, day: int, placement: Placement, character: Character, reaction: str
) -> str:
    """Three notes of the context, word for word, and what is concluded from the last one."""
    return " ".join(
        (
            thread_line(thread, day),
            placement_line(placement),
            character_line(character),
            _MAXIM.format(trait=character.trait, reaction=reaction),
        )
    )


def wait_in_days(thread: Thread, day: int) -> str:
    wait = thread.due_day - day
    return "one day" if wait == 1 else f"{NUMBERS[wait]} days"


def thread_line(thread: Thread, day: int) -> str:
    return _STANDS.format(days=wait_in_days(thread, day), **vars(thread))


def placement_line(placement: Placement) -> str:
    return _PLACED.format(**vars(placement))


def character_line(character: Character) -> str:
    return _SHEET.format(**vars(character))


def summary(rng: random.Random, turn: Turn) -> str:
    """Where each open thread's thing was left, oldest first, then the open threads in any order."""
    threads = rng.sample(turn.threads, len(turn.threads))
    lines = [placement_line(p) for p in turn.told_placements]
    lines += [thread_line(t, turn.day) for t in threads]
    return " ".join(lines)


def character_sheets(cast: Sequence[Character]) -> str:
    """Who each is and whom they trust, then what each wants."""
    return " ".join([*map(character_line, cast), *(_WISH.format(**vars(c)) for c in cast)])


def chapter_title(number: int) -> str:
    return f"Chapter {NUMBERS[number]}"


def chapter_text(
    rng: random.Random, happening: Happening, goal: str, opened: Thread, placed: Placement
) -> str:
    """The chapter's prose: the happening, then luck, a wish, and the thread that opens."""
    said = vars(happening)
    sentences = (
        rng.choice(_DUE).format(**said),
        rng.choice(_GOING).format(**said),
        rng.choice(_REACTIONS[happening.reaction]).format(**said),
        rng.choice(_LUCK),
        rng.choice(_GOAL).format(owner=happening.owner, goal=goal),
        rng.choice(_OPENED).format(**vars(opened), mover=placed.mover, place=placed.place),
    )
    return " ".join(sentences)
