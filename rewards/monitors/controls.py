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
    said = [(episode.book_id, episode.chapter.text.split()) for episode in episodes]
    texts: list[str] = []
    book, words = None, []
    for episode, plan in zip(episodes, plans, strict=True):
        # The chapters of a book stand together and draw from the same words.
        if episode.book_id != book:
            book = episode.book_id
            others = [own for other, own in said if other != book] or [own for _, own in said]
            words = [word for own in others for word in own]
        seed = hashlib.sha256(episode.episode_id.encode()).digest()
        texts.append(" ".join(random.Random(seed).choices(words, k=len(plan.split()))))
    return texts
