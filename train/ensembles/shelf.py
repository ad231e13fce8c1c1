"""The writers of a run: frozen generators by name, each loaded when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from envs.agents import num_weights
from envs.ensemble import Ensemble
from envs.types import GENERATOR, Episode
from rewards.encode import GeneratorEncoder
from rewards.likelihood.dense import DenseScorer
from rewards.likelihood.mixture import MixtureScorer
from rewards.likelihood.realigned import realigned
from rewards.ranks.alike import AlikeScorer
from rewards.ranks.exchange import Exchange
from rewards.types import Likelihood, LikelihoodScorer, ScoreRequest
from train.ensembles.vocabularies import vocabulary_maps
from train.ranks import num_processes
from train.schema import ScorerConfig


@dataclass(frozen=True)
class Writer:
    """A frozen generator with what it reads by and what it is asked through."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    encoder: GeneratorEncoder
    scorer: LikelihoodScorer


ROUTER = "router"
"""Under which the cost of deciding stands beside those of the writers."""
MADE = "merged_"
"""What the names of writers begin with that were made of others, on the shelf of a run."""

Dress = Callable[[PreTrainedModel, PreTrainedTokenizerBase], Writer]


class Shelf:
    """Writers by name, and their scorer: a request goes to the writer, or the writers, it names.

    The first is the reference: improvement is counted against it, on its tokens. `load` brings each
    writer; `dress` makes one of a model that was put together here. `policy` brings the agent, laid
    out as a writer, for who chooses among writers with it; where there is none, the reference is.
    """

    def __init__(
        self,
        load: Mapping[str, Callable[[], Writer]],
        dress: Dress,
        scorer: ScorerConfig | None = None,
        policy: Callable[[], Writer] | None = None,
    ) -> None:
        assert next(iter(load)) == GENERATOR
        self._load = dict(load)
        self._dress = dress
        self._config = scorer or ScorerConfig()
        self._bring_policy = policy
        self._loaded: dict[str, Writer] = {}
        self._together: dict[tuple[str, ...], MixtureScorer] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """All writers, the reference first."""
        return tuple(self._load)

    def chosen(self, names: Sequence[str]) -> tuple[str, ...]:
        """The writers of these names, all of them for none.

        Raises:
            ValueError: there is no writer of a name, or one is named twice.
        """
        check_names(names, self.names)
        return tuple(names) or self.names

    def writer(self, name: str) -> Writer:
        if name not in self._loaded:
            (name,) = self.chosen([name])
            self._loaded[name] = self._load[name]()
        return self._loaded[name]

    @cached_property
    def policy(self) -> Writer:
        """The agent, which writes no chapter."""
        return self._bring_policy() if self._bring_policy else self.writer(GENERATOR)

    def model(self, name: str) -> PreTrainedModel:
        return self.writer(name).model

    def tokenizer(self, name: str) -> PreTrainedTokenizerBase:
        return self.writer(name).tokenizer

    def num_weights(self, name: str) -> int:
        """How large this writer is, and so what each of its tokens costs."""
        return num_weights(self.model(name))

    def smallest_first(self, names: Sequence[str]) -> tuple[str, ...]:
        """The same writers by what writing costs; of equals, the one that was named first."""
        return tuple(sorted(names, key=self.num_weights))

    def request(self, name: str, episode: Episode, plan: str = "") -> ScoreRequest:
        """The episode as this writer reads it."""
        return self.writer(name).encoder.request(episode, plan)

    def add(self, name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        """Puts a model that was made of others on the shelf, in the place of one of that name."""
        writer = self._dress(model.eval().requires_grad_(False), tokenizer)
        self._load[name] = lambda: writer
        self._loaded[name] = writer
        self._together.clear()

    @property
    def encoders(self) -> Mapping[str, GeneratorEncoder]:
        """By which each writer reads; it is loaded when it is looked up."""
        return _Encoders(self)

    def score(self, requests: Sequence[ScoreRequest]) -> list[Likelihood]:
        """One likelihood per request, in order, on the tokens of whoever writes.

        Where there are several processes, each has to ask, and the scorers are asked in one order.
        """
        places: dict[str, list[int]] = {name: [] for name in self.names}
        mixed: list[int] = []
        for place, request in enumerate(requests):
            if request.mixture is not None:
                mixed.append(place)
            else:
                places[request.writer or GENERATOR].append(place)
        found: dict[int, Likelihood] = {}
        together = num_processes() > 1 and self._config.kind != "local"
        for name, own in places.items():
            if own or (together and name in self._loaded):
                asked = [requests[place] for place in own]
                found |= dict(zip(own, self.writer(name).scorer.score(asked), strict=True))
        if mixed:
            asked = [requests[place] for place in mixed]
            names = [n for r in asked if r.mixture is not None for n in r.mixture.generators]
            scorer: LikelihoodScorer = self.mixture_scorer(names)
            if together:
                # Mixtures do not travel, but all processes ask for the same ones.
                scorer = AlikeScorer(scorer, Exchange())
            found |= dict(zip(mixed, scorer.score(asked), strict=True))
        return [found[place] for place in range(len(requests))]

    def mixture_scorer(self, names: Sequence[str]) -> MixtureScorer:
        """Scores what these writers write together, over the reference's tokens.

        Who has other tokens is read by their strings.
        """
        if self._config.sharding.method != "none":
            raise ValueError(
                "scorer.sharding: writers who write together are whole on each process; take it "
                "out, or choose an env that chooses among writers"
            )
        asked = tuple(name for name in self.names if name in {GENERATOR, *names})
        if asked not in self._together:
            writers = {name: self.writer(name) for name in asked}
            most, chunk = self._config.max_tokens_per_batch, self._config.positions_per_chunk
            self._together[asked] = MixtureScorer(
                # It is given nothing to score alone, which several processes would have to ask for.
                DenseScorer(self.model(GENERATOR), most),
                {name: writer.model for name, writer in writers.items()},
                most,
                chunk,
                vocabulary_maps({n: (w.model, w.tokenizer) for n, w in writers.items()}),
            )
        return self._together[asked]

    def likelihoods(self, name: str, episodes: Sequence[Episode]) -> list[Likelihood]:
        """What this writer says of each chapter, without a plan, on the reference's tokens.

        Raises:
            ValueError: its tokenizer is another, and of a chapter one of the two reads a part only.
        """
        writer = self.writer(name)
        requests = [writer.encoder.request(e) for e in episodes]
        found = writer.scorer.score(requests)
        if self.shares_tokens(name):
            return found
        return [self._on_reference(name, e, own) for e, own in zip(episodes, found, strict=True)]

    def shares_tokens(self, name: str) -> bool:
        """Whether this writer and the reference cut texts alike."""
        if name == GENERATOR:
            return True
        own, reference = (
            cast(PreTrainedTokenizerFast, self.tokenizer(n)) for n in (name, GENERATOR)
        )
        return own.backend_tokenizer.to_str() == reference.backend_tokenizer.to_str()

    def check_vocabularies(self, names: Sequence[str]) -> None:
        """Refuses writers that cannot speak of the same next token: all maps are compared in full.

        Raises:
            ValueError: the map from tokens to ids of one differs from that of the first.
        """
        first, *others = names
        expected = self.tokenizer(first).get_vocab()
        for name in others:
            own = self.tokenizer(name).get_vocab()
            if own != expected:
                differing = {t for t, _ in own.items() ^ expected.items()}
                raise ValueError(
                    f"env.writers: {first} and {name} give {len(differing)} tokens different ids, "
                    f"such as {min(differing)!r}, so their next tokens cannot be combined; choose "
                    "writers of one tokenizer, or an env that chooses among writers"
                )

    def _on_reference(self, name: str, episode: Episode, own: Likelihood) -> Likelihood:
        ends = [self.writer(n).encoder.gold_ends(episode) for n in (name, GENERATOR)]
        try:
            return realigned(own, *ends)
        except ValueError as error:
            raise ValueError(f"episode {episode.episode_id}, writer {name}: {error}") from error


def in_order(env: Ensemble, shelf: Shelf) -> tuple[str, ...]:
    """Who takes part, in the order that the env gives them where nobody named one."""
    writers = shelf.chosen(env.writers)
    return shelf.smallest_first(writers) if env.is_smallest_first and not env.writers else writers


class _Encoders(Mapping[str, GeneratorEncoder]):
    """The encoders of a shelf by writer."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf

    def __getitem__(self, name: str) -> GeneratorEncoder:
        if name not in self.shelf.names:
            raise KeyError(name)
        return self.shelf.writer(name).encoder

    def __iter__(self) -> Iterator[str]:
        return iter(self.shelf.names)

    def __len__(self) -> int:
        return len(self.shelf.names)


def check_ensemble(env: Ensemble, writers: Mapping[str, object]) -> None:
    """Refuses, before any work is done, an env of writers who are not there.

    Raises:
        ValueError: there is no writer beside the generator, where the env names not it alone, or
            none of a name.
    """
    if not writers and set(env.writers) != {GENERATOR}:
        raise ValueError(
            "writers: this env wants other writers beside the generator, and there are none; "
            "choose some with writers=storyworld_halves, or add writers.<name>.model.path"
        )
    if GENERATOR in writers:
        raise ValueError(
            f"writers.{GENERATOR}: the reference has this name already; choose another"
        )
    for name in writers:
        if name == ROUTER or name.startswith(MADE):
            raise ValueError(
                f"writers.{name}: the name stands for what ensembles make ({ROUTER}, {MADE}...); "
                "choose another"
            )
    check_names(env.writers, (GENERATOR, *writers))


def check_names(chosen: Sequence[str], known: Sequence[str]) -> None:
    """Refuses names that no writer has, or that are given twice.

    Raises:
        ValueError: with the name.
    """
    for name in chosen:
        if name not in known:
            raise ValueError(
                f"env.writers: there is no writer {name!r}; there are {', '.join(known)}. "
                "Add it under writers"
            )
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"env.writers: names a writer twice: {', '.join(chosen)}")
