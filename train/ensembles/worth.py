"""What each writer is worth on each chapter: what whoever chooses a writer learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from envs.types import GENERATOR, Episode
from rewards.improvement import improvement_percent
from train.ensembles.fitted import writing_costs
from train.ensembles.sharing import in_shares
from train.ensembles.shelf import Shelf

# E episodes, W writers, D features.


@dataclass(frozen=True)
class Worth:
    """Improvement of each writer in per cent, and what writing takes in 10^9 operations."""

    gains_EW: Tensor
    costs_EW: Tensor

    @classmethod
    def of(cls, shelf: Shelf, writers: Sequence[str], episodes: Sequence[Episode]) -> Worth:
        plain = shelf.likelihoods(GENERATOR, episodes)
        gains, costs = [], []
        for name in writers:
            found = shelf.likelihoods(name, episodes) if name != GENERATOR else plain
            gains.append([improvement_percent(own, p) for own, p in zip(found, plain, strict=True)])
            costs.append([writing_costs(shelf, [name], e)[name].giga_operations for e in episodes])
        return cls(torch.tensor(gains).T.contiguous(), torch.tensor(costs).T.contiguous())

    def less_costs(self, weight: float) -> Tensor:
        """[E, W]: improvement less `weight` per cent for each 10^9 operations."""
        return self.gains_EW - weight * self.costs_EW


@torch.no_grad()
def context_features(shelf: Shelf, episodes: Sequence[Episode], batch_size: int = 64) -> Tensor:
    """[E, D]: the generator's last hidden states over the context, their mean and the last one."""
    model = shelf.model(GENERATOR)

    def work(own: Sequence[Episode]) -> Tensor:
        features = []
        for start in range(0, len(own), batch_size):
            some = [shelf.request(GENERATOR, e) for e in own[start : start + batch_size]]
            ids_BL, mask_BL = padded([r.prefix_ids + r.guidance_ids for r in some], model.device)
            states_BLH = model.base_model(ids_BL, attention_mask=mask_BL)[0]
            features.append(pooled(states_BLH, mask_BL).cpu())
        return torch.cat(features).float()

    return in_shares(episodes, work)


def padded(
    rows: Sequence[Sequence[int]], device: torch.device, pad: int = 0, side: str = "right"
) -> tuple[Tensor, Tensor]:
    """Ids [B, L] with padding behind them, or on their left, and the mask of what is none."""
    ids = [torch.tensor(row) for row in rows]
    ids_BL = pad_sequence(ids, batch_first=True, padding_value=pad, padding_side=side)
    masks = [torch.ones_like(row) for row in ids]
    mask_BL = pad_sequence(masks, batch_first=True, padding_side=side)
    return ids_BL.to(device), mask_BL.to(device)


def pooled(states_BLH: Tensor, mask_BL: Tensor) -> Tensor:
    """[B, 2H]: the mean over each row, and its last state."""
    weights_BL1 = mask_BL.unsqueeze(-1).to(states_BLH.dtype)
    mean_BH = (states_BLH * weights_BL1).sum(1) / weights_BL1.sum(1)
    last_BH = states_BLH[torch.arange(len(states_BLH)), mask_BL.sum(1) - 1]
    return torch.cat([mean_BH, last_BH], dim=-1)
