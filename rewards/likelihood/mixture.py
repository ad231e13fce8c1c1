"""Likelihoods of a chapter that several generators write together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rewards.likelihood.back_off import TokenBudget, run_batches
from rewards.likelihood.batches import padded_batches
from rewards.likelihood.budget import find_max_tokens, tokens_per_call
from rewards.likelihood.checks import check_request
from rewards.likelihood.logits import gold_likelihoods
from rewards.likelihood.precision import own_precision
from rewards.likelihood.whole_rows import WholeRows
from rewards.types import Likelihood, LikelihoodScorer, Mixture, ScoreRequest


class MixtureScorer:
    """Exact likelihoods under combined next-token distributions of frozen models, by name.

    Requests without a mixture go to the scorer `alone`. With one, each generator reads the whole
    row; logits of all are made chunk by chunk of gold positions, combined, and then normalised.

    Raises:
        ValueError: the models' vocabularies differ in size.
    """

    def __init__(
        self,
        alone: LikelihoodScorer,
        models: Mapping[str, PreTrainedModel],
        max_tokens_per_batch: int | None = None,
        positions_per_chunk: int = 256,
    ) -> None:
        check_vocabularies(models)
        self.alone = alone
        self.models = {k: model.eval().requires_grad_(False) for k, model in models.items()}
        self.positions_per_chunk = positions_per_chunk
        self._rows = {name: WholeRows(m, positions_per_chunk) for name, m in models.items()}
        self._budget = TokenBudget(
            max_tokens_per_batch
            or min(find_max_tokens(m, positions_per_chunk) for m in models.values())
        )

    def score(self, requests: Sequence[ScoreRequest]) -> list[Likelihood]:
        """One likelihood per request, in order.

        Raises:
            ValueError: a mixture names a generator that is not here, or a request cannot be scored;
                the message names the episode.
        """
        together: dict[tuple[Mixture, tuple[int, ...]], list[ScoreRequest]] = {}
        for request in dict.fromkeys(requests):
            if (mixture := request.mixture) is not None:
                self._check(request, mixture)
                rows = [self._rows[name] for name in mixture.generators]
                regimes = tuple(r.regimes.of(request.num_tokens) for r in rows)
                together.setdefault((mixture, regimes), []).append(request)
        single = [r for r in dict.fromkeys(requests) if r.mixture is None]
        found = dict(zip(single, self.alone.score(single), strict=True))
        for (mixture, _), alike in together.items():
            found |= self._score_alike(mixture, alike)
        return [found[request] for request in requests]

    def _check(self, request: ScoreRequest, mixture: Mixture) -> None:
        if missing := [name for name in mixture.generators if name not in self.models]:
            raise ValueError(
                f"episode {request.episode_id}: no generator is named {missing[0]!r}; "
                f"there are {', '.join(self.models)}."
            )
        for name in mixture.generators:
            check_request(request, self.models[name].config)

    def _score_alike(
        self, mixture: Mixture, requests: Sequence[ScoreRequest]
    ) -> dict[ScoreRequest, Likelihood]:
        call = max(tokens_per_call(self.models[g].device) for g in mixture.generators)
        with own_precision(*(self.models[g].device for g in mixture.generators)):
            return run_batches(
                requests,
                lambda r: r.num_tokens,
                lambda lengths, most: padded_batches(lengths, most, call),
                lambda batch: self._score_batch(mixture, batch),
                self._budget,
            )

    @torch.no_grad()
    def _score_batch(self, mixture: Mixture, batch: Sequence[ScoreRequest]) -> list[Likelihood]:
        states = {g: self._rows[g].states_before_gold(batch) for g in mixture.generators}
        # The first generator's device is where the distributions meet.
        device = self.models[mixture.generators[0]].device

        def combined(chunk: slice) -> Tensor:
            return mixture.combine(
                [self._rows[g].head(states[g][chunk]).to(device) for g in mixture.generators]
            )

        return gold_likelihoods(batch, combined, self.positions_per_chunk)


def check_vocabularies(models: Mapping[str, PreTrainedModel]) -> None:
    """Refuses models that cannot speak of the same next token.

    Raises:
        ValueError: their vocabularies differ in size.
    """
    sizes = {name: model.config.get_text_config().vocab_size for name, model in models.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise ValueError(
            f"generators can be combined token by token only over one vocabulary; got {listed}. "
            "Choose models of one family, or collaborate by text."
        )
