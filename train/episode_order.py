"""Which episode is played when: shuffled passes over all of them, or as a curriculum picks.

A trainer reads the whole run as one long list, position by position. So the order is a function of
the seed and of what a checkpoint holds, and a resumed run goes on with the very next episode.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from accelerate.utils import gather_object

from envs.types import Episode, Rollout
from rewards.types import Score
from train.cache import digest
from train.curriculum import Curriculum

# A data loader reads one batch ahead, so a rollout is drawn before the last one is done with.
ROLLOUTS_REMEMBERED = 4

Shuffle = Callable[[int, int, int], list[int]]
"""The order of a pass, as places: of a seed, the number of the pass and the number of episodes."""


def as_trl_shuffles(seed: int, pass_number: int, num_episodes: int) -> list[int]:
    """The permutation at this place in the row that one generator draws."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(pass_number):
        torch.randperm(num_episodes, generator=generator)
    return torch.randperm(num_episodes, generator=generator).tolist()


class EpisodeOrder:
    """The episodes of a run, `episodes_per_rollout` for each of `num_rollouts` rollouts.

    A pass is a permutation of all episodes; what is left of it when a rollout no longer fits is
    not played in that pass.
    """

    def __init__(
        self,
        episodes: Sequence[Episode],
        episodes_per_rollout: int,
        num_rollouts: int,
        seed: int,
        curriculum: Curriculum | None = None,
        shuffle: Shuffle = as_trl_shuffles,
    ) -> None:
        if len(episodes) < episodes_per_rollout:
            raise ValueError(
                f"trainer: {episodes_per_rollout} episodes are played at once, and there are only "
                f"{len(episodes)} to train on; lower trainer.episodes_per_step (of PPO, "
                "episodes_per_rollout), or give more books"
            )
        self.episodes = list(episodes)
        self.episodes_per_rollout = episodes_per_rollout
        self.num_rollouts = num_rollouts
        self.seed = seed
        self.curriculum = curriculum
        self.shuffle = shuffle
        self._place = {e.episode_id: place for place, e in enumerate(self.episodes)}
        self._drawn: dict[int, list[int]] = {}
        self._next_rollout = 0
        self._pass_number = -1
        self._left: list[int] = []

    @property
    def passes_per_rollout(self) -> float:
        """Which part of all episodes one rollout plays."""
        return self.episodes_per_rollout / len(self.episodes)

    def __len__(self) -> int:
        return self.num_rollouts * self.episodes_per_rollout

    def __getitem__(self, position: int) -> Episode:
        """The episode at a position; positions of one rollout or the next, not long ago."""
        rollout, place = divmod(position, self.episodes_per_rollout)
        while self._next_rollout <= rollout:
            self._drawn[self._next_rollout] = self._draw()
            self._drawn.pop(self._next_rollout - ROLLOUTS_REMEMBERED, None)
            self._next_rollout += 1
        return self.episodes[self._drawn[rollout][place]]

    def observe(self, rollouts: Sequence[Rollout], scores: Sequence[Score]) -> None:
        """Tells the curriculum what all processes' rollouts were worth; all of them call it."""
        if self.curriculum is None:
            return
        rewards: defaultdict[str, list[float]] = defaultdict(list)
        for episode_id, reward in gather_object([(s.episode_id, s.reward) for s in scores]):
            rewards[episode_id].append(reward)
        self.curriculum.observe(rewards)

    def state(self) -> dict[str, Any]:
        return {
            "episodes": self._identity(),
            "next_rollout": self._next_rollout,
            "pass_number": self._pass_number,
            "left": self._left,
            "drawn": {str(rollout): places for rollout, places in self._drawn.items()},
            "curriculum": None if self.curriculum is None else self.curriculum.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        if state["episodes"] != self._identity():
            raise ValueError(
                "data: the training episodes are not those of the checkpoint; take back what "
                "changed them, or begin a new run"
            )
        self._next_rollout = state["next_rollout"]
        self._pass_number = state["pass_number"]
        self._left = list(state["left"])
        self._drawn = {int(rollout): places for rollout, places in state["drawn"].items()}
        if self.curriculum is not None and state["curriculum"] is not None:
            self.curriculum.restore(state["curriculum"])

    def _identity(self) -> str:
        """Digest of which episodes these are, and how many are played at once."""
        return digest([self.episodes_per_rollout, *self._place])

    def _draw(self) -> list[int]:
        picked = self._pick() if self._left else []
        if len(picked) < self.episodes_per_rollout:
            self._pass_number += 1
            self._left = self.shuffle(self.seed, self._pass_number, len(self.episodes))
            picked = self._pick()
            chosen = set(picked)
            picked += [place for place in self._left if place not in chosen]
            picked = picked[: self.episodes_per_rollout]
        gone = set(picked)
        self._left = [place for place in self._left if place not in gone]
        return picked

    def _pick(self) -> list[int]:
        count = self.episodes_per_rollout
        if self.curriculum is None:
            return self._left[:count]
        left = [self.episodes[place] for place in self._left]
        return [
            self._place[e.episode_id] for e in self.curriculum.pick(left, count, self._pass_number)
        ]
