"""Who is in a story: names as an agent lists them, and which of them are one person."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

_WORD = re.compile(r"[^\W\d_]+")
_BULLET = re.compile(r"^[\s\d.)*•–-]+")
_LONGEST_NAME_WORDS = 6


def listed_names(answer: str, text: str) -> list[str]:
    """The names in an answer, a line each, that the text holds, in order; once each.

    What is no name, or of which the text has no word, was made up.
    """
    found: dict[str, None] = {}
    known = set(_WORD.findall(text))
    for line in answer.splitlines():
        name = _BULLET.sub("", line).strip(" *_.,;:\"'")
        words = _WORD.findall(name)
        if words and len(words) <= _LONGEST_NAME_WORDS and name[0].isupper() and words[-1] in known:
            found.setdefault(" ".join(name.split()))
    return list(found)


def cast_of(names_by_chapter: Sequence[Sequence[str]]) -> dict[str, frozenset[str]]:
    """The people of these chapters, each with all names that mean them.

    First those who are in most chapters, then those who came last. A name whose words are all in
    one longer name means that person (`Holmes`, `Sherlock Holmes`); where they are in several, of
    which none holds the others, nobody can tell, and the name stands for itself (`Bennet`).
    """
    words = {name: _key(name) for names in names_by_chapter for name in names}
    aliases: dict[str, set[str]] = defaultdict(set)
    for name in words:
        aliases[_fullest(name, words)].add(name)
    person = {alias: fullest for fullest, own in aliases.items() for alias in own}
    chapters: Counter[str] = Counter()
    latest: dict[str, int] = {}
    for number, names in enumerate(names_by_chapter):
        for who in dict.fromkeys(person[name] for name in names):
            chapters[who] += 1
            latest[who] = number
    order = sorted(aliases, key=lambda who: (-chapters[who], -latest[who], who))
    return {who: frozenset(aliases[who]) for who in order}


def _fullest(name: str, words: dict[str, frozenset[str]]) -> str:
    longer = [other for other in words if words[name] < words[other]]
    longest = [one for one in longer if not any(words[one] < words[other] for other in longer)]
    # Two spellings of the same words are one name: the first of them stands for it.
    same = [other for other in words if words[other] == words[name]]
    distinct = {words[one] for one in longest}
    return longest[0] if len(distinct) == 1 else same[0]


def _key(name: str) -> frozenset[str]:
    return frozenset(word.lower() for word in _WORD.findall(name))
