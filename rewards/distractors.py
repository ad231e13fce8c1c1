"""Other chapters for the contrastive reward: the same ones for an episode, whenever it comes up."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from heapq import nsmallest

from envs.types import Episode


class Distractors:
    """Picks other episodes for an episode, from a pool; by their names alone.

    They come from other books, because a chapter of the same book may stand in the context itself;
    where the pool has one book, from other chapters of it. Each pair of names has a place in an
    order of its own (a hash), so the choice depends on no seed, no process and no order of calls.
    """

    def __init__(self, pool: Sequence[Episode]) -> None:
        self.pool = pool
        self._chosen: dict[tuple[str, int], list[Episode]] = {}

    def of(self, episode: Episode, count: int) -> list[Episode]:
        """`count` other episodes.

        Raises:
            ValueError: the pool has fewer.
        """
        key = (episode.episode_id, count)
        if key not in self._chosen:
            self._chosen[key] = self._choose(episode, count)
        return self._chosen[key]

    def _choose(self, episode: Episode, count: int) -> list[Episode]:
        elsewhere = [e for e in self.pool if e.book_id != episode.book_id]
        in_book = [e for e in self.pool if e.episode_id != episode.episode_id]
        found = elsewhere if len(elsewhere) >= count else in_book
        if len(found) < count:
            raise ValueError(
                f"episode {episode.episode_id}: the contrastive reward wants {count} other "
                f"chapters, and there are {len(found)}; lower num_distractors, or give more books"
            )
        return nsmallest(count, found, key=lambda e: _place(episode.episode_id, e.episode_id))


def _place(episode_id: str, other_id: str) -> bytes:
    return hashlib.sha256(f"{episode_id}\n{other_id}".encode()).digest()
