"""The published next-chapter dataset as a source: ready episodes, one set of files per split.

Source of the fields: Gurung & Lapata 2025, arXiv 2503.22828.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, get_args

from pydantic import Field

from envs.books import read_shelf
from envs.types import Episode, Section, Split, StoryContext

Paths = Annotated[list[str], Field(min_length=1)]


@dataclass(frozen=True)
class PublishedSource:
    """Episodes from rows of the published fields: JSONL files, folders of them, or datasets.

    A row brings its own context. What it knows of the gold chapter or later (the outline of the
    whole story, the synopsis and the heading of the chapter) is marked as hindsight.
    """

    train: Paths
    """Files, folders or `hf:<name or path>:<split>` with the episodes to learn from."""
    validation: Paths
    test: Paths

    def episodes(self, split: Split) -> list[Episode]:
        return list(self._splits[split])

    def writing_samples(self) -> list[tuple[Episode, str]]:
        """The training episodes without a plan: nobody has written any for them."""
        return [(episode, "") for episode in self._splits["train"]]

    def demonstrations(self, marker: str) -> list[tuple[Episode, str]]:
        raise ValueError(
            "data: published episodes come without demonstrations; start from an instruction-tuned "
            "model with warm_start=null"
        )

    def key(self) -> Mapping[str, object]:
        text = json.dumps(
            {
                split: [dataclasses.asdict(episode) for episode in episodes]
                for split, episodes in self._splits.items()
            }
        )
        return {"source": "published", "episodes": hashlib.sha256(text.encode()).hexdigest()}

    @functools.cached_property
    def _splits(self) -> dict[Split, tuple[Episode, ...]]:
        splits: dict[Split, tuple[Episode, ...]] = {
            split: _read(split, getattr(self, split)) for split in get_args(Split)
        }
        split_of: dict[str, Split] = {}
        for split, episodes in splits.items():
            for episode in episodes:
                first = split_of.setdefault(episode.book_id, split)
                if first != split:
                    raise ValueError(
                        f"data.{split}: the story {episode.book_id!r} is also in data.{first}; "
                        "keep every story in one split"
                    )
        return splits


def _read(split: Split, paths: list[str]) -> tuple[Episode, ...]:
    shelf = read_shelf(paths)
    if shelf.books:
        raise ValueError(
            f"data.{split}: {shelf.entries[0].path} holds books, not episodes of the published "
            "fields; read it with data=bookshelf"
        )
    return tuple(_with_heading(episode) for episode in shelf.episodes)


def _with_heading(episode: Episode) -> Episode:
    """The published prompt ends with the heading of the chapter to be written."""
    if not episode.chapter.title:
        return episode
    heading = Section("Heading of the next chapter", episode.chapter.title, hindsight=True)
    context = StoryContext((*episode.context.sections, heading))
    return dataclasses.replace(episode, context=context)
