"""The ways in which suffixes can see the prefix that they share, fastest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rewards.likelihood.batches import packed_batches, padded_batches
from rewards.likelihood.logits import body
from rewards.prefix.merged_attention import packed_states
from rewards.prefix.prefix import Prefix, expanded
from rewards.types import TokenIds

# The keys and values of one layer that an expanded row holds of each prefix token, as a share of a
# token's activations.
SHARE_OF_A_TOKEN = 0.25


class SuffixPath(Protocol):
    """How rows of suffixes go through the model behind a prefix."""

    @property
    def name(self) -> str: ...

    @property
    def pads(self) -> bool:
        """Whether rows are padded to the right."""
        ...

    def row_tokens(self, prefix_tokens: int, suffix_tokens: int) -> int:
        """What a row costs in memory, in tokens."""
        ...

    def form_batches(self, row_tokens: Sequence[int], max_tokens: int) -> list[list[int]]: ...

    def states(
        self, model: PreTrainedModel, prefix: Prefix, suffixes: Sequence[TokenIds]
    ) -> list[Tensor]:
        """The last hidden states of each suffix: [T, H] each."""
        ...


@dataclass(frozen=True)
class MergedAttention:
    """All suffixes in one row without padding, the prefix not copied: plain attention only."""

    name = "merged attention"
    pads = False

    def row_tokens(self, prefix_tokens: int, suffix_tokens: int) -> int:
        return suffix_tokens

    def form_batches(self, row_tokens: Sequence[int], max_tokens: int) -> list[list[int]]:
        return packed_batches(row_tokens, max_tokens)

    def states(
        self, model: PreTrainedModel, prefix: Prefix, suffixes: Sequence[TokenIds]
    ) -> list[Tensor]:
        return packed_states(model, prefix, suffixes)


@dataclass(frozen=True)
class ExpandedCache:
    """Padded rows, each with the prefix's cache behind it: any family with a causal cache."""

    tokens_per_call: int
    name = "expanded cache"
    pads = True

    def row_tokens(self, prefix_tokens: int, suffix_tokens: int) -> int:
        return suffix_tokens + int(prefix_tokens * SHARE_OF_A_TOKEN)

    def form_batches(self, row_tokens: Sequence[int], max_tokens: int) -> list[list[int]]:
        return padded_batches(row_tokens, max_tokens, self.tokens_per_call)

    def states(
        self, model: PreTrainedModel, prefix: Prefix, suffixes: Sequence[TokenIds]
    ) -> list[Tensor]:
        # Right padding, as in the dense scorer; to two tokens at least, as a single one would be
        # taken for a step of text generation, for which some families have code of its own.
        rows = [torch.tensor(ids if len(ids) > 1 else (*ids, 0)) for ids in suffixes]
        ids_BT = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(model.device)
        hidden_BTH = body(model)(
            input_ids=ids_BT, past_key_values=expanded(prefix, len(rows)), use_cache=True
        ).last_hidden_state
        return [hidden_TH[: len(ids)] for hidden_TH, ids in zip(hidden_BTH, suffixes, strict=True)]
