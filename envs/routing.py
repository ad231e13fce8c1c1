"""API level: one of several writers gets the chapter, chosen by what is known before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from envs.ensemble import Ensemble

Router = Literal["domain", "knn", "matrix", "mlp", "encoder", "policy"]
"""`domain`: contexts fall into groups, each with its best writer (Feng et al. 2025, 2502.04506).
`knn`: what the writers were worth on the most similar contexts. `matrix`: a factor of the context
times a factor of each writer (RouteLLM, Ong et al. 2024, 2406.18665). `mlp`: a small network on the
generator's state. `encoder`: a copy of the generator, trained to choose. `policy`: a copy of the
policy, whose probabilities of the writers' names, where the chapter would begin, are trained."""


@dataclass(frozen=True)
class Routing(Ensemble):
    """Each chapter goes to the writer with the greatest expected worth.

    Every writer is scored on every chapter that is learned from, so what is maximised is the exact
    expected worth Σ p(writer | x) · worth, without sampling. A writer's worth is its improvement in
    per cent, less `cost_weight` for each 10^9 floating-point operations that writing takes.

    Costs: the router reads the context once, and the chosen writer reads it and writes; `policy`
    reads it once for each writer's name. Learning costs the likelihood of every training chapter
    under every writer, once. Fails by collapse to the writer that is best on average, where
    contexts do not tell who is better, and on books unlike those that it learned from.
    """

    learner: ClassVar[str] = "train.ensembles.routing"

    router: Router = "mlp"
    cost_weight: Annotated[float, Field(ge=0)] = 0.0
    max_episodes: Annotated[int, Field(gt=0)] | None = None
    """Learn from the first so many training episodes; empty for all."""
    neighbours: Annotated[int, Field(gt=0)] = 20
    """Of `knn`: how many contexts are asked."""
    domains: Annotated[int, Field(gt=1)] = 8
    """Of `domain`: how many groups."""
    hidden_size: Annotated[int, Field(gt=0)] = 32
    """Of `matrix`, the rank; of `mlp`, the width."""
    max_epochs: Annotated[int, Field(gt=0)] = 40
    """Of what is trained by gradient; the epoch that is best on validation is kept."""
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    batch_size: Annotated[int, Field(gt=0)] = 64

    @property
    def asks_policy(self) -> bool:
        return self.router == "policy"
