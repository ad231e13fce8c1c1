"""Writing a chapter under a fused distribution, each writer with a cache of its own."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    PreTrainedModel,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from envs.sampling import Sampling
from envs.tokens import end_id
from envs.types import GENERATOR, Episode, Fusion
from rewards.fused_request import fused_request
from rewards.likelihood.logits import body
from rewards.likelihood.mixture import MixtureScorer
from rewards.likelihood.model_limits import context_window
from rewards.likelihood.precision import own_precision
from rewards.types import ScoreRequest, TokenIds
from train.ensembles.shelf import Shelf

# H hidden size, T tokens, V vocabulary.


def write(shelf: Shelf, outcome: Fusion, episode: Episode, sampling: Sampling, seed: int) -> str:
    """The chapter that the writers of a fusion write together behind what each of them reads.

    It ends at the shortest of their windows at the latest.
    """
    scorer = shelf.mixture_scorer(outcome.writers)
    request = fused_request(shelf.request, episode, outcome)
    tokenizer = shelf.tokenizer(GENERATOR)
    ids = fused_ids(scorer, request, sampling, end_id(tokenizer), seed)
    return str(tokenizer.decode(list(ids), skip_special_tokens=True))


@torch.no_grad()
def fused_ids(
    scorer: MixtureScorer, request: ScoreRequest, sampling: Sampling, end: int, seed: int
) -> TokenIds:
    """The reference's tokens that a mixture writes behind a request's prompts, without the end.

    Drawn as transformers draws them: a mixture with all weight on one writer writes what that one
    writes alone. Penalties and cuts go by the fused distribution.
    """
    mixture = request.mixture
    assert mixture is not None
    seats = [CachedReader(scorer.models[name]) for name in mixture.generators]
    processors = _processors(sampling)
    written: list[int] = []
    read = [row.prefix_ids for row in scorer.readings(request)]
    devices = [scorer.models[name].device for name in mixture.generators]
    with torch.random.fork_rng(), own_precision(*devices):
        torch.manual_seed(seed)
        while len(written) < sampling.max_new_tokens:
            states = [seat.read(ids) for seat, ids in zip(seats, read, strict=True)]
            scores_1V = scorer.combined(mixture, states).float()
            seen_1T = torch.tensor([[*request.prefix_ids, *request.guidance_ids, *written]])
            scores_1V = processors(seen_1T.to(scores_1V.device), scores_1V)
            token = _drawn(scores_1V, is_greedy=sampling.temperature == 0)
            if token == end:
                break
            written.append(token)
            read = [scorer.spelled(name, token) for name in mixture.generators]
            if not all(seat.has_room(ids) for seat, ids in zip(seats, read, strict=True)):
                break
    return tuple(written)


class CachedReader:
    """A model that has read some tokens, and keeps their keys and values for those that follow."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._window = context_window(model.config)
        self._cache: Any = None
        self.num_read = 0

    def read(self, ids: TokenIds) -> Tensor:
        """The last hidden state after these tokens, behind all that were read before: [1, H]."""
        output = body(self._model)(
            input_ids=torch.tensor([ids], device=self._model.device),
            past_key_values=self._cache,
            use_cache=True,
        )
        self._cache = output.past_key_values
        self.num_read += len(ids)
        return cast(Tensor, output.last_hidden_state)[0, -1:]

    def has_room(self, ids: TokenIds) -> bool:
        """Whether the window holds these and a token after them."""
        return self._window is None or self.num_read + len(ids) < self._window


def _drawn(scores_1V: Tensor, is_greedy: bool) -> int:
    if is_greedy:
        return int(scores_1V.argmax(-1))
    return int(torch.multinomial(scores_1V.softmax(-1), num_samples=1))


def _processors(sampling: Sampling) -> LogitsProcessorList:
    """What transformers does to logits under these settings, in its order."""
    found: list[Any] = []
    if sampling.repetition_penalty != 1:
        found.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.temperature > 0:
        if sampling.temperature != 1:
            found.append(TemperatureLogitsWarper(sampling.temperature))
        if sampling.top_k:
            found.append(TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1:
            found.append(TopPLogitsWarper(sampling.top_p))
    return LogitsProcessorList(found)
