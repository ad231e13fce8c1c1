"""The agent as one who reads texts: cuts them to what it can read, and sums up what is longer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from envs.types import Conversation, Reply
from train.preparing.desk import Desk
from train.preparing.pieces import cut, whole_sentences
from train.preparing.settings import SLACK
from train.preparing.wording import TASKS, Wording

Fits = Callable[[Conversation], bool]
# Stands for what is filled into a task when it is tried whether a prompt fits.
_LONGEST_FILLING = " ".join(["something"] * 40)


@dataclass(frozen=True)
class Scribe:
    """Answers tasks about texts. `fits` says whether the agent's window holds a prompt."""

    desk: Desk[Conversation]
    wording: Wording
    max_words_read: int
    fits: Fits = lambda conversation: True

    def pieces(self, text: str) -> list[str]:
        """The text in pieces that fit beside any task."""
        return cut(text, self.max_words_read, self._fits)

    def ask(
        self, task: str, texts: Sequence[str], filled: Sequence[Mapping[str, object]] = ()
    ) -> list[Reply]:
        """The answer to the task about each text."""
        slots = filled or [{}] * len(texts)
        questions = [
            self.wording.ask(task, text, **own) for text, own in zip(texts, slots, strict=True)
        ]
        return self.desk.ask(task, questions)

    def condense(self, task: str, jobs: Sequence[Sequence[str]], words: int) -> list[str]:
        """What `task` makes of the parts of each job, in about `words` words.

        Parts that cannot be read at once are first retold, as many together as fit, until they can.
        A part that nobody retells is left out; of nothing, nothing is made.
        """
        done = [""] * len(jobs)
        open_jobs = {place: [part for part in parts if part] for place, parts in enumerate(jobs)}
        is_text = True
        while open_jobs := {place: parts for place, parts in open_jobs.items() if parts}:
            groups = {place: self._grouped(parts) for place, parts in open_jobs.items()}
            whole = [place for place, found in groups.items() if len(found) == 1]
            said = self._brief(task, [groups[place][0] for place in whole], words)
            for place, text in zip(whole, said, strict=True):
                done[place] = text
            split = [place for place in groups if place not in whole]
            if not is_text and any(len(groups[p]) == len(open_jobs[p]) for p in split):
                raise ValueError(
                    "lengths: several summaries do not fit into the agent's window at once; ask "
                    "for shorter ones, or lower agent.sampling.max_new_tokens"
                )
            told = iter(self._brief("part_summary", [g for p in split for g in groups[p]], words))
            open_jobs = {p: list(filter(None, [next(told) for _ in groups[p]])) for p in split}
            is_text = False
        return done

    def _brief(self, task: str, texts: Sequence[str], words: int) -> list[str]:
        """The answers, each cut to whole sentences where there is too much of it."""
        replies = self.ask(task, texts, [{"words": words}] * len(texts))
        return [self._cut(task, reply, words) for reply in replies]

    def _cut(self, task: str, reply: Reply, words: int) -> str:
        text, most = reply.text.strip(), int(SLACK * words)
        if not reply.truncated and len(text.split()) <= most:
            return text
        self.desk.tally.failures[task]["too_long"] += 1
        return whole_sentences(text, most)

    def _grouped(self, parts: Sequence[str]) -> list[str]:
        """Neighbouring parts joined, as many as are read at once."""
        groups: list[str] = []
        for part in parts:
            joined = f"{groups[-1]}\n\n{part}" if groups else part
            is_short = len(joined.split()) <= self.max_words_read
            if groups and is_short and self._fits(joined):
                groups[-1] = joined
            else:
                groups.append(part)
        return groups

    def _fits(self, text: str) -> bool:
        filled = dict.fromkeys(("name", "statement", "words"), _LONGEST_FILLING)
        return all(self.fits(self.wording.ask(task, text, **filled)) for task in TASKS)
