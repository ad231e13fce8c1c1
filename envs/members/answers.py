"""What can be read from a server's answer beside its text: tokens, bytes, how long to wait."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from envs.types import Usage


def bytes_in(message: Any) -> int:
    """Of all that a message says, its reasoning included: more than it had tokens."""
    return len(json.dumps(message, ensure_ascii=False).encode(errors="replace"))


def counted_usage(answer: Any) -> Usage | None:
    """The tokens that the server says it took; None where it does not say."""
    found = answer.get("usage") if isinstance(answer, dict) else None
    if not isinstance(found, dict):
        return None
    read, generated = found.get("prompt_tokens"), found.get("completion_tokens")
    if type(read) is not int or type(generated) is not int or min(read, generated) < 0:
        return None
    return Usage(read, generated)


def asked_wait_s(header: str | None) -> float:
    """How long a `Retry-After` asks to wait, in seconds or until a date; 0 where it says nothing.

    What has passed is no wait.
    """
    if not header:
        return 0.0
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return 0.0
    # A date without a zone is meant in UTC, as all dates of HTTP are.
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())
