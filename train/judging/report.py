"""All that a set of judgments says, as one object that becomes a table or JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from train.judging.agreement import Agreement, agreement
from train.judging.association import Association, association
from train.judging.bradley_terry import are_connected, bradley_terry
from train.judging.intervals import resample_weights
from train.judging.judgments import DIMENSIONS, OVERALL, UNANSWERED, Judgment, Vote, cast_votes
from train.judging.position import PositionBias, position_bias
from train.judging.preferences import Preferences, Tally, preferences
from train.judging.settings import JudgingConfig
from train.progress import ProgressDisplay


@dataclass(frozen=True)
class DimensionReport:
    preferences: Preferences
    agreement: Agreement
    position: PositionBias
    association: Association
    unanswered: Mapping[str, int]
    """Judgments without an answer, by what stands in its place."""

    def as_json(self) -> dict[str, Any]:
        return {
            **self.preferences.as_json(),
            "agreement": self.agreement.as_json(),
            "position": self.position.as_json(),
            "improvement": self.association.as_json(),
            "judgments_without_answer": dict(self.unanswered),
        }


@dataclass(frozen=True)
class JudgmentReport:
    """`options` stand from the overall strongest to the weakest, where that is known."""

    options: tuple[str, ...]
    num_judgments: int
    num_items: int
    annotators: tuple[str, ...]
    resampled: str
    num_clusters: int
    num_resamples: int
    dimensions: Mapping[str, DimensionReport]

    def as_json(self) -> dict[str, Any]:
        return {
            "options": list(self.options),
            "judgments": self.num_judgments,
            "items": self.num_items,
            "annotators": list(self.annotators),
            "intervals": {
                "method": "percentile bootstrap over whole clusters",
                "cluster": self.resampled,
                "clusters": self.num_clusters,
                "resamples": self.num_resamples,
            },
            "dimensions": {name: found.as_json() for name, found in self.dimensions.items()},
        }


def judgment_report(
    judgments: Sequence[Judgment], config: JudgingConfig, seed: int, progress: ProgressDisplay
) -> JudgmentReport:
    """Every statistic on every dimension.

    Raises:
        ValueError: `judging.resample` is annotator, and a judgment does not say whose it is.
    """
    options = _strongest_first(judgments)
    clusters = _clusters(judgments, config.resample)
    weights_SC = resample_weights(len(set(clusters.values())), config.bootstrap_samples, seed)
    dimensions = {}
    with progress.stage("resample", len(DIMENSIONS)) as advance:
        for dimension in DIMENSIONS:
            votes = cast_votes(judgments, dimension)
            cluster_of_vote = [clusters[_cluster(v.judgment, config.resample)] for v in votes]
            tally = Tally.count(votes, options, cluster_of_vote)
            answers = [judgment.answers[dimension] for judgment in judgments]
            dimensions[dimension] = DimensionReport(
                preferences(tally, weights_SC),
                agreement(votes),
                position_bias(judgments, dimension),
                association(votes, cluster_of_vote, weights_SC),
                {answer or "empty": answers.count(answer) for answer in UNANSWERED},
            )
            advance()
    return JudgmentReport(
        options,
        len(judgments),
        len({judgment.item for judgment in judgments}),
        tuple(sorted({judgment.annotator for judgment in judgments} - {""})),
        config.resample,
        weights_SC.shape[1],
        config.bootstrap_samples,
        dimensions,
    )


def _cluster(judgment: Judgment, resample: str) -> str:
    return judgment.item if resample == "item" else judgment.annotator


def _clusters(judgments: Sequence[Judgment], resample: str) -> dict[str, int]:
    """A number for each cluster, in the order in which they come."""
    names = [_cluster(judgment, resample) for judgment in judgments]
    if "" in names:
        raise ValueError(
            "judging.resample: annotators cannot be resampled, because the judgments do not all "
            "name theirs; fill the column annotator, or set judging.resample=item"
        )
    return {name: number for number, name in enumerate(dict.fromkeys(names))}


def _strongest_first(judgments: Sequence[Judgment]) -> tuple[str, ...]:
    names = sorted({option for judgment in judgments for option in judgment.options})
    votes: list[Vote] = cast_votes(judgments, OVERALL)
    wins_OO = Tally.count(votes, names, [0] * len(votes)).wins_COO[0]
    compared_OO = wins_OO + wins_OO.T > 0
    if are_connected(compared_OO):
        strengths = bradley_terry(wins_OO[None], compared_OO)[0]
    else:
        strengths = wins_OO.sum(1) / np.maximum(1, (wins_OO + wins_OO.T).sum(1))
    return tuple(names[place] for place in np.argsort(-strengths, kind="stable"))
