"""A generator and a policy that are the same weights, told apart by the policy's adapters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from rewards.types import Likelihood, LikelihoodScorer, ScoreRequest


class BelowAdapters:
    """Scores under a model as it is without the adapters that a policy puts on it meanwhile.

    So policy and generator of one base are in memory once. The scorer has to be made before the
    adapters: it freezes the parameters that it finds. Whatever is switched for a call (adapters,
    dropout) is as it was afterwards, so that training goes on.
    """

    def __init__(self, scorer: LikelihoodScorer, model: nn.Module) -> None:
        self.scorer = scorer
        self.model = model

    def score(self, requests: Sequence[ScoreRequest]) -> list[Likelihood]:
        with below_adapters(self.model):
            return self.scorer.score(requests)


@contextmanager
def below_adapters(model: nn.Module) -> Iterator[None]:
    """The model without its adapters and in evaluation mode, for as long as this is entered."""
    in_training = [module for module in model.modules() if module.training]
    adapted = [
        module
        for module in model.modules()
        if isinstance(module, BaseTunerLayer) and not module.disable_adapters
    ]
    model.eval()
    for layer in adapted:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in adapted:
            layer.enable_adapters(True)
        for module in in_training:
            module.training = True
