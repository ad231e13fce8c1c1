"""One rollout as a process learns from it: tensors, the order of learning, and a file of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from envs.types import Answer

# N answers, P prompt tokens, A answer tokens, T = P + A, E epochs, M minibatches per epoch.


@dataclass(frozen=True)
class Padded:
    """Answers as one batch: prompts end and answers begin at the same column.

    `attention_NT` tells both from padding, `mask_NA` the answers alone.
    """

    ids_NT: Tensor
    attention_NT: Tensor
    mask_NA: Tensor

    @classmethod
    def of(cls, answers: Sequence[Answer], pad_id: int) -> Padded:
        prompt_len = max(len(a.prompt_ids) for a in answers)
        answer_len = max(len(a.ids) for a in answers)
        ids_NT = torch.full((len(answers), prompt_len + answer_len), pad_id)
        attention_NT = torch.zeros_like(ids_NT)
        for row, answer in enumerate(answers):
            first = prompt_len - len(answer.prompt_ids)
            last = prompt_len + len(answer.ids)
            ids_NT[row, first:last] = torch.tensor(answer.prompt_ids + answer.ids)
            attention_NT[row, first:last] = 1
        return cls(ids_NT, attention_NT, attention_NT[:, prompt_len:].float())

    def learning(self, is_learned_N: Tensor) -> Padded:
        """The same batch, in which only these answers count; the others stay in their rows."""
        return replace(self, mask_NA=self.mask_NA * is_learned_N[:, None])

    def to(self, device: torch.device) -> Padded:
        return Padded(self.ids_NT.to(device), self.attention_NT.to(device), self.mask_NA.to(device))


@dataclass(frozen=True)
class Experience:
    """What is known of every answer when learning from it begins.

    `voice_N` is the number of the role whose adapters said it, 0 where there are none by role.
    `order_EN` is the order of learning; `step_tokens_S` the answer tokens of each optimizer step,
    over all processes, and 1 where there are none.
    """

    number: int
    ids_NT: Tensor
    attention_NT: Tensor
    mask_NA: Tensor
    logp_NA: Tensor
    value_NA: Tensor
    advantage_NA: Tensor
    return_NA: Tensor
    order_EN: Tensor
    step_tokens_S: Tensor
    voice_N: Tensor

    def micro_batch(self, index: int, size: int) -> dict[str, Tensor]:
        """The rows of the `index`-th forward and backward pass, and the tokens of its step."""
        rows = self.order_EN.flatten()[index * size : (index + 1) * size]
        step = index * size * len(self.step_tokens_S) // self.order_EN.numel()
        names = ("ids_NT", "attention_NT", "mask_NA", "logp_NA", "value_NA", "voice_N")
        batch = {name: getattr(self, name)[rows] for name in (*names, "advantage_NA", "return_NA")}
        return {**batch, "step_tokens": self.step_tokens_S[step]}

    def save(self, path: Path) -> None:
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "number"}
        contiguous = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
        save_file(contiguous, path, metadata={"number": str(self.number)})

    @classmethod
    def load(cls, path: Path, device: torch.device) -> Experience:
        with safe_open(path, "pt") as file:
            names = file.keys()
            tensors = {name: file.get_tensor(name).to(device) for name in names}
            return cls(number=int(file.metadata()["number"]), **tensors)


def learning_order(num_answers: int, num_epochs: int, seed: int) -> Tensor:
    """A shuffle of the answers for each epoch: [E, N]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack(
        [torch.randperm(num_answers, generator=generator) for _ in range(num_epochs)]
    )


def step_tokens(mask_NA: Tensor, order_EN: Tensor, minibatches_per_epoch: int) -> Tensor:
    """Answer tokens that this process has in each optimizer step of a rollout."""
    return mask_NA.sum(1)[order_EN].reshape(len(order_EN) * minibatches_per_epoch, -1).sum(1)
