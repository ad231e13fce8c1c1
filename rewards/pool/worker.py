"""What a pool asks of a worker, and the ways in which it can fail it."""

from __future__ import annotations

from typing import Protocol


class LostWorker(ConnectionError):
    """A worker died, or its host did, before it answered; another one may be asked instead."""


class RefusedWorker(ValueError):
    """A worker that will never score: it cannot load the generator, or has another one."""


class PoolWorker(Protocol):
    """Scores one message at a time, somewhere else; several threads may ask it at once."""

    @property
    def name(self) -> str: ...

    def wait_until_up(self) -> None:
        """Returns once it can score, however long its start, or its restart, takes.

        Raises:
            LostWorker: it went down meanwhile, and may come back.
            RefusedWorker: it will never score.
        """
        ...

    def score(self, message: bytes) -> bytes:
        """The answer to a group (`rewards.pool.messages`).

        Raises:
            LostWorker: it is gone, with or without having scored.
        """
        ...
