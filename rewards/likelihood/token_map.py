"""A generator with a vocabulary of its own, read in the words of another, the reference.

Tokens are the same where their strings are, character for character. What then is left over on
either side:

    q      the generator's own distribution
    S      the reference's tokens that the generator has, m(t) being its id for t
    U      what q gives to tokens that the reference does not have
    p_ref  the reference's distribution at the same place

    p(t) = q(m(t))                       for t in S
    p(t) = U · p_ref(t) / p_ref(not S)   for the others

Where the generator wants to say something that the reference has no token for, the reference
chooses, among the tokens that only it has. This sums to one. A gold token that the generator cannot
say gets nothing from it but a share of U, and U counts as e⁻³⁰ at least, so that one such token
costs a product of experts much, and not everything. Where the generator has every token of the
reference, q is normalised over them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rewards.types import TokenIds

LEAST_LEFT_NATS = -30.0
"""log U, where the generator gives nothing to tokens that the reference does not have."""

# N positions, V vocabulary of the reference, W the generator's own.


@dataclass(frozen=True, eq=False)
class TokenMap:
    """For each token id of the reference, the generator's own id, or -1 where it has none.

    `spelled` are the ids in which the generator reads a token that it does not have, one after the
    other; it is asked for what follows after the last of them.
    """

    ids_V: Tensor
    own_size: int
    spelled: Mapping[int, TokenIds]

    def spell(self, ids: Sequence[int]) -> tuple[TokenIds, list[int]]:
        """The reference's tokens as the generator reads them, and where each of them begins.

        Raises:
            ValueError: one has no spelling.
        """
        own: list[int] = []
        starts: list[int] = []
        for token in ids:
            starts.append(len(own))
            own.extend(self._pieces(token))
        return tuple(own), starts

    def _pieces(self, token: int) -> TokenIds:
        mapped = int(self.ids_V[token])
        pieces = (mapped,) if mapped >= 0 else self.spelled.get(token, ())
        if not pieces:
            raise ValueError(
                f"token {token} of the reference cannot be written in the other vocabulary; "
                "fuse generators of one family, or collaborate by text."
            )
        return pieces

    def share_unmapped(self, ids: Sequence[int]) -> float:
        """How much of a text is in tokens that the generator cannot say: a share of its tokens."""
        is_mapped = self.ids_V[torch.as_tensor(ids, dtype=torch.long)] >= 0
        return 1 - is_mapped.double().mean().item()

    def scores(self, own_NW: Tensor, reference_NV: Tensor) -> Tensor:
        """The generator's log-probabilities over the reference's tokens: [N, V]."""
        own_NW = own_NW.log_softmax(-1)
        ids_V = self.ids_V.to(own_NW.device)
        has_V = ids_V >= 0
        mapped_NV = own_NW[:, ids_V.clamp(min=0)].masked_fill(~has_V, -math.inf)
        if has_V.all():
            return mapped_NV.log_softmax(-1)
        is_left_W = torch.ones(self.own_size, dtype=torch.bool, device=own_NW.device)
        is_left_W[ids_V[has_V]] = False
        left_N1 = own_NW[:, is_left_W].logsumexp(-1, keepdim=True).clamp(min=LEAST_LEFT_NATS)
        others_NV = reference_NV.masked_fill(has_V, -math.inf).log_softmax(-1)
        return torch.where(has_V, mapped_NV, others_NV + left_N1)


def token_map(
    reference: Mapping[str, int],
    own: Mapping[str, int],
    reference_size: int,
    own_size: int,
    same: Mapping[str, str] | None = None,
) -> TokenMap:
    """The map between two vocabularies, as `tokenizer.get_vocab()` gives them.

    The sizes are those of the models' heads, which may have more rows than there are tokens. `same`
    names tokens that mean the same under unlike strings, such as the one that ends a text.
    """
    ids_V = torch.full((reference_size,), -1, dtype=torch.long)
    spelled: dict[int, TokenIds] = {}
    renamed = same or {}
    longest = max(map(len, own))
    for text, token in reference.items():
        mapped = own.get(renamed.get(text, text))
        if mapped is not None:
            ids_V[token] = mapped
        elif pieces := _pieces(text, own, longest):
            spelled[token] = pieces
    return TokenMap(ids_V, own_size, spelled)


def _pieces(text: str, own: Mapping[str, int], longest: int) -> TokenIds:
    """The text in tokens of a vocabulary, the longest first; none where it cannot be written."""
    pieces: list[int] = []
    start = 0
    while start < len(text):
        ends = range(min(len(text), start + longest), start, -1)
        end = next((end for end in ends if text[start:end] in own), None)
        if end is None:
            return ()
        pieces.append(own[text[start:end]])
        start = end
    return tuple(pieces)
