"""Layers of agents that read each other, with a score of how much each of them mattered.

Source of the method: Liu et al. 2024 (DyLAN), arXiv 2310.02170. DyLAN's are the layers, the end
once more than two thirds of one agree, fewer agents in later ones, and the importance that goes
back through ratings. Not DyLAN's: ratings by shared words (`rated_by: agreement`, the default),
where its agents give numbers; agents kept by their ratings, where it asks a model to rank them;
and it chooses a team beforehand, by importance in a trial, which is left to the user here.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from envs.collaboration.agreement import overlap, words
from envs.collaboration.collaboration import Collaboration, Note
from envs.collaboration.table import Play, Table
from envs.types import PlanStatus, Turn

# A layer agrees where more than so large a part of it says the same.
CONSENSUS = 2 / 3
_RATING = re.compile(r"\b(?:agent[ _]?)?(\d+)[\s*]*[:=][\s*]*([0-5])\b(?:/5\b)?", re.IGNORECASE)
# A line of nothing but ratings: what else has a colon between numbers, such as the time of day, is
# part of a sentence, or no such rating.
_RATINGS = re.compile(
    rf"^[\W_]*{_RATING.pattern}(?:[\s,;|]+{_RATING.pattern})*[\s.*|]*$",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True)
class Layered(Collaboration):
    """Each layer's agents read the plans of the layer before, rate them and plan anew; then a vote.

    From the third layer on only the `kept` agents with the best ratings speak. A play ends early
    where more than two thirds of a layer say the same (`ended/agreement`). `importance` says how
    much of the end goes back to each agent.

    Trained: every agent that the policy plays, by default all, or those of them that
    `env.cast.trained` names. Cost: at most `width` · `layers` answers a play. Failure: as a
    debate's, agents that read each other come to agree, rightly or not; an agent of the last layer
    without a plan has no vote (`failed/vote`), and where none there has one, an earlier plan stands
    in (`failed/last_layer`).
    """

    width: Annotated[int, Field(ge=2)] = 3
    """Agents of the first two layers."""
    layers: Annotated[int, Field(gt=0)] = 3
    kept: Annotated[int, Field(gt=0)] = 2
    """Agents of every layer after the second."""
    rated_by: Literal["agreement", "numbers"] = "agreement"
    """An agent rates a plan that it read by how many words of it it takes up, or, as in DyLAN, by
    numbers, on lines of their own: `2: 5` gives agent 2 five of five. Who gives a number to none of
    those whom it read rates by the former, and is counted (`failed/rating`)."""

    @property
    def most_turns(self) -> Mapping[str, int]:
        every = min(2, self.layers)
        # Which agents stay is decided in the play, so any of them may speak in every layer.
        return dict.fromkeys(self._names, self.layers if self.layers > every else every)

    @property
    def most_trained_turns(self) -> int:
        learning = sum(map(self.cast.is_trained, self._names))
        late = max(0, self.layers - 2) * min(self.kept, learning)
        return learning * min(2, self.layers) + late

    def converse(self, table: Table, plays: Sequence[Play]) -> None:
        active = dict.fromkeys(plays, self._names)
        left = list(plays)
        for layer in range(1, self.layers + 1):
            if layer > 2:
                for play in left:
                    active[play] = self._best(play, active[play])
            table.round(
                [
                    self.ask_in(
                        play, name, self._read_by(play), None if layer == 1 else "agent_again"
                    )
                    for play in left
                    for name in active[play]
                ]
            )
            agreed = [play for play in left if self._agrees(play)]
            for play in agreed:
                play.events["ended/agreement"] += 1
            left = [play for play in left if play not in agreed]
        for play in left:
            play.events["ended/layers"] += 1

    def read(self, turns: Sequence[Turn]) -> tuple[str, PlanStatus]:
        chosen = self.voted(_last_layer(turns))
        return chosen if chosen[0] else self.plan_of(turns)

    def measures(self, turns: Sequence[Turn]) -> Mapping[str, float]:
        shares = self.importance(turns).items()
        return {f"importance/{name}": share for name, share in shares}

    def fallbacks(self, turns: Sequence[Turn]) -> Mapping[str, int]:
        votes = _last_layer(turns)
        silent = self.num_without_plan(votes)
        found = {"failed/vote": silent, "failed/last_layer": int(silent == len(votes))}
        if self.rated_by == "numbers":
            later = [turn for turn in turns if turn.round > 1]
            read = {turn.round: _layer(turns, turn.round - 1) for turn in later}
            rated = [self._numbers(reader, read[reader.round]) for reader in later]
            found["failed/rating"] = sum(not given for given in rated)
        return found

    def importance(self, turns: Sequence[Turn]) -> dict[str, float]:
        """What each agent contributed to the end, over all layers; every layer's shares sum to 1.

        In the last layer the agents who said what was chosen share alike; what an agent has goes
        back to those whom it read, by its ratings of them.
        """
        plan, _ = self.read(turns)
        last = _last_layer(turns)
        same = [words(self.content(turn.reply.text)) == words(plan) for turn in last]
        share = [s / sum(same) if any(same) else 1 / len(same) for s in same]
        total: dict[str, float] = defaultdict(float)
        for turn, part in zip(last, share, strict=True):
            total[turn.role] += part
        for number in range(last[0].round if last else 0, 1, -1):
            readers, read = _layer(turns, number), _layer(turns, number - 1)
            ratings = [self._ratings(reader, read) for reader in readers]
            share = passed_back(share, ratings)
            for turn, part in zip(read, share, strict=True):
                total[turn.role] += part
        return dict(total)

    @property
    def _names(self) -> list[str]:
        return [f"agent_{number}" for number in range(1, self.width + 1)]

    def _said(self, turn: Turn) -> str:
        return self.note(turn.reply.text.strip())

    def _read_by(self, play: Play) -> list[Note]:
        """What the next layer reads."""
        return [
            Note(f"Plan of {turn.role.replace('_', ' ')}", self.content(turn.reply.text.strip()))
            for turn in _last_layer(play.turns)
        ]

    def _agrees(self, play: Play) -> bool:
        said = [words(self._said(turn)) for turn in _last_layer(play.turns)]
        most = max((said.count(one) for one in said if one), default=0)
        return most > CONSENSUS * len(said)

    def _best(self, play: Play, names: Sequence[str]) -> list[str]:
        """The `kept` agents whose last plans were rated best; ties go to the first."""
        readers = _last_layer(play.turns)
        read = _layer(play.turns, readers[0].round - 1) if readers else []
        rated: dict[str, float] = defaultdict(float)
        for reader in readers:
            for turn, rating in zip(read, self._ratings(reader, read), strict=True):
                rated[turn.role] += rating
        best = sorted(names, key=lambda name: -rated[name])[: self.kept]
        return [name for name in names if name in best]

    def _ratings(self, reader: Turn, read: Sequence[Turn]) -> list[float]:
        if self.rated_by == "numbers" and (given := self._numbers(reader, read)):
            return [given.get(turn.role, 0.0) for turn in read]
        return [overlap(self._said(reader), self._said(turn)) for turn in read]

    def _numbers(self, reader: Turn, read: Sequence[Turn]) -> dict[str, float]:
        """The numbers that an answer gives those whom its author read."""
        known = {turn.role for turn in read}
        lines = [found[0] for found in _RATINGS.finditer(reader.reply.text)]
        given = {f"agent_{n}": float(points) for n, points in _RATING.findall("\n".join(lines))}
        return {role: points for role, points in given.items() if role in known}


def passed_back(share: Sequence[float], ratings: Sequence[Sequence[float]]) -> list[float]:
    """What the agents of a layer get from those who read them: each reader's share, by its ratings.

    A reader who rates nobody divides its share alike.
    """
    got = [0.0] * len(ratings[0])
    for part, own in zip(share, ratings, strict=True):
        total = sum(own)
        for place, rating in enumerate(own):
            got[place] += part * (rating / total if total else 1 / len(own))
    return got


def _layer(turns: Sequence[Turn], number: int) -> list[Turn]:
    return [turn for turn in turns if turn.round == number]


def _last_layer(turns: Sequence[Turn]) -> list[Turn]:
    return _layer(turns, max((turn.round for turn in turns), default=0))
