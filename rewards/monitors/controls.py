"""Texts in a plan's place that a reward should not pay for."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

from envs.types import Episode


def random_texts(episodes: Sequence[Episode], plans: Sequence[str]) -> list[str]:
    """For each plan as many words, drawn from the chapters of other books; always the same ones.

    It has the length of the plan and the words of the shelf, and says nothing. Where all episodes
    are of one book, words come from that book.
    """
    texts = []
    for episode, plan in zip(episodes, plans, strict=True):
        others = [e for e in episodes if e.book_id != episode.book_id] or episodes
        words = [word for other in others for word in other.chapter.text.split()]
        seed = hashlib.sha256(episode.episode_id.encode()).digest()
        texts.append(" ".join(random.Random(seed).choices(words, k=len(plan.split()))))
    return texts
