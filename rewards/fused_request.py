"""What several writers are asked together: how they combine, and what each of them reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

from envs.types import GENERATOR, Episode, Fusion, StoryContext
from rewards.types import Combine, Mixture, ScoreRequest, StateCombine, TokenIds

Layout = Callable[[str, Episode, str], ScoreRequest]
"""How a writer, by name, is asked for an episode with a plan."""


def fused_request(layout: Layout, episode: Episode, fusion: Fusion) -> ScoreRequest:
    """The request of a fusion; its gold ids are those of the generator, whoever writes.

    Each writer reads the episode as its own layout has it. Who sits without context reads the same
    prompt with no context and no plan.
    """
    request = layout(GENERATOR, episode, fusion.plan)
    own = request.prefix_ids + request.guidance_ids
    blind = replace(
        episode, episode_id=f"{episode.episode_id} without context", context=StoryContext(())
    )

    def prompt(place: int, writer: str) -> TokenIds | None:
        is_blind = place in fusion.without_context
        read = layout(writer, blind, "") if is_blind else layout(writer, episode, fusion.plan)
        ids = read.prefix_ids + read.guidance_ids
        return None if writer == GENERATOR and ids == own else ids

    prompts = tuple(prompt(place, writer) for place, writer in enumerate(fusion.writers))
    combine = cast(Combine | StateCombine, fusion.combine)
    return replace(request, mixture=Mixture(fusion.writers, combine, prompts))
