"""Answers that were paid for, kept by what was asked: a kill loses the batch at work alone."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from envs.types import Reply, Usage
from train.cache import digest


class AnswerStore:
    """The answers of one agent, by the digest of the question. A batch is a line of a file.

    `identity` is all that an answer depends on beside the question.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.path = folder / f"{digest(identity)[:32]}.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        self._known = _read(self.path)

    def get(self, key: str) -> Reply | None:
        return self._known.get(key)

    def keep(self, replies: Mapping[str, Reply]) -> None:
        """Writes the answers to the disk, all of them or none."""
        if not replies:
            return
        line = json.dumps({"answers": {key: _packed(r) for key, r in replies.items()}})
        # Two preparations may share the file.
        with FileLock(self.path.with_suffix(".lock")), self.path.open("ab") as file:
            # An empty line ends what a kill may have cut.
            file.write(b"\n" + line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._known.update(replies)


def _packed(reply: Reply) -> list[Any]:
    usage = reply.usage
    # A flag only where it says something: most servers count.
    marked = [True] if usage.is_estimated else []
    return [reply.text, reply.truncated, usage.read_tokens, usage.generated_tokens, *marked]


def _read(path: Path) -> dict[str, Reply]:
    found: dict[str, Reply] = {}
    if not path.exists():
        return found
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            answers = json.loads(line)["answers"]
            for key, (text, is_cut, read, generated, *marked) in answers.items():
                # What was said first is what earlier rows were made from.
                usage = Usage(read, generated, is_estimated=bool(marked))
                found.setdefault(key, Reply(text, is_cut, usage=usage))
        except (ValueError, KeyError, TypeError):
            # A line that a kill has cut.
            continue
    return found
