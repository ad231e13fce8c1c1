"""The writers of a shelf, scored together: one vocabulary, or maps between several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from envs.types import Episode, Fusion
from rewards.fused_request import fused_request
from rewards.likelihood.dense import DenseScorer
from rewards.likelihood.mixture import MixtureScorer
from rewards.likelihood.token_map import TokenMap, token_map
from rewards.types import LikelihoodScorer, ScoreRequest

if TYPE_CHECKING:
    from train.ensembles.shelf import Shelf


def fusion_scorer(
    shelf: Shelf, writers: Sequence[str], alone: LikelihoodScorer | None = None
) -> MixtureScorer:
    """Scores fusions of these writers over the reference's tokens; other requests go to `alone`."""
    names = tuple(dict.fromkeys((shelf.names[0], *writers)))
    models = {name: shelf.model(name) for name in names}
    reference = models[shelf.names[0]]
    return MixtureScorer(
        alone or DenseScorer(reference), models, maps=vocabulary_maps(shelf, names)
    )


def requests_of(
    shelf: Shelf, episodes: Sequence[Episode], fusions: Sequence[Fusion]
) -> list[ScoreRequest]:
    """What the writers are asked for each episode."""
    return [
        fused_request(shelf.request, shelf.names[0], episode, fusion)
        for episode, fusion in zip(episodes, fusions, strict=True)
    ]


def vocabulary_maps(shelf: Shelf, writers: Sequence[str]) -> dict[str, TokenMap]:
    """How each writer's tokens are read as the reference's; nothing for who has the very same.

    Where only the heads differ in size, as in some families that fill them up to a round number,
    all tokens have their counterparts.
    """
    reference = shelf.names[0]
    tokens, size = shelf.tokenizer(reference), _head_size(shelf.model(reference))
    maps: dict[str, TokenMap] = {}
    for writer in writers:
        own_tokens, own_size = shelf.tokenizer(writer), _head_size(shelf.model(writer))
        if (own_tokens.get_vocab(), own_size) != (tokens.get_vocab(), size):
            maps[writer] = token_map(
                tokens.get_vocab(),
                own_tokens.get_vocab(),
                size,
                own_size,
                _ends(tokens, own_tokens),
            )
    return maps


def _head_size(model: PreTrainedModel) -> int:
    return model.config.get_text_config().vocab_size


def _ends(reference: PreTrainedTokenizerBase, own: PreTrainedTokenizerBase) -> dict[str, str]:
    """A chapter ends by either's own token for it, whatever that is called."""
    end, own_end = reference.eos_token, own.eos_token
    return {end: own_end} if isinstance(end, str) and isinstance(own_end, str) else {}
