"""Fixtures for all tests: the shelf of real books, and what makes a skip for want of it fail."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED_BOOKS = REPOSITORY.parent / "shared" / "books"


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_books() -> Path:
    """The shelf of real books beside the repository; a test that wants it is skipped without."""
    if not SHARED_BOOKS.is_dir():
        pytest.skip("needs the shelf at ../shared/books")
    return SHARED_BOOKS


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """With NEXTCHAPTER_REQUIRE_SHARED=1, a test skipped for want of the shelf has failed."""
    report = yield
    if report.skipped and os.environ.get("NEXTCHAPTER_REQUIRE_SHARED") == "1":
        reason = str(report.longrepr)
        if "shared/books" in reason or "shared" in item.keywords:
            report.outcome = "failed"
            report.longrepr = f"skipped, though the shelf has to be there: {reason}"
    return report
