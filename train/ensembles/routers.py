"""Routers: for each context a score of every writer, the greatest of which is chosen."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.neighbors import KNeighborsRegressor
from torch import Tensor, nn

from envs.routing import Routing

# E episodes, W writers, D features.
Arrays = Mapping[str, Tensor]


class FeatureRouter(Protocol):
    """Decides by the generator's state after the context. `arrays` is all that it has learned."""

    def fit(
        self, features_ED: Tensor, worth_EW: Tensor, val_features_ED: Tensor, val_worth_EW: Tensor
    ) -> Arrays: ...

    def scores(self, arrays: Arrays, features_ED: Tensor) -> Tensor: ...

    def untrained(self, num_features: int, num_writers: int) -> Arrays: ...


class Knn:
    """The mean worth of each writer on the contexts that are most alike."""

    def __init__(self, env: Routing, seed: int) -> None:
        self.neighbours = env.neighbours

    def fit(
        self, features_ED: Tensor, worth_EW: Tensor, val_features_ED: Tensor, val_worth_EW: Tensor
    ) -> Arrays:
        return {"features": features_ED, "worth": worth_EW}

    def scores(self, arrays: Arrays, features_ED: Tensor) -> Tensor:
        known = arrays["features"]
        found = KNeighborsRegressor(min(self.neighbours, len(known)))
        found.fit(known.numpy(), arrays["worth"].numpy())
        predicted: Any = found.predict(features_ED.numpy())
        return torch.from_numpy(np.asarray(predicted))

    def untrained(self, num_features: int, num_writers: int) -> Arrays:
        return {"features": torch.zeros(1, num_features), "worth": torch.zeros(1, num_writers)}


class Domain:
    """Contexts in groups of their like, each with the mean worth of every writer in it."""

    def __init__(self, env: Routing, seed: int) -> None:
        self.env = env
        self.seed = seed

    def fit(
        self, features_ED: Tensor, worth_EW: Tensor, val_features_ED: Tensor, val_worth_EW: Tensor
    ) -> Arrays:
        groups = KMeans(min(self.env.domains, len(features_ED)), random_state=self.seed)
        labels = torch.from_numpy(groups.fit_predict(features_ED.numpy())).long()
        centres = torch.from_numpy(np.asarray(groups.cluster_centers_)).to(features_ED)
        means = [worth_EW[labels == label].mean(0) for label in range(len(centres))]
        return {"centres": centres, "worth": torch.stack(means)}

    def scores(self, arrays: Arrays, features_ED: Tensor) -> Tensor:
        nearest = torch.cdist(features_ED, arrays["centres"]).argmin(1)
        return arrays["worth"][nearest]

    def untrained(self, num_features: int, num_writers: int) -> Arrays:
        return {"centres": torch.zeros(1, num_features), "worth": torch.zeros(1, num_writers)}


class Learned:
    """A network on the features, trained on the exact expected worth."""

    def __init__(self, env: Routing, seed: int) -> None:
        self.env = env
        self.seed = seed

    def network(self, num_features: int, num_writers: int) -> nn.Module:
        width = self.env.hidden_size
        # A context's factors are linear in its features, each writer has factors of its own.
        bend = nn.Identity() if self.env.router == "matrix" else nn.GELU()
        layers = {
            "scale": nn.BatchNorm1d(num_features, affine=False),
            "factors": nn.Linear(num_features, width),
            "bend": bend,
            "scores": nn.Linear(width, num_writers),
        }
        return nn.Sequential(OrderedDict(layers))

    def fit(
        self, features_ED: Tensor, worth_EW: Tensor, val_features_ED: Tensor, val_worth_EW: Tensor
    ) -> Arrays:
        network = self._made(features_ED.shape[1], worth_EW.shape[1])
        fit_router(
            network,
            lambda rows: features_ED[rows],
            worth_EW,
            lambda: network(val_features_ED),
            val_worth_EW,
            self.env,
            self.seed,
        )
        return {name: value.detach().clone() for name, value in network.state_dict().items()}

    def scores(self, arrays: Arrays, features_ED: Tensor) -> Tensor:
        network = self.network(features_ED.shape[1], len(arrays["scores.bias"]))
        network.load_state_dict(dict(arrays))
        with torch.no_grad():
            return network.eval()(features_ED)

    def untrained(self, num_features: int, num_writers: int) -> Arrays:
        return self._made(num_features, num_writers).state_dict()

    def _made(self, num_features: int, num_writers: int) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            return self.network(num_features, num_writers)


def expected_worth(scores_EW: Tensor, worth_EW: Tensor) -> Tensor:
    """The mean of Σ p(writer) · worth over episodes: exact, as all arms are known."""
    return (scores_EW.softmax(-1) * worth_EW).sum(-1).mean()


def chosen_worth(scores_EW: Tensor, worth_EW: Tensor) -> float:
    """Mean worth of the writers with the greatest scores."""
    return worth_EW.gather(1, scores_EW.argmax(1, keepdim=True)).mean().item()


def fit_router(
    network: nn.Module,
    inputs_of: Any,
    worth_EW: Tensor,
    val_scores: Any,
    val_worth_EW: Tensor,
    env: Routing,
    seed: int,
) -> None:
    """Trains `network` on the expected worth; leaves it as it was best on validation.

    `inputs_of(rows)` gives what the network takes for these episodes, `val_scores()` its scores of
    the validation episodes.
    """
    # In deviations, so that one learning rate fits rewards of any size.
    scaled_EW = (worth_EW - worth_EW.mean(1, keepdim=True)) / worth_EW.std().clamp_min(1e-6)
    optimizer = torch.optim.AdamW(network.parameters(), lr=env.learning_rate, weight_decay=0.01)
    order = torch.Generator().manual_seed(seed)
    best, kept = -torch.inf, None
    for _ in range(env.max_epochs):
        network.train()
        for rows in torch.randperm(len(worth_EW), generator=order).split(env.batch_size):
            if len(rows) < 2:
                continue
            loss = -expected_worth(network(inputs_of(rows)), scaled_EW[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            reached = chosen_worth(val_scores(), val_worth_EW)
        if reached > best:
            best = reached
            kept = {name: value.clone() for name, value in network.state_dict().items()}
    assert kept is not None
    network.load_state_dict(kept)


ROUTERS: Mapping[str, type[Knn] | type[Domain] | type[Learned]] = {
    "knn": Knn,
    "domain": Domain,
    "matrix": Learned,
    "mlp": Learned,
}


def by_features(env: Routing, seed: int) -> FeatureRouter:
    return ROUTERS[env.router](env, seed)


def names_of(writers: Sequence[str], scores_EW: Tensor) -> list[str]:
    """The writer with the greatest score, the first of several."""
    return [writers[int(i)] for i in scores_EW.argmax(1)]
