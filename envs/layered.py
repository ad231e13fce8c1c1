"""Layers of agents that read each other, with a score of how much each of them mattered.

Source of the method: Liu et al. 2024 (DyLAN), arXiv 2310.02170.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from envs.collaboration.agreement import overlap, words
from envs.collaboration.collaboration import Collaboration
from envs.collaboration.table import Play, Table
from envs.types import PlanStatus, Section, Turn

# A layer agrees where more than so large a part of it says the same.
CONSENSUS = 2 / 3
_RATING = re.compile(r"\b(?:agent[ _]?)?(\d+)\s*[:=]\s*([0-5])\b", re.IGNORECASE)


@dataclass(frozen=True)
class Layered(Collaboration):
    """Each layer's agents read the plans of the layer before, rate them and plan anew; then a vote.

    From the third layer on only the `kept` agents with the best ratings speak. A play ends early
    where more than two thirds of a layer say the same (`ended/agreement`). It costs at most
    `width` · `layers` answers. `importance` says how much of the end goes back to each agent. It
    fails like a debate: agents that read each other come to agree, rightly or not.
    """

    width: Annotated[int, Field(ge=2)] = 3
    """Agents of the first two layers."""
    layers: Annotated[int, Field(gt=0)] = 3
    kept: Annotated[int, Field(gt=0)] = 2
    """Agents of every layer after the second."""
    rated_by: Literal["agreement", "numbers"] = "agreement"
    """An agent rates a plan that it read by how many words of it it takes up, or by numbers in its
    answer (`2: 5` gives agent 2 five of five); where it gives none, by the former, and that is
    counted (`failed/rating`)."""

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

    def importance(self, turns: Sequence[Turn]) -> dict[str, float]:
        """What each agent contributed to the end, over all layers; every layer's shares sum to 1.

        In the last layer the agents who said what was chosen share alike; what an agent has goes
        back to those whom it read, by its ratings of them.
        """
        plan, _ = self.read(turns)
        last = _last_layer(turns)
        same = [words(self._said(turn)) == words(plan) for turn in last]
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

    def _read_by(self, play: Play) -> list[Section]:
        """What the next layer reads."""
        return [
            Section(f"Plan of {turn.role.replace('_', ' ')}", self._said(turn))
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
            if self.rated_by == "numbers" and not _RATING.search(reader.reply.text):
                play.events["failed/rating"] += 1
            for turn, rating in zip(read, self._ratings(reader, read), strict=True):
                rated[turn.role] += rating
        best = sorted(names, key=lambda name: -rated[name])[: self.kept]
        return [name for name in names if name in best]

    def _ratings(self, reader: Turn, read: Sequence[Turn]) -> list[float]:
        given = dict(_RATING.findall(reader.reply.text)) if self.rated_by == "numbers" else {}
        if given:
            return [float(given.get(turn.role.rpartition("_")[2], 0)) for turn in read]
        return [overlap(self._said(reader), self._said(turn)) for turn in read]


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
