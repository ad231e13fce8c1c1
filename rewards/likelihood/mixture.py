"""Likelihoods of a chapter that several generators write together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rewards.likelihood.back_off import Result, TokenBudget, run_batches
from rewards.likelihood.batches import padded_batches
from rewards.likelihood.budget import find_max_tokens, tokens_per_call
from rewards.likelihood.checks import check_request
from rewards.likelihood.logits import gold_likelihoods
from rewards.likelihood.precision import own_precision
from rewards.likelihood.token_map import TokenMap
from rewards.likelihood.whole_rows import WholeRows
from rewards.types import (
    Likelihood,
    LikelihoodScorer,
    Mixture,
    ScoreRequest,
    StateCombine,
    TokenIds,
)

# N gold tokens, H hidden size, V vocabulary.


class MixtureScorer:
    """Exact likelihoods under combined next-token distributions of frozen models, by name.

    Requests without a mixture go to the scorer `alone`. With one, each generator reads the whole
    row, behind its own prompt where it has one; logits of all are made chunk by chunk of gold
    positions, combined, and then normalised. Rows of different combinations share a batch.

    Gold ids are those of the reference's vocabulary. `maps` has, by name, how the others' are read
    in it; who is not there has the same one.

    Raises:
        ValueError: the models' vocabularies differ in size, and there is no map.
    """

    def __init__(
        self,
        alone: LikelihoodScorer,
        models: Mapping[str, PreTrainedModel],
        max_tokens_per_batch: int | None = None,
        positions_per_chunk: int = 256,
        maps: Mapping[str, TokenMap] | None = None,
    ) -> None:
        self.maps = dict(maps or {})
        check_vocabularies({name: m for name, m in models.items() if name not in self.maps})
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
        single = [r for r in dict.fromkeys(requests) if r.mixture is None]
        found = dict(zip(single, self.alone.score(single), strict=True))
        for alike in self._alike([r for r in requests if r.mixture is not None]):
            found |= self._in_batches(alike, self._likelihoods)
        return [found[request] for request in requests]

    def states(self, requests: Sequence[ScoreRequest]) -> list[tuple[Tensor, ...]]:
        """For each request, each generator's hidden state before each gold token: [N, H].

        All of a mixture that does not depend on how it combines. Kept, it makes what is learned
        about combining cheap: `logits` is one product with each head.

        Raises:
            ValueError: as `score`.
        """
        found: dict[ScoreRequest, tuple[Tensor, ...]] = {}
        for alike in self._alike(requests):
            found |= self._in_batches(alike, self._states)
        return [found[request] for request in requests]

    @torch.no_grad()
    def logits(self, generators: Sequence[str], states: Sequence[Tensor]) -> list[Tensor]:
        """What each generator makes of its states, over the reference's vocabulary: [N, V] each.

        They lie on the device of the first of them.

        Raises:
            ValueError: a generator has a vocabulary of its own, and none of the others has the
                reference's.
        """
        devices = [self.models[name].device for name in generators]
        with own_precision(*devices):
            own = [
                self._rows[name].head(states_NH.to(device)).to(devices[0])
                for name, device, states_NH in zip(generators, devices, states, strict=True)
            ]
        reference = next((i for i, name in enumerate(generators) if name not in self.maps), None)
        if reference is None:
            raise ValueError(
                f"none of {', '.join(generators)} has the reference's vocabulary; add one that has."
            )
        return [
            self.maps[name].scores(z, own[reference]) if name in self.maps else z
            for name, z in zip(generators, own, strict=True)
        ]

    def combined(self, mixture: Mixture, states: Sequence[Tensor]) -> Tensor:
        """Scores [N, V] at the positions of the states; not normalised yet."""
        combine = mixture.combine
        logits_NV = self.logits(mixture.generators, states)
        if isinstance(combine, StateCombine):
            combine = combine.at(states[0].to(logits_NV[0].device))
        return combine(logits_NV)

    def readings(self, request: ScoreRequest) -> list[ScoreRequest]:
        """The row that each generator of the request's mixture reads, in its own ids.

        Raises:
            ValueError: a generator is not here, cannot read its row, or has a vocabulary of its own
                and no prompt in it.
        """
        mixture = request.mixture
        assert mixture is not None
        rows = []
        for place, name in enumerate(mixture.generators):
            if name not in self.models:
                raise ValueError(
                    f"episode {request.episode_id}: no generator is named {name!r}; "
                    f"there are {', '.join(self.models)}."
                )
            prompt = mixture.prompts[place] if mixture.prompts else None
            if prompt is None and name in self.maps:
                raise ValueError(
                    f"episode {request.episode_id}: {name} has a vocabulary of its own; "
                    "give it a prompt in its own ids."
                )
            before = request.prefix_ids + request.guidance_ids if prompt is None else prompt
            row = ScoreRequest(request.episode_id, before, (), self._gold(name, request)[0])
            check_request(row, self.models[name].config)
            rows.append(row)
        return rows

    def spelled(self, name: str, token: int) -> TokenIds:
        """One of the reference's tokens as the generator reads it."""
        return self.maps[name].spell([token])[0] if name in self.maps else (token,)

    def _gold(self, name: str, request: ScoreRequest) -> tuple[TokenIds, list[int]]:
        """The gold tokens as the generator reads them, and where each of them begins."""
        if name in self.maps:
            return self.maps[name].spell(request.gold_ids)
        return request.gold_ids, list(range(len(request.gold_ids)))

    def _alike(self, requests: Sequence[ScoreRequest]) -> list[list[ScoreRequest]]:
        """Requests of the same generators, each in the same regime."""
        found: dict[tuple[tuple[str, ...], tuple[int, ...]], list[ScoreRequest]] = {}
        for request in dict.fromkeys(requests):
            assert request.mixture is not None
            names = request.mixture.generators
            regimes = tuple(
                self._rows[name].regimes.of(row.num_tokens)
                for name, row in zip(names, self.readings(request), strict=True)
            )
            found.setdefault((names, regimes), []).append(request)
        return list(found.values())

    def _in_batches(
        self,
        requests: Sequence[ScoreRequest],
        run: Callable[[Sequence[ScoreRequest]], list[Result]],
    ) -> dict[ScoreRequest, Result]:
        mixture = requests[0].mixture
        assert mixture is not None
        devices = [self.models[name].device for name in mixture.generators]
        call = max(map(tokens_per_call, devices))
        with own_precision(*devices):
            return run_batches(
                requests,
                lambda r: max(row.num_tokens for row in self.readings(r)),
                lambda lengths, most: padded_batches(lengths, most, call),
                run,
                self._budget,
            )

    @torch.no_grad()
    def _states(self, batch: Sequence[ScoreRequest]) -> list[tuple[Tensor, ...]]:
        assert batch[0].mixture is not None
        names = batch[0].mixture.generators
        readings = [self.readings(request) for request in batch]
        by_generator = []
        for place, name in enumerate(names):
            rows = [rows[place] for rows in readings]
            read = self._rows[name].states_before_gold(rows)
            by_row = read.split([len(row.gold_ids) for row in rows])
            by_generator.append(
                [own[self._gold(name, r)[1]] for r, own in zip(batch, by_row, strict=True)]
            )
        return list(zip(*by_generator, strict=True))

    @torch.no_grad()
    def _likelihoods(self, batch: Sequence[ScoreRequest]) -> list[Likelihood]:
        found = []
        for request, states in zip(batch, self._states(batch), strict=True):
            mixture = request.mixture
            assert mixture is not None

            def scores(
                chunk: slice, mixture: Mixture = mixture, states: tuple[Tensor, ...] = states
            ) -> Tensor:
                return self.combined(mixture, [own[chunk] for own in states])

            found += gold_likelihoods([request], scores, self.positions_per_chunk)
        return found


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
