"""Judgments from a word or two, and the published ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from train.judging.judgments import DIMENSIONS, Judgment

MakeJudgment = Callable[..., Judgment]


@pytest.fixture(scope="session")
def make_judgment() -> MakeJudgment:
    """Makes a judgment with the same answer on every dimension; options are `good` and `bad`."""

    def make(
        answer: str,
        item: str = "book/1",
        annotator: str = "",
        first: str = "",
        options: tuple[str, str] = ("good", "bad"),
        improvements: tuple[float, float] | None = None,
    ) -> Judgment:
        answers = dict.fromkeys(DIMENSIONS, answer)
        return Judgment(options, answers, item, item, annotator, first, improvements)

    return make


@pytest.fixture(scope="session")
def published_csv(repository: Path) -> Path:
    """The published 7B judgments beside the repository; without them, tests that want them skip."""
    path = repository.parent / "shared" / "judgments" / "7b_pairwise_annotations.csv"
    if not path.is_file():
        pytest.skip("needs the judgments at ../shared/judgments")
    return path
