"""How writers with unlike vocabularies are read in the reference's."""

from __future__ import annotations

from collections.abc import Mapping

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from envs.types import GENERATOR
from rewards.likelihood.token_map import TokenMap, token_map


def vocabulary_maps(
    writers: Mapping[str, tuple[PreTrainedModel, PreTrainedTokenizerBase]],
) -> dict[str, TokenMap]:
    """How each writer's tokens are read as the generator's; nothing for who has the very same.

    Where only the heads differ in size, as in some families that fill them up to a round number,
    all tokens have their counterparts.
    """
    model, tokens = writers[GENERATOR]
    vocabulary, size = tokens.get_vocab(), _head_size(model)
    maps: dict[str, TokenMap] = {}
    for name, (own_model, own) in writers.items():
        own_vocabulary, own_size = own.get_vocab(), _head_size(own_model)
        if own_vocabulary != vocabulary or own_size != size:
            ends = _ends(tokens, own)
            maps[name] = token_map(vocabulary, own_vocabulary, size, own_size, ends)
    return maps


def _head_size(model: PreTrainedModel) -> int:
    return model.config.get_text_config().vocab_size


def _ends(reference: PreTrainedTokenizerBase, own: PreTrainedTokenizerBase) -> dict[str, str]:
    """A chapter ends by either's own token for it, whatever that is called."""
    end, own_end = reference.eos_token, own.eos_token
    return {end: own_end} if isinstance(end, str) and isinstance(own_end, str) else {}
