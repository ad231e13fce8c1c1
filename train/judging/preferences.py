"""Who is preferred on one dimension: within each pair of options, and all options on one scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from train.judging.bradley_terry import (
    Array,
    are_connected,
    bradley_terry,
    has_finite_strengths,
)
from train.judging.davidson import davidson, has_finite_davidson
from train.judging.intervals import Estimate, estimate, wilson
from train.judging.judgments import TIE, Vote

# S resamples, C clusters (items or annotators), O options.


@dataclass(frozen=True)
class Tally:
    """The votes of one dimension, counted for each cluster: `wins_COO[c, i, j]` for i over j."""

    options: tuple[str, ...]
    wins_COO: Array
    ties_COO: Array
    num_unanswered: int

    @classmethod
    def count(
        cls, votes: Sequence[Vote], options: Sequence[str], cluster_of_vote: Sequence[int]
    ) -> Tally:
        place = {name: number for number, name in enumerate(options)}
        shape = (max(cluster_of_vote) + 1, len(options), len(options))
        wins_COO, ties_COO = np.zeros(shape), np.zeros(shape)
        for vote, cluster in zip(votes, cluster_of_vote, strict=True):
            i, j = (place[name] for name in vote.judgment.options)
            if vote.winner == TIE:
                ties_COO[cluster, [i, j], [j, i]] += 1
            elif vote.winner is not None:
                winner = place[vote.winner]
                wins_COO[cluster, winner, j if winner == i else i] += 1
        unanswered = sum(vote.winner is None for vote in votes)
        return cls(tuple(options), wins_COO, ties_COO, unanswered)


@dataclass(frozen=True)
class PairPreference:
    """Two options side by side; chances are of `first` being preferred over `second`."""

    first: str
    second: str
    wins: int
    losses: int
    ties: int
    probability: Estimate
    """Bradley-Terry of these two alone, ties dropped: wins / (wins + losses)."""
    probability_wilson: tuple[float, float] | None
    """Its interval if all votes were independent."""
    probability_half_ties: Estimate
    """A tie as half a win: what Davidson's model gives for two options, a tie shared."""

    def as_json(self) -> dict[str, Any]:
        return {
            "first": self.first,
            "second": self.second,
            "wins": self.wins,
            "losses": self.losses,
            "ties": self.ties,
            "probability": {
                **self.probability.as_json(),
                "wilson95": self.probability_wilson and list(self.probability_wilson),
            },
            "probability_half_ties": self.probability_half_ties.as_json(),
        }


@dataclass(frozen=True)
class Strengths:
    """All options on one scale; they sum to 1. `tie_weight` is Davidson's v.

    `is_finite` says that the votes alone fix them, and `num_not_finite` in how many resamples they
    do not; a hundredth of a win either way then stands in for what was not observed.
    """

    by_option: Mapping[str, Estimate]
    is_finite: bool
    num_not_finite: int
    tie_weight: Estimate | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "strengths": {name: found.as_json() for name, found in self.by_option.items()},
            **({"tie_weight": self.tie_weight.as_json()} if self.tie_weight else {}),
            "finite": self.is_finite,
            "resamples_not_finite": self.num_not_finite,
        }


@dataclass(frozen=True)
class Preferences:
    """One dimension. The models are None where options fall into groups never compared."""

    pairs: tuple[PairPreference, ...]
    bradley_terry: Strengths | None
    davidson: Strengths | None
    num_unanswered: int

    def as_json(self) -> dict[str, Any]:
        return {
            "votes_without_answer": self.num_unanswered,
            "pairs": [pair.as_json() for pair in self.pairs],
            "bradley_terry_ties_dropped": self.bradley_terry and self.bradley_terry.as_json(),
            "davidson": self.davidson and self.davidson.as_json(),
        }


def preferences(tally: Tally, weights_SC: Array) -> Preferences:
    """Everything about one dimension, with intervals from resamples of the clusters."""
    # The votes as they were cast go before the resamples, so that all are computed alike.
    weights_SC = np.concatenate((np.ones((1, weights_SC.shape[1])), weights_SC))
    wins_SOO = np.tensordot(weights_SC, tally.wins_COO, axes=1)
    ties_SOO = np.tensordot(weights_SC, tally.ties_COO, axes=1)
    num_clusters = weights_SC.shape[1]
    return Preferences(
        tuple(_pairs(tally.options, wins_SOO, ties_SOO, num_clusters)),
        _bradley_terry(tally.options, wins_SOO, num_clusters),
        _davidson(tally.options, wins_SOO, ties_SOO, num_clusters),
        tally.num_unanswered,
    )


def _pairs(
    options: Sequence[str], wins_SOO: Array, ties_SOO: Array, num_clusters: int
) -> list[PairPreference]:
    found = []
    for (i, first), (j, second) in combinations(enumerate(options), 2):
        wins_S, losses_S, ties_S = wins_SOO[:, i, j], wins_SOO[:, j, i], ties_SOO[:, i, j]
        wins, losses, ties = (round(float(counts[0])) for counts in (wins_S, losses_S, ties_S))
        if wins + losses + ties == 0:
            continue
        with np.errstate(invalid="ignore"):
            # 0 / 0, which is NaN: a resample without a vote on this pair.
            decided_S = wins_S / (wins_S + losses_S)
            shared_S = (wins_S + ties_S / 2) / (wins_S + losses_S + ties_S)
        found.append(
            PairPreference(
                *(first, second, wins, losses, ties),
                estimate(float(decided_S[0]), decided_S[1:], num_clusters),
                wilson(wins, wins + losses),
                estimate(float(shared_S[0]), shared_S[1:], num_clusters),
            )
        )
    return found


def _bradley_terry(options: Sequence[str], wins_SOO: Array, num_clusters: int) -> Strengths | None:
    compared_OO = (wins_SOO[0] + wins_SOO[0].T) > 0
    if not are_connected(compared_OO):
        return None
    strengths_SO = bradley_terry(wins_SOO, compared_OO)
    finite_S = has_finite_strengths(wins_SOO)
    return Strengths(
        _by_option(options, strengths_SO, num_clusters),
        bool(finite_S[0]),
        int((~finite_S[1:]).sum()),
    )


def _davidson(
    options: Sequence[str], wins_SOO: Array, ties_SOO: Array, num_clusters: int
) -> Strengths | None:
    compared_OO = (wins_SOO[0] + wins_SOO[0].T + ties_SOO[0]) > 0
    # Were all votes ties, the weight of ties would have no largest value.
    if not are_connected(compared_OO) or not wins_SOO[0].any():
        return None
    strengths_SO, weight_S = davidson(wins_SOO, ties_SOO, compared_OO)
    finite_S = has_finite_davidson(wins_SOO, ties_SOO)
    return Strengths(
        _by_option(options, strengths_SO, num_clusters),
        bool(finite_S[0]),
        int((~finite_S[1:]).sum()),
        estimate(float(weight_S[0]), weight_S[1:], num_clusters),
    )


def _by_option(
    options: Sequence[str], strengths_SO: Array, num_clusters: int
) -> dict[str, Estimate]:
    return {
        name: estimate(float(found_S[0]), found_S[1:], num_clusters)
        for name, found_S in zip(options, strengths_SO.T, strict=True)
    }
