"""When two books are the same book: the same work in two editions or two file formats."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from envs.types import Book

# "Frankenstein; or, The Modern Prometheus": the second title belongs to the same book. A part
# after a colon may tell volumes of a series apart, so it stays.
_SECOND_TITLE = re.compile(r"\s*[;,:\n]\s*or\b[\s,]+.*", re.IGNORECASE | re.DOTALL)
_SUBTITLE = re.compile(r"\s*(?::|;|\s[–—-]\s).*", re.DOTALL)
_ARTICLES = ("the-", "a-", "an-")

# Two editions share most runs of eight words; two different books share next to none.
_RUN_WORDS = 8
_SAME_TEXT_SHARE = 0.2


def slug(text: str) -> str:
    """Lower-case ASCII words joined by hyphens; other scripts keep their letters."""
    decomposed = unicodedata.normalize("NFKD", text)
    plain = "".join(c for c in decomposed if not unicodedata.combining(c)).lower()
    return "-".join(re.findall(r"[^\W_]+", re.sub("['\u2019\u02bc]", "", plain)))


def surname(author: str) -> str:
    """The last word of the first author's name, or what stands before a comma."""
    first = re.split(r"\s*(?:;|&|\band\b)\s*", author.strip())[0]
    name = first.split(",")[0] if "," in first else (first.split() or [""])[-1]
    return slug(name)


def make_book_id(title: str, author: str) -> str:
    """An id that editions of one book share: `shelley_frankenstein`."""
    main = slug(_SECOND_TITLE.sub("", title)) or "untitled"
    name = surname(author)
    return f"{name}_{main}" if name else main


def same_title_and_author(one: Book, other: Book) -> bool:
    """Whether title and surname agree; a subtitle that only one of the two has does not count."""
    if not one.title or not other.title or surname(one.author) != surname(other.author):
        return False
    full = [_title_key(_SECOND_TITLE.sub("", book.title)) for book in (one, other)]
    main = [_title_key(_SUBTITLE.sub("", book.title)) for book in (one, other)]
    return full[0] == full[1] or (main[0] == main[1] and any(f == main[0] for f in full))


def work_key(book: Book) -> tuple[str, str]:
    """What books have in common that `same_title_and_author` holds together."""
    return surname(book.author), _title_key(_SUBTITLE.sub("", _SECOND_TITLE.sub("", book.title)))


def share_text(one: Book, other: Book, share: float = _SAME_TEXT_SHARE) -> bool:
    """Whether two books are two forms of one text: `share` of their runs of words agree."""
    runs, other_runs = set(_runs(one)), set(_runs(other))
    smaller = min(len(runs), len(other_runs))
    if smaller == 0:  # too short to compare by runs
        return [c.text.split() for c in one.chapters] == [c.text.split() for c in other.chapters]
    return len(runs & other_runs) >= share * smaller


def _title_key(title: str) -> str:
    key = slug(title)
    for article in _ARTICLES:
        key = key.removeprefix(article)
    return key


def _runs(book: Book) -> Iterator[tuple[str, ...]]:
    words = slug(" ".join(chapter.text for chapter in book.chapters)).split("-")
    for start in range(len(words) - _RUN_WORDS + 1):
        yield tuple(words[start : start + _RUN_WORDS])
