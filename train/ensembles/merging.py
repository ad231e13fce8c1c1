"""Merges: finds the coefficients, makes the merged writer, and keeps what it is made by.

Coefficients are searched for, or learned, on training books; among what was found, validation books
decide; test books are never looked at.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from torch import Tensor

from envs.merging import FROM_BASE, Merging
from envs.types import Episode, Merge
from rewards.types import ScoreRequest
from train.cache import digest
from train.ensembles.fitted import Decision, writing_costs
from train.ensembles.shelf import MADE, Shelf
from train.files import read_json, write_json
from train.merging import search
from train.merging.coefficients import Coefficients
from train.merging.descent import batches, descent
from train.merging.lora import factors_between, linear_weights, with_factors
from train.merging.merger import COMBINE, Merger
from train.merging.methods import draw_for, dropped, trimmed
from train.merging.objective import MergeLoss
from train.merging.search import LORAHUB_L1, Evaluations, Point
from train.merging.weights import Weights, check_mergeable, put_weights, weights_of
from train.models import save_model

FILE = "merge.json"


@dataclass(frozen=True)
class FittedMerge:
    """Coefficients, and the writer that they make of others. `found` says how they were found.

    `nll` and `start_nll` are in nats per gold token on validation books; `evaluations` counts every
    merge that was tried.
    """

    env: Merging
    shelf: Shelf
    seed: int
    coefficients: Coefficients
    found: Mapping[str, float]

    @cached_property
    def writer(self) -> str:
        """The name of the merge on the shelf, where it is put when it is first asked for."""
        settings = {**asdict(self.env), "writers": (), "leave_one_out": False}
        content = {"seed": self.seed, "env": settings, "merge": self.coefficients.plain()}
        name = f"{MADE}{self.env.method}_{digest(content)[:8]}"
        if name not in self.shelf.names:
            base = self.env.base
            merger = merger_of(self.env, self.shelf, self.coefficients.writers, self.seed)
            model = copy.deepcopy(self.shelf.model(base))
            put_weights(model, merger.merged(self.coefficients))
            self.shelf.add(name, model, self.shelf.tokenizer(base))
        return name

    def decide(self, episodes: Sequence[Episode]) -> list[Decision]:
        writer = self.writer
        return [Decision(Merge(writer), writing_costs(self.shelf, [writer], e)) for e in episodes]

    def save(self, folder: Path) -> None:
        content = {"seed": self.seed, "found": dict(self.found)}
        write_json(folder / FILE, {"coefficients": self.coefficients.plain(), **content})

    def save_model(self, folder: Path) -> None:
        """The merge as a folder that plain `from_pretrained` loads."""
        save_model(self.shelf.model(self.writer), self.shelf.tokenizer(self.writer), folder)


def untrained(env: Merging, shelf: Shelf, seed: int) -> FittedMerge:
    """The merge at equal coefficients that add up to one."""
    writers = writers_of(env, shelf)
    return FittedMerge(env, shelf, seed, _same(env, shelf, writers, ()), {})


def load(env: Merging, folder: Path, shelf: Shelf) -> FittedMerge:
    """What `save` left in `folder`.

    Raises:
        ValueError: the file holds something else.
    """
    content = read_json(folder / FILE)
    coefficients = Coefficients.of_plain(content["coefficients"])
    return FittedMerge(env, shelf, content["seed"], coefficients, content["found"])


def fit(
    env: Merging,
    shelf: Shelf,
    train: Sequence[Episode],
    validation: Sequence[Episode],
    seed: int,
) -> FittedMerge:
    """The merge at the coefficients that `env.coefficients` finds, within the budget.

    Raises:
        ValueError: the writers cannot be merged.
    """
    writers = writers_of(env, shelf)
    check_alike(shelf, (env.base, *writers))
    start = _same(env, shelf, writers, env.start)
    if env.coefficients == "fixed":
        return FittedMerge(env, shelf, seed, start, {"evaluations": 0})
    merger = merger_of(env, shelf, writers, seed)
    loss = MergeLoss(shelf.model(env.base))
    decides = _requests(env, shelf, _some(validation, env.num_episodes, seed))

    def on_validation(point: Point) -> float:
        return loss(merger.merged(start.at(point)), decides)

    if env.coefficients == "gradient":
        learned = _requests(env, shelf, train)
        judged, tried = _learned(env, merger, loss, start, learned, on_validation, seed)
    else:
        learned = _requests(env, shelf, _some(train, env.num_episodes, seed))
        judged, tried = _searched(env, merger, loss, start, learned, on_validation, seed)
    (best,) = judged.best(1)
    found = {
        "evaluations": tried + len(judged.known),
        "start_nll": judged(start.flat),
        "nll": judged(best),
    }
    return FittedMerge(env, shelf, seed, start.at(best), found)


def _searched(
    env: Merging,
    merger: Merger,
    loss: MergeLoss,
    start: Coefficients,
    learned: Sequence[ScoreRequest],
    on_validation: Callable[[Point], float],
    seed: int,
) -> tuple[Evaluations, int]:
    """The best of a search and its start on validation, and how many merges the search tried."""

    def on_train(point: Point) -> float:
        return loss(merger.merged(start.at(point)), learned)

    l1 = LORAHUB_L1 if env.coefficients == "lorahub" else 0.0
    looked = Evaluations(on_train, env.budget - env.finalists - 1, l1)
    if env.coefficients == "swarm":
        search.swarm(looked, _corners(start), env.bounds, seed)
    else:
        # LoraHub sets out from the base; CMA-ES from the merge as it would be without it.
        origin = (0.0,) * len(start.flat) if env.coefficients == "lorahub" else start.flat
        search.cma_es(looked, origin, env.bounds, seed)
    judged = Evaluations(on_validation, env.budget - len(looked.known))
    for point in (start.flat, *looked.best(env.finalists)):
        judged(point)
    return judged, len(looked.known)


def _learned(
    env: Merging,
    merger: Merger,
    loss: MergeLoss,
    start: Coefficients,
    learned: Sequence[ScoreRequest],
    on_validation: Callable[[Point], float],
    seed: int,
) -> tuple[Evaluations, int]:
    """Steps of the gradient looked at on validation, and how many steps there were."""
    drawn = batches(learned, env.batch_size, seed)

    def of_batch(values_GN: Tensor) -> Tensor:
        return loss.gradient_to(merger.merged_at(values_GN, start), next(drawn))

    judged = Evaluations(on_validation, env.budget)
    judged(start.flat)
    step = 0
    for step, point in enumerate(
        descent(of_batch, start.tensor_GN, env.bounds, env.learning_rate), start=1
    ):
        # One more look is left for the last step.
        is_last = step + len(judged.known) + 1 >= env.budget
        if is_last or step % env.check_every == 0:
            judged(point)
        if is_last or step + len(judged.known) + 1 >= env.budget:
            break
    return judged, step


def writers_of(env: Merging, shelf: Shelf) -> tuple[str, ...]:
    """Who is merged: the writers that are named, or all that were not made of others here.

    Raises:
        ValueError: the method cannot merge them.
    """
    there = [name for name in shelf.names if not name.startswith(MADE)]
    is_counted_from = env.method in FROM_BASE
    writers = tuple(n for n in there if n != env.base or not is_counted_from)
    writers = shelf.chosen(env.writers) if env.writers else writers
    env.check_writers(writers)
    return writers


def check_alike(shelf: Shelf, names: Sequence[str]) -> None:
    """Refuses writers whose weights cannot be merged.

    Raises:
        ValueError: they have different vocabularies or architectures.
    """
    shelf.check_vocabularies(names)
    check_mergeable({name: shelf.model(name) for name in names})


def merger_of(env: Merging, shelf: Shelf, writers: Sequence[str], seed: int) -> Merger:
    """Merges those writers by the env's method.

    Raises:
        ValueError: they have different vocabularies or architectures.
    """
    check_alike(shelf, (env.base, *writers))
    base = weights_of(shelf.model(env.base))
    members = {name: weights_of(shelf.model(name)) for name in writers}
    if env.method == "lora":
        layers = linear_weights(shelf.model(env.base))
        members = {
            name: with_factors(base, factors_between(base, own, layers, env.rank))
            for name, own in members.items()
        }
    elif env.method in ("ties", "dare"):
        members = {name: _sparse(env, base, own, name, seed) for name, own in members.items()}
    return Merger(base, members, COMBINE[env.method])


def _sparse(
    env: Merging, base: Weights, member: Weights, writer: str, seed: int
) -> dict[str, Tensor]:
    """A member with a part of its changes taken back: the small ones, or some at random."""
    kept = dict(member)
    for name, tensor in member.items():
        if not tensor.is_floating_point():
            continue
        if env.method == "ties":
            kept[name] = trimmed(base[name], tensor, env.density)
        else:
            draw = draw_for(seed, writer, name)
            kept[name] = dropped(base[name], tensor, env.drop_rate, draw)
    return kept


def _same(
    env: Merging, shelf: Shelf, writers: Sequence[str], values: Sequence[float]
) -> Coefficients:
    """The same coefficients for all groups: those given, or equal ones that add up to one."""
    values = values or [1 / len(writers)] * len(writers)
    weights = weights_of(shelf.model(env.base))
    names = [name for name, tensor in weights.items() if tensor.is_floating_point()]
    return Coefficients.same(writers, values, env.per, names)


def _corners(like: Coefficients) -> list[Point]:
    """Each writer alone, for all groups."""
    count = len(like.writers)
    return [tuple(float(i == one) for i in range(count)) * len(like.values) for one in range(count)]


def _requests(env: Merging, shelf: Shelf, episodes: Sequence[Episode]) -> list[ScoreRequest]:
    return [shelf.request(env.base, episode) for episode in episodes]


def _some(episodes: Sequence[Episode], count: int, seed: int) -> list[Episode]:
    """So many of them, drawn by seed; all of them where there are no more."""
    if len(episodes) <= count:
        return list(episodes)
    return random.Random(seed).sample(episodes, count)
