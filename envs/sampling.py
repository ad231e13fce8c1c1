"""How answers are drawn, as settings; free of torch, so that they are checked at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field


@dataclass(frozen=True)
class Sampling:
    """How an agent draws its tokens; temperature 0 is greedy."""

    max_new_tokens: Annotated[int, Field(gt=0)] = 2048
    temperature: Annotated[float, Field(ge=0)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    """Keep the k most likely tokens; 0 keeps all."""
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0
