"""Settings of `nextchapter prepare`; nothing heavy is loaded with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field

from train.preparing.wording import Wording

Words = Annotated[int, Field(gt=0)]
Most = Annotated[int, Field(gt=0)] | None
Share = Annotated[float, Field(gt=0, lt=1)]
# An answer that is longer than asked for is kept up to so many times that length.
SLACK = 1.5
# Several summaries have to be read at once, or summing them up comes to no end.
READ_AT_ONCE = 4


@dataclass(frozen=True)
class ShelfConfig:
    """Which books, and how they are split; the same split as that of `data=bookshelf`."""

    paths: Annotated[list[str], Field(min_length=1)]
    """Files, folders and datasets (`hf:<name or path>`) with books."""
    validation_share: Share = 0.12
    test_share: Share = 0.18
    max_chapters: Annotated[int, Field(gt=1)] | None = None
    """Only the first so many chapters of each book; empty for all."""


@dataclass(frozen=True)
class LengthConfig:
    """Lengths in words."""

    max_words_read: Words = 3000
    """Longest text that an agent is shown at once; longer chapters are cut into pieces. A local
    model is shown less where its window holds less."""
    chapter_summary: Words = 150
    story_summary: Words = 500
    """What happened before the chapter; as long as the chapters' summaries are no longer together,
    they stand as they are."""
    synopsis: Words = 100
    outline: Words = 300

    def __post_init__(self) -> None:
        longest = max(self.chapter_summary, self.story_summary, self.synopsis, self.outline)
        if self.max_words_read < READ_AT_ONCE * longest:
            raise ValueError(
                f"lengths.max_words_read: should be at least {READ_AT_ONCE} times the longest "
                f"summary ({longest} words); got {self.max_words_read}. Raise it, or ask for less"
            )


@dataclass(frozen=True)
class SheetConfig:
    """Character sheets; 0 characters leave them out."""

    num_characters: Annotated[int, Field(ge=0)] = 3
    """Sheets beside each chapter: those who were in most of the chapters before it."""
    max_listed: Annotated[int, Field(gt=0)] = 6
    """People of a piece of text about whom statements are asked for."""
    max_statements: Annotated[int, Field(gt=0)] = 5
    """Statements in each category of a sheet; the latest are kept."""


@dataclass(frozen=True)
class HindsightConfig:
    """What is made from the chapter itself or later ones, and marked as such."""

    synopsis: bool = False
    """What the chapter is about, from the chapter."""
    outline: bool = False
    """What the whole story is, from all chapters."""


@dataclass(frozen=True)
class PrepareBudget:
    """What the whole preparation may cost; what would exceed it is not asked, and counted."""

    max_calls: Most = None
    """Answers, of agents and of the entailment check together; empty for any number."""
    max_generated_tokens: Most = None
    """Tokens generated beyond which nobody is asked again; empty for any number."""


@dataclass(frozen=True)
class PrepareConfig:
    """One preparation; its folder holds the rows and a manifest."""

    run_dir: str
    data: ShelfConfig
    wording: Wording
    entailment: Mapping[str, Any]
    """What tells whether a text proves a statement."""
    agent: Mapping[str, Any] | None = None
    """Who reads and writes; a node with `_target_`."""
    lengths: LengthConfig = field(default_factory=LengthConfig)
    sheets: SheetConfig = field(default_factory=SheetConfig)
    hindsight: HindsightConfig = field(default_factory=HindsightConfig)
    num_previous_chapters: Annotated[int, Field(ge=0)] = 1
    """Chapters just before the target that stand in its context whole."""
    include_story_text: bool = False
    """Repeat the whole book, the target included, in `story_text` of each row, as the published
    rows do. No reader of ours uses it."""
    budget: PrepareBudget = field(default_factory=PrepareBudget)
    batch_size: Annotated[int, Field(gt=0)] = 64
    """Questions handed to the agent at once; a kill loses no more answers than these."""
    cache_dir: str = ".cache/nextchapter"
    """Where answers are kept for every later preparation."""
    experiment_name: str = "prepare"
    seed: Annotated[int, Field(ge=0)] = 0
    """Decides which book is in which split."""
