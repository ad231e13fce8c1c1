"""What a line says when it stands where a heading stands: a chapter, a part, or something else."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

_ROMAN = r"(?=[MDCLXVI])M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})"
_UNITS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_TEENS = [
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen",
    "eighteen", "nineteen",
]  # fmt: skip
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_ORDINALS = [
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth",
    "tenth", "eleventh", "twelfth",
]  # fmt: skip
_NUMBER_WORDS = (
    {word: n for n, word in enumerate(_UNITS, 1)}
    | {word: n for n, word in enumerate(_TEENS, 10)}
    | {word: 10 * n for n, word in enumerate(_TENS, 2)}
    | {f"{ten}{glue}{unit}": 10 * t + u for t, ten in enumerate(_TENS, 2)
       for u, unit in enumerate(_UNITS, 1) for glue in ("-", " ")}
    | {word: n for n, word in enumerate(_ORDINALS, 1)}
    | {f"the {word}": n for n, word in enumerate(_ORDINALS, 1)}
)  # fmt: skip
# Longest first, so that `twenty-one` is not read as `twenty`.
_WORDS = "|".join(sorted(_NUMBER_WORDS, key=len, reverse=True))
_NUMBER = rf"(?P<number>\d{{1,3}}|{_ROMAN}|(?:{_WORDS})\b)"
_SEPARATOR = r"(?P<separator>\s*[.:)\]]\s*[-–—]*\s*|\s*[-–—]+\s*|\s+|$)"
_CHAPTER_WORDS = r"CHAPTER|CHAP\.?|LETTER|STAVE|CANTO|TALE|NIGHT|ADVENTURE|EPISODE"
_PART_WORDS = r"PART|BOOK|VOLUME|VOL\.?"

_WORDED = re.compile(
    rf"(?P<kind>{_CHAPTER_WORDS})\s+(?:the\s+)?{_NUMBER}{_SEPARATOR}(?P<title>.*)", re.IGNORECASE
)
_LAST = re.compile(r"CHAPTER (?:THE )?LAST\b[.:—-]*\s*(?P<title>.*)", re.IGNORECASE)
_PART = re.compile(rf"(?P<kind>{_PART_WORDS})\s+{_NUMBER}{_SEPARATOR}(?P<title>.*)", re.IGNORECASE)
_NAMED = re.compile(
    r"(?P<kind>prologue|epilogue|interlude|finale|conclusion)\s*(?:[.:—-]+\s*(?P<title>.*))?",
    re.IGNORECASE,
)
_BARE = re.compile(rf"(?:§\s*)?(?P<number>\d{{1,3}}|{_ROMAN})\.?")
_TITLED = re.compile(rf"(?P<number>\d{{1,3}}|{_ROMAN})(?:\s*[.:)]\s*|\s+[-–—]+\s*)(?P<title>\S.*)")

_MAX_TITLE_WORDS = 20
_SMALL_WORDS = {
    "a", "an", "and", "as", "at", "but", "by", "de", "for", "from", "his", "her", "in",
    "into", "is", "it", "its", "my", "nor", "of", "on", "or", "our", "so", "than", "that",
    "the", "their", "to", "upon", "was", "what", "when", "where", "which", "who", "whom",
    "with",
}  # fmt: skip
_QUOTES = "“”‘’\"'_*()[] "


class Family(enum.Enum):
    """How a heading says that it is one."""

    WORD = "word"  # CHAPTER I, Letter 2, Stave Three
    NAMED = "named"  # Prologue, Epilogue
    TITLED = "titled"  # I. A Scandal in Bohemia
    BARE = "bare"  # IV, 7
    PART = "part"  # PART ONE, Book the First


@dataclass(frozen=True)
class Heading:
    """A heading that was recognised: `label` as printed, `title` what follows its number."""

    family: Family
    kind: str
    number: int | None
    label: str
    title: str = ""


def parse_heading(line: str) -> Heading | None:
    """The heading that a line is, or None. The line is judged alone, not by where it stands."""
    line = line.strip().strip("_*=").strip()
    if not line or not (line[0].isupper() or line[0].isdigit() or line[0] == "§"):
        return None
    for family, pattern in ((Family.WORD, _WORDED), (Family.PART, _PART)):
        if (match := pattern.fullmatch(line)) and _title_fits(match):
            return _heading(family, match, line)
    if match := _LAST.fullmatch(line):
        return Heading(Family.WORD, "chapter", None, "Chapter the Last", match["title"].strip())
    if (match := _NAMED.fullmatch(line)) and len(line.split()) <= _MAX_TITLE_WORDS:
        kind = match["kind"]
        return Heading(Family.NAMED, kind.lower(), None, kind, (match["title"] or "").strip())
    if match := _BARE.fullmatch(line):
        return _heading(Family.BARE, match, line)
    if (match := _TITLED.fullmatch(line)) and looks_like_title(match["title"]):
        return _heading(Family.TITLED, match, line)
    return None


def looks_like_title(text: str) -> bool:
    """Whether a short text is a title: all capitals, or title case without a full stop."""
    words = text.split()
    bare = text.strip(_QUOTES)
    if not bare or len(words) > _MAX_TITLE_WORDS or "\n\n" in text:
        return False
    if bare.upper() == bare and any(c.isalpha() for c in bare):
        return True
    if bare[-1] in ".,;:!?…—-":
        return False
    weighty = [word.strip(_QUOTES + ".,;:!?—-") for word in words]
    weighty = [word for word in weighty if word and word.lower() not in _SMALL_WORDS]
    return bool(weighty) and all(word[0].isupper() or word[0].isdigit() for word in weighty)


def parse_number(text: str) -> int | None:
    """7, VII and seven are 7."""
    word = " ".join(text.lower().split())
    if word.isdigit():
        return int(word)
    if word in _NUMBER_WORDS:
        return _NUMBER_WORDS[word]
    return _roman(word) if re.fullmatch(_ROMAN, word.upper()) else None


def _roman(numeral: str) -> int:
    values = [dict(zip("ivxlcdm", (1, 5, 10, 50, 100, 500, 1000), strict=True))[c] for c in numeral]
    following = [*values[1:], 0]
    return sum(-v if v < after else v for v, after in zip(values, following, strict=True))


def _heading(family: Family, match: re.Match[str], line: str) -> Heading:
    groups = match.groupdict()
    title = (groups.get("title") or "").strip()
    label = line[: match.start("title")] if title else line
    return Heading(
        family,
        (groups.get("kind") or "").lower().rstrip("."),
        parse_number(match["number"]),
        label.strip(" .:—–-"),
        title,
    )


def _title_fits(match: re.Match[str]) -> bool:
    """`Chapter 3 was dull.` is prose: without a separator the title has to look like one."""
    title, separator = match["title"].strip(), match["separator"]
    if len(title.split()) > _MAX_TITLE_WORDS:
        return False
    return not title or bool(separator.strip()) or looks_like_title(title)
