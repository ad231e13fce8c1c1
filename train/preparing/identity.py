"""What tells one agent from another, so that kept answers are never taken for those of another."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from typing import Any

from train.cache import source_fingerprint


def identity_of(agent: Any) -> Mapping[str, Any]:
    """All that the agent's answers depend on beside the question.

    Its own word for it where it has an `identity()`; else its class, the code of its module, and
    its fields.

    Raises:
        ValueError: it has neither, so that nobody could tell when its answers change.
    """
    if hasattr(agent, "identity"):
        return {"class": _name(agent), **agent.identity()}
    fields = (
        dataclasses.asdict(agent)
        if dataclasses.is_dataclass(agent) and not isinstance(agent, type)
        else vars(agent)
    )
    module = type(agent).__module__
    code = source_fingerprint(module) if module in sys.modules and module != "__main__" else ""
    found = {"class": _name(agent), "code": code, "fields": fields}
    try:
        return json.loads(json.dumps(found, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"agent: {_name(agent)} does not say what its answers depend on ({error}); give it a "
            "method identity() that returns a mapping of plain values"
        ) from error


def _name(agent: Any) -> str:
    return f"{type(agent).__module__}.{type(agent).__qualname__}"
