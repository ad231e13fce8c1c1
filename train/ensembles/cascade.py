"""A cascade, calibrated: how doubtful each writer is of each chapter, and from where on it hands
the chapter on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sklearn.linear_model import RidgeCV
from torch import Tensor

from envs.cascade import Cascade
from envs.types import GENERATOR, Cost, Episode, giga_operations
from train.ensembles.drafts import disagreement, drafts
from train.ensembles.fitted import Decision, reading_cost, writing_costs, written_by
from train.ensembles.sharing import in_shares
from train.ensembles.shelf import ROUTER, Shelf, in_order
from train.ensembles.worth import Worth, context_features

KEPT = "cascade.safetensors"
# Shares of chapters handed on that are tried when thresholds are set.
SHARES = tuple(i / 100 for i in range(101))
RIDGES = (0.1, 1.0, 10.0, 100.0, 1000.0, 10_000.0)
# E episodes, S stages: writers but the last.


@dataclass(frozen=True)
class Cascaded:
    """A cascade with a threshold for each writer but the last.

    `estimates` are, for the signal `quality`, the weights of each writer's doubt: what the next one
    is expected to gain, linear in the generator's state and in the draft's entropy.
    """

    env: Cascade
    shelf: Shelf
    writers: tuple[str, ...]
    thresholds: tuple[float, ...]
    estimates: Mapping[str, Tensor]
    seed: int

    def stopped_at(self, episodes: Sequence[Episode]) -> list[int]:
        """The place of the writer who keeps each chapter."""
        return stops(self.doubts(episodes), self.thresholds)

    def doubts(self, episodes: Sequence[Episode]) -> Tensor:
        """[E, S]: how little each writer is fit for each chapter."""
        inputs = inputs_of(self.env, self.shelf, self.writers, episodes, self.seed)
        if self.env.signal != "quality":
            return inputs[..., 0]
        columns = [
            inputs[:, stage] @ self.estimates["weights"][stage] + self.estimates["bias"][stage]
            for stage in range(inputs.shape[1])
        ]
        return torch.stack(columns, dim=1)

    def decide(self, episodes: Sequence[Episode]) -> list[Decision]:
        """It costs the drafts of all writers who were asked, and the chapter of the last."""
        return [
            Decision(
                written_by(self.writers[stage]),
                costs_of_asking(self.env, self.shelf, self.writers, stage, episode),
            )
            for stage, episode in zip(self.stopped_at(episodes), episodes, strict=True)
        ]

    def save(self, folder: Path) -> None:
        kept = {**self.estimates, "thresholds": torch.tensor(self.thresholds, dtype=torch.float64)}
        save_file({**kept, "seed": torch.tensor(self.seed)}, folder / KEPT)


def stops(doubts_ES: Tensor, thresholds: Sequence[float]) -> list[int]:
    """How far each chapter goes: to the first writer whose doubt is not above its threshold."""
    above_ES = doubts_ES > torch.tensor(thresholds, dtype=doubts_ES.dtype)
    return above_ES.long().cumprod(dim=1).sum(dim=1).tolist()


def inputs_of(
    env: Cascade, shelf: Shelf, writers: Sequence[str], episodes: Sequence[Episode], seed: int
) -> Tensor:
    """[E, S, 1 + D]: of each writer's drafts the entropy or the disagreement, and for the signal
    `quality` the generator's state after the context behind it.
    """
    stages = [
        in_shares(episodes, partial(_drafted, env, shelf, name, seed)) for name in writers[:-1]
    ]
    drafted_ES1 = torch.stack(stages, dim=1)[..., None]
    if env.signal != "quality":
        return drafted_ES1
    features_ED = context_features(shelf, episodes, env.batch_size)
    features_ESD = features_ED[:, None].expand(-1, len(stages), -1)
    return torch.cat([drafted_ES1, features_ESD], dim=-1)


def _drafted(
    env: Cascade, shelf: Shelf, writer: str, seed: int, episodes: Sequence[Episode]
) -> Tensor:
    """[E]: the entropy of the writer's draft of each chapter, or how far its drafts disagree."""
    requests = [shelf.request(writer, e) for e in episodes]
    rows = [r.prefix_ids + r.guidance_ids for r in requests]
    count = env.num_drafts if env.signal == "agreement" else 1
    found = drafts(
        shelf.model(writer),
        shelf.tokenizer(writer),
        [row for row in rows for _ in range(count)],
        env.draft_tokens,
        sampled=env.signal == "agreement",
        seed=seed,
        batch_size=env.batch_size,
    )
    if env.signal == "agreement":
        groups = [found[i : i + count] for i in range(0, len(found), count)]
        return torch.tensor([disagreement([draft.text for draft in group]) for group in groups])
    return torch.tensor([draft.entropy for draft in found])


def fit(
    env: Cascade,
    shelf: Shelf,
    train: Sequence[Episode],
    validation: Sequence[Episode],
    seed: int,
) -> Cascaded:
    """Estimates doubt on training episodes, then sets the thresholds on validation."""
    writers = _in_order(env, shelf)
    estimates: dict[str, Tensor] = {}
    if env.signal == "quality":
        estimates = _estimates(env, shelf, writers, train[: env.max_episodes], seed)
    uncut = Cascaded(env, shelf, writers, (0.0,) * (len(writers) - 1), estimates, seed)
    doubts = uncut.doubts(validation)
    worth = Worth.of(shelf, writers, validation)
    spent = torch.tensor([_operations(env, shelf, writers, e) for e in validation])
    return replace(uncut, thresholds=calibrated(doubts, worth.gains_EW, spent, env.budget))


def untrained(env: Cascade, shelf: Shelf, seed: int) -> Cascaded:
    """A cascade that hands nothing on."""
    writers = _in_order(env, shelf)
    width = 1 + 2 * shelf.model(GENERATOR).config.get_text_config().hidden_size
    stages = len(writers) - 1
    estimates = {"weights": torch.zeros(stages, width), "bias": torch.zeros(stages)}
    return Cascaded(
        env,
        shelf,
        writers,
        (float("inf"),) * stages,
        estimates if env.signal == "quality" else {},
        seed,
    )


def load(env: Cascade, folder: Path, shelf: Shelf) -> Cascaded:
    """A calibrated cascade, from its folder."""
    estimates = load_file(folder / KEPT)
    thresholds = tuple(estimates.pop("thresholds").tolist())
    seed = int(estimates.pop("seed").item())
    return Cascaded(env, shelf, _in_order(env, shelf), thresholds, estimates, seed)


def calibrated(
    doubts_ES: Tensor, gains_EW: Tensor, spent_EW: Tensor, budget: float
) -> tuple[float, ...]:
    """The thresholds that gain most among those that keep to the budget.

    `spent_EW[e, w]` is what chapter e costs where writer w keeps it. Every stage hands on the same
    share of what reaches it; all shares in hundredths are tried.
    """
    # In float64: sums of single precision differ by their order, and the least is always allowed.
    spent_EW = spent_EW.double()
    least, most = spent_EW[:, 0].mean(), spent_EW[:, -1].mean()
    allowed = least + budget * (most - least)
    best, found = -torch.inf, None
    for share in SHARES:
        thresholds = _at_share(doubts_ES, share)
        stopped_E1 = torch.tensor(stops(doubts_ES, thresholds))[:, None]
        gain = gains_EW.gather(1, stopped_E1).mean().item()
        if spent_EW.gather(1, stopped_E1).mean() <= allowed + 1e-9 and gain > best:
            best, found = gain, thresholds
    assert found is not None, "a share of 0 costs the least"
    return found


def _at_share(doubts_ES: Tensor, share: float) -> tuple[float, ...]:
    """Each stage's threshold above which lies this share of the doubts that reach it."""
    thresholds, reached_E = [], torch.ones(len(doubts_ES), dtype=torch.bool)
    for stage in range(doubts_ES.shape[1]):
        own = doubts_ES[reached_E, stage].sort(descending=True).values
        handed = round(share * len(own))
        if handed == 0:
            thresholds.append(float("inf"))
        elif handed == len(own):
            thresholds.append(float("-inf"))
        else:
            thresholds.append((own[handed - 1] + own[handed]).item() / 2)
        reached_E = reached_E & (doubts_ES[:, stage] > thresholds[-1])
    return tuple(thresholds)


def _estimates(
    env: Cascade, shelf: Shelf, writers: Sequence[str], episodes: Sequence[Episode], seed: int
) -> dict[str, Tensor]:
    """Ridge regressions of what the best later writer gains over each writer."""
    inputs = inputs_of(env, shelf, writers, episodes, seed)
    gains = Worth.of(shelf, writers, episodes).gains_EW
    weights, bias = [], []
    for stage in range(inputs.shape[1]):
        later_E = gains[:, stage + 1 :].max(dim=1).values
        model = RidgeCV(alphas=RIDGES)
        model.fit(inputs[:, stage].double().numpy(), (later_E - gains[:, stage]).numpy())
        weights.append(torch.from_numpy(np.asarray(model.coef_, dtype=np.float32)))
        bias.append(float(np.asarray(model.intercept_)))
    return {"weights": torch.stack(weights), "bias": torch.tensor(bias)}


def costs_of_asking(
    env: Cascade, shelf: Shelf, writers: Sequence[str], stage: int, episode: Episode
) -> dict[str, Cost]:
    """What a chapter takes of each writer, where the one at that place keeps it."""
    costs: dict[str, Cost] = {}
    for place, name in enumerate(writers[: stage + 1]):
        costs[name] = (
            Cost() if place == len(writers) - 1 else _draft_cost(env, shelf, name, episode)
        )
        if place == stage:
            costs[name] += writing_costs(shelf, [name], episode)[name]
    if env.signal == "quality":
        costs[ROUTER] = reading_cost(shelf, episode)
    return costs


def _operations(
    env: Cascade, shelf: Shelf, writers: Sequence[str], episode: Episode
) -> list[float]:
    """10^9 operations of this chapter, by the writer who keeps it."""
    asked = [costs_of_asking(env, shelf, writers, place, episode) for place in range(len(writers))]
    return [sum(cost.giga_operations for cost in costs.values()) for costs in asked]


def _draft_cost(env: Cascade, shelf: Shelf, writer: str, episode: Episode) -> Cost:
    count = env.num_drafts if env.signal == "agreement" else 1
    read = count * writing_costs(shelf, [writer], episode)[writer].read_tokens
    said = count * env.draft_tokens
    operations = giga_operations(shelf.num_weights(writer), read + said)
    return Cost(count, read, said, giga_operations=operations)


def _in_order(env: Cascade, shelf: Shelf) -> tuple[str, ...]:
    """Who is asked first, and who next: as named, or the smallest first."""
    writers = in_order(env, shelf)
    if len(writers) < 2:
        raise ValueError("env.writers: a cascade hands on to another writer; name two or more")
    return writers
