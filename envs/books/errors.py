"""The one error that readers of books raise."""

from __future__ import annotations

from pathlib import Path


class BookError(ValueError):
    """What is wrong with a file and what to do about it, as one line that starts with its path."""

    def __init__(self, source: str | Path, problem: str, remedy: str) -> None:
        # Third-party messages may span lines; a reader at the command line sees exactly one.
        super().__init__(" ".join(f"{source}: {problem}. {remedy}".split()))
        self.source = source
