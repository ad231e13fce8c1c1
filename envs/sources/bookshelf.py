"""Real books as a source: everything that a run needs, from the files alone, without labels.

What may be known before a chapter is extracted, not written: the names met so far, opening
sentences of the earlier chapters, and the pages just before. Plans name what a chapter uses.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from envs.books import read_shelf
from envs.sources.salient import Lexicon, all_words, first_sentence, last_words, stretches
from envs.sources.word_plans import PARTS, WordPlan
from envs.types import Book, Chapter, Episode, Section, Split, StoryContext

Count = Annotated[int, Field(gt=0)]
Budget = Annotated[int, Field(ge=0)] | None
Share = Annotated[float, Field(ge=0, le=1)]
# Stretches of this many words are the documents over which rarity is counted.
LEXICON_STRETCH_WORDS = 150


@dataclass(frozen=True)
class BookshelfSource:
    """Episodes from books in files, split by book; the first chapter has none before it."""

    paths: Annotated[list[str], Field(min_length=1)]
    """Files, folders and datasets (`hf:<name or path>`) with books."""
    seed: int = 0
    """Decides which book is in which split, and every draw of plans."""
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.12
    """Share of the books kept for tuning, rounded, at least one book."""
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.18
    """Share of the books kept for testing, rounded, at least one book."""
    generator_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the training books, rounded, that the generator learns to write from; the agent then
    learns from the others alone. Of a book that it has learned from, a small generator knows who
    appears, and a plan that tells it so is worth nothing there. Empty: both learn from all."""
    max_gold_words: Count | None = None
    """The chapter is scored up to so many words; empty for all of it."""
    max_previous_words: Budget = None
    """Words of the pages just before; empty for the whole previous chapter."""
    max_digest_words: Budget = 400
    """Words of the opening sentences of earlier chapters, latest first; 0 leaves them out."""
    max_characters: Annotated[int, Field(ge=0)] = 12
    """Names of the cast so far, by frequency; 0 leaves them out."""
    max_plan_names: Count = 6
    max_plan_words: Count = 12
    min_word_stretches: Annotated[int, Field(ge=0)] = 8
    """A word may stand in a plan if at least so many 150-word stretches of the shelf hold it ..."""
    max_word_share: Annotated[float, Field(gt=0, le=1)] = 0.03
    """... and at most this share of them."""
    planless_share: Share = 0.2
    """Share of the generator's samples without a plan."""
    noisy_share: Share = 0.5
    """Share of the plans in the generator's samples that are thinned and partly wrong."""
    num_demonstrations: Count = 1500
    """Answers for the warm start, over all training books."""

    def __post_init__(self) -> None:
        if self.validation_share + self.test_share >= 1:
            raise ValueError(
                "validation_share + test_share must leave books to train on; got "
                f"{self.validation_share} + {self.test_share}. Lower one of them."
            )

    def books(self, split: Split) -> list[Book]:
        """The books of a split, in the order of the shelf."""
        return [book for book in self._shelf if self._split_of[book.book_id] == split]

    def episodes(self, split: Split) -> list[Episode]:
        kept_back = self._generator_books if self.generator_share is not None else ()
        return [
            self._episode(page, self._reference_plans(page))
            for page in self._pages(split)
            if page.is_opening and page.book_id not in kept_back
        ]

    def writing_samples(self) -> list[tuple[Episode, str]]:
        """The generator's books, stretch by stretch, not their chapters' openings alone."""
        rng = random.Random(f"writing/{self.seed}")
        pages = [page for page in self._pages("train") if page.book_id in self._generator_books]
        plans = [self._plan(page.gold.text) for page in pages]
        return [
            (self._episode(page), self._shown_plan(plan, rng.choice(plans), rng))
            for page, plan in zip(pages, plans, strict=True)
        ]

    def demonstrations(self, marker: str) -> list[tuple[Episode, str]]:
        """Names, then a plan of names and rare words, all quoted from x at random."""
        rng = random.Random(f"demonstrations/{self.seed}")
        pages = [page for page in self._pages("train") if page.cast]
        chosen = [rng.choice(pages) for _ in range(self.num_demonstrations)]
        return [
            (self._episode(page), self._uninformed_answer(page, marker, rng)) for page in chosen
        ]

    def key(self) -> Mapping[str, object]:
        settings = {k: v for k, v in dataclasses.asdict(self).items() if k != "paths"}
        # The books as they were read: neither where they lie nor what format they have matters.
        text = json.dumps([dataclasses.asdict(book) for book in self._shelf])
        return {
            "source": "bookshelf",
            **settings,
            "books": hashlib.sha256(text.encode()).hexdigest(),
        }

    @functools.cached_property
    def _shelf(self) -> tuple[Book, ...]:
        shelf = read_shelf(self.paths)
        if shelf.episode_sources:
            raise ValueError(
                f"data.paths: {shelf.episode_sources[0].path} holds ready episodes, not books; "
                "read it with data=published"
            )
        if len(shelf.books) < 3:
            raise ValueError(
                f"data.paths: {len(shelf.books)} books cannot be split into train, validation and "
                "test; give at least three"
            )
        return shelf.books

    @functools.cached_property
    def _split_of(self) -> dict[str, Split]:
        """The split of each book, by a hash of its id: the same on every machine."""
        ids = sorted(
            (book.book_id for book in self._shelf),
            key=lambda book_id: hashlib.sha256(f"{self.seed}/{book_id}".encode()).hexdigest(),
        )
        num_test = max(1, round(self.test_share * len(ids)))
        num_held_out = num_test + max(1, round(self.validation_share * len(ids)))
        if num_held_out >= len(ids):
            raise ValueError(
                f"data.paths: {len(ids)} books leave none to train on when {num_held_out} are held "
                "out; add books, or lower data.validation_share or data.test_share"
            )
        test, validation, train = ids[:num_test], ids[num_test:num_held_out], ids[num_held_out:]
        return {
            **dict.fromkeys(test, "test"),
            **dict.fromkeys(validation, "validation"),
            **dict.fromkeys(train, "train"),
        }

    @functools.cached_property
    def _generator_books(self) -> frozenset[str]:
        """The training books that the generator learns from."""
        ids = [book_id for book_id, split in self._split_of.items() if split == "train"]
        if self.generator_share is None:
            return frozenset(ids)
        num_books = round(self.generator_share * len(ids))
        if not 0 < num_books < len(ids):
            raise ValueError(
                f"data.generator_share: {self.generator_share} of {len(ids)} training books leaves "
                "the generator or the agent without one; add books, or choose another share"
            )
        return frozenset(ids[:num_books])

    @functools.cached_property
    def _lexicon(self) -> Lexicon:
        """Counted over the training books alone."""
        return Lexicon.of(
            stretch
            for book in self.books("train")
            for chapter in book.chapters
            for stretch in stretches(chapter.text, LEXICON_STRETCH_WORDS)
        )

    @functools.cached_property
    def _pages_of_split(self) -> dict[Split, list[_Page]]:
        return {}

    def _pages(self, split: Split) -> list[_Page]:
        if split not in self._pages_of_split:
            only_openings = split != "train"
            self._pages_of_split[split] = [
                page
                for book in self.books(split)
                for page in _pages_of(book, self, self._lexicon)
                if page.is_opening or not only_openings
            ]
        return self._pages_of_split[split]

    def _episode(self, page: _Page, plans: Mapping[str, str] | None = None) -> Episode:
        return Episode(page.episode_id, page.context, page.gold, plans or {})

    def _plan(self, text: str, known: set[str] | None = None) -> WordPlan:
        """What the text uses; with `known`, only what is also in there."""
        names = self._lexicon.names(text)
        words = self._rare_words(text)
        if known is not None:
            names = [name for name in names if name in known]
            words = [word for word in words if word in known]
        return WordPlan(tuple(names[: self.max_plan_names]), tuple(words[: self.max_plan_words]))

    def _rare_words(self, text: str) -> list[str]:
        return self._lexicon.rare_words(text, self.min_word_stretches, self.max_word_share)

    def _reference_plans(self, page: _Page) -> dict[str, str]:
        true = self._plan(page.gold.text)
        other = self._plan(self._chapter_of_another_book(page).text)
        return {
            "true": str(true),
            "inferable": str(self._plan(page.gold.text, known=page.words)),
            **{f"true_but_{part}": str(true.spoilt(part, other)) for part in PARTS},
        }

    def _chapter_of_another_book(self, page: _Page) -> Chapter:
        rng = random.Random(f"other/{self.seed}/{page.episode_id}")
        book = rng.choice([b for b in self._shelf if b.book_id != page.book_id])
        chapter = rng.choice(book.chapters)
        return dataclasses.replace(chapter, text=stretches(chapter.text, self.max_gold_words)[0])

    def _shown_plan(self, true: WordPlan, other: WordPlan, rng: random.Random) -> str:
        if rng.random() < self.planless_share:
            return ""
        return str(true.thinned(other, rng) if rng.random() < self.noisy_share else true)

    def _uninformed_answer(self, page: _Page, marker: str, rng: random.Random) -> str:
        words = self._rare_words(page.context_text)
        plan = WordPlan(
            _some(page.cast, rng.randint(1, self.max_plan_names), rng),
            _some(words, rng.randint(0, self.max_plan_words), rng),
        )
        return f"So far: {', '.join(_some(page.cast, 3, rng))}. {marker} {plan}"


@dataclass(frozen=True)
class _Page:
    """A stretch of a book that is to be foretold, with what stands before it."""

    episode_id: str
    is_opening: bool
    context: StoryContext
    cast: tuple[str, ...]
    gold: Chapter

    @property
    def book_id(self) -> str:
        return self.episode_id.rsplit("/", 1)[0]

    @property
    def context_text(self) -> str:
        return "\n".join(section.text for section in self.context.sections)

    @property
    def words(self) -> set[str]:
        return all_words(self.context_text)


def _pages_of(book: Book, settings: BookshelfSource, lexicon: Lexicon) -> Iterator[_Page]:
    """Every stretch of every chapter but the first; a chapter's opening carries its heading."""
    names = lexicon.name_counts(book.chapters[0].text)
    sentences = [first_sentence(book.chapters[0].text)]
    for index in range(1, len(book.chapters)):
        chapter = book.chapters[index]
        before = last_words(book.chapters[index - 1].text, settings.max_previous_words)
        for number, text in enumerate(stretches(chapter.text, settings.max_gold_words)):
            cast = tuple(name for name, _ in names.most_common(settings.max_characters))
            sections = (
                Section("Book", f"{book.title} by {book.author}" if book.author else book.title),
                Section("Characters", ", ".join(cast)),
                Section("Story so far", _latest(sentences, settings.max_digest_words)),
                Section("Previous pages", before),
            )
            yield _Page(
                episode_id=f"{book.book_id}/{index}" + (f".{number}" if number else ""),
                is_opening=number == 0,
                context=StoryContext(tuple(section for section in sections if section.text)),
                cast=cast,
                gold=Chapter("" if number else chapter.title, text),
            )
            names.update(lexicon.name_counts(text))
            gap = " " if number else "\n\n"
            before = last_words(f"{before}{gap}{text}", settings.max_previous_words)
        sentences.append(first_sentence(chapter.text))


def _latest(sentences: Sequence[str], max_words: int | None) -> str:
    """The latest sentences that together stay within `max_words`, in order."""
    kept: list[str] = []
    left = float("inf") if max_words is None else max_words
    for sentence in reversed(sentences):
        left -= len(sentence.split())
        if left < 0:
            break
        kept.append(sentence)
    return " ".join(reversed(kept))


def _some(found: Sequence[str], num: int, rng: random.Random) -> tuple[str, ...]:
    """Up to `num` of them, in random order."""
    return tuple(rng.sample(found, min(len(found), num)))
