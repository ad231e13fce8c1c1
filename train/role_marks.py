"""Whose adapters a row goes through, where a trainer keeps nothing of a row but its token ids.

TRL shuffles the rows of a generation, and hands the policy their ids and attention alone. So a row
says by itself whose it is: the number of its role stands before its prompt, as one more token. Ids
of the vocabulary are not set aside for it, as every row has such a mark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers.utils.generic import ModelOutput

from envs.voices import speaking, voices
from train.role_adapters import RoleAdapters

# N rows, M those of one role, T tokens.


def marked(prompt_ids: Sequence[int], role: str, roles: Sequence[str]) -> list[int]:
    """The prompt with the mark of its role before it; `roles` are all that have adapters."""
    return [roles.index(role), *prompt_ids]


class MarkedRoleAdapters(RoleAdapters):
    """Reads the mark before each row, and puts the row through the adapters of that role.

    The mark is taken for padding, so that what is said of a row is what would be said without it.
    While adapters are off, all rows go through the shared weights. Generating asks the model under
    this one, and meets no marks.
    """

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, **how: Any
    ) -> ModelOutput:
        """`log_probs` and `entropy` of each next token, as TRL's fused head gives them: [N, T - 1].

        The rows of one role go through the model together; peft mixes adapters within a batch for
        inference alone.

        Raises:
            ValueError: the loss is to balance experts, which is of a whole batch.
        """
        if how.get("output_router_logits"):
            raise ValueError(
                "policy.lora.per_role: the loss that balances experts is of whole batches, and the "
                "rows of each role are read apart; take a model with output_router_logits=false"
            )
        first_N1 = attention_mask.argmax(1, keepdim=True)
        number_N = input_ids.gather(1, first_N1)[:, 0]
        attention_NT = attention_mask.scatter(1, first_N1, 0)
        if self.is_plain:
            return super().forward(input_ids, attention_NT, labels=labels, **how)
        rows, said = [], []
        for number in number_N.unique().tolist():
            own_M = (number_N == number).nonzero()[:, 0]
            with speaking(self, voices(self)[number]):
                said.append(self._say(input_ids[own_M], attention_NT[own_M], labels[own_M], how))
            rows.append(own_M)
        back = torch.cat(rows).argsort()
        return ModelOutput(
            {name: torch.cat([s[name] for s in said])[back] for name in ("log_probs", "entropy")}
        )

    def _say(
        self, ids_MT: Tensor, attention_MT: Tensor, labels_MT: Tensor, how: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """What the adapters that are on say of these rows, without the padding that all have."""
        first = int(attention_MT.argmax(1).min())
        said = super().forward(
            ids_MT[:, first:], attention_MT[:, first:], labels=labels_MT[:, first:], **how
        )
        return {name: pad(said[name], (first, 0)) for name in ("log_probs", "entropy")}
