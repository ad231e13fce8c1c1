"""Generate, verify, refine: a draft is checked and written again until it is accepted."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from envs.collaboration.collaboration import Collaboration, Note, turns_of
from envs.collaboration.table import Play, Table
from envs.types import PlanStatus, Turn

DRAFTER, VERIFIER, REFINER = "drafter", "verifier", "refiner"


@dataclass(frozen=True)
class Feedback(Collaboration):
    """A drafter plans, a verifier says what is wrong, a refiner plans again, up to `rounds` times.

    A draft is accepted if the verifier's answer begins with `accept_word`, or if the plan that the
    verifier writes is the same. The last draft with a plan in it guides the generator.
    `ended/accepted` and `ended/rounds` say why a play ended.

    Trained: every role that the policy plays, by default all three, or those of them that
    `env.cast.trained` names. Cost: at most 1 + 2 · rounds answers a play. Failure: nobody writes a
    plan, or a verifier who is wrong spoils a good draft; a refinement that has no plan, or a cut
    one after a whole one, leaves the draft before as it was (`failed/refinement`).
    """

    rounds: Annotated[int, Field(gt=0)] = 2
    """Verifications at most."""
    accept_word: str = "ACCEPT"

    @property
    def most_turns(self) -> Mapping[str, int]:
        return {DRAFTER: 1, VERIFIER: self.rounds, REFINER: self.rounds}

    def converse(self, table: Table, plays: Sequence[Play]) -> None:
        drafts = table.round([self.ask_in(play, DRAFTER) for play in plays])
        left = list(zip(plays, drafts, strict=True))
        for _ in range(self.rounds):
            shown = [Note("Draft", self.content(draft)) for _, draft in left]
            found = table.round(
                [
                    self.ask_in(play, VERIFIER, [draft])
                    for (play, _), draft in zip(left, shown, strict=True)
                ]
            )
            refused = []
            for (play, draft), section, opinion in zip(left, shown, found, strict=True):
                if self._accepts(draft, opinion):
                    play.events["ended/accepted"] += 1
                else:
                    refused.append((play, draft, section, opinion))
            refined = table.round(
                [
                    self.ask_in(play, REFINER, [section, Note("Feedback", self.content(opinion))])
                    for play, _, section, opinion in refused
                ]
            )
            left = [
                (play, new or draft)
                for (play, draft, _, _), new in zip(refused, refined, strict=True)
            ]
        for play, _ in left:
            play.events["ended/rounds"] += 1

    def read(self, turns: Sequence[Turn]) -> tuple[str, PlanStatus]:
        return self.plan_of(turns_of(turns, DRAFTER, REFINER))

    def fallbacks(self, turns: Sequence[Turn]) -> Mapping[str, int]:
        drafts = turns_of(turns, DRAFTER, REFINER)
        lost = 0
        for number, turn in enumerate(drafts):
            plan, status = self.plan_of([turn])
            _, stands = self.plan_of(drafts[: number + 1])
            lost += turn.role == REFINER and (not plan or status is not stands)
        return {"failed/refinement": lost}

    def without(self, turns: Sequence[Turn], places: Collection[int]) -> list[Turn]:
        """Without a verifier's answer there would be no refinement after it."""
        followed = {turns[i].round + 1 for i in places if turns[i].role == VERIFIER}
        return [t for t in super().without(turns, places) if t.round not in followed]

    def _accepts(self, draft: str, opinion: str) -> bool:
        # In bold, quoted or with a full stop behind it, but not as the beginning of another word.
        said = re.match(rf"\W*{re.escape(self.accept_word)}\b", opinion, flags=re.IGNORECASE)
        return said is not None or (bool(draft) and self.note(opinion) == self.note(draft))
