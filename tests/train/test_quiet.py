"""What libraries say about themselves stays off the terminal, what went wrong does not."""

from __future__ import annotations

import logging

import pytest

from train.quiet import show_only_errors


def test_a_library_that_sets_its_own_level_later_still_shows_only_errors(
    caplog: pytest.LogCaptureFixture,
) -> None:
    show_only_errors("a_chatty_library")
    logger = logging.getLogger("a_chatty_library")
    logger.setLevel(logging.INFO)
    logger.warning("Setting accelerator to CPU.")
    logger.error("Out of memory.")
    assert caplog.messages == ["Out of memory."]
