"""A run of an ensemble: its writers made, what decides among them fitted, kept, and evaluated."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean

import envs
import rewards
import train
from envs.ensemble import Ensemble
from envs.types import GENERATOR, Episode
from rewards.improvement import improvement_percent
from train import ranks
from train.analysis.rows import (
    TRAINED,
    UNTRAINED,
    WITHOUT_ROW,
    WRITER_ROW,
    Evaluation,
    costs_in_play,
)
from train.cache import digest, source_fingerprint
from train.ensembles.fitted import Fitted, learner_of, writing_costs, written_by
from train.ensembles.shelf import Shelf, in_order
from train.evaluation.ensembles import Made, ensemble_table
from train.evaluation.evaluator import Evaluator
from train.files import copy_folder, read_json, write_json
from train.models import model_digest
from train.results import keep_models, open_journal, with_recall, write_results
from train.run import Run, episodes_of
from train.run_folder import RunFolder
from train.stages import keep

BEST_SINGLE = "best_single"
FITTED = "ensemble"
SINGLES, MADE_OF = "singles.json", "made_of.json"


def train_ensemble(run: Run, folder: RunFolder) -> Evaluation:
    """Fits the ensemble and leaves it, its table and its examples in `folder`."""
    evaluation = evaluate_ensemble(run, folder)
    keep_models(run, folder)
    write_results(run, evaluation, folder)
    return evaluation


def evaluate_ensemble(run: Run, folder: RunFolder, earlier: Path | None = None) -> Evaluation:
    """The table of an ensemble: its writers, the controls, itself before and after learning.

    What was fitted in the run folder `earlier` is taken from there; else it is fitted here, or
    taken from the cache, and left in `folder`.
    """
    env, shelf = ensemble_of(run), run.shelf
    kept = fitted_folder(run, earlier)
    if ranks.is_main():
        copy_folder(kept, folder.path / FITTED)
    config = run.config.evaluation
    episodes = episodes_of(run.source, config.split)
    journal = open_journal(run)
    evaluator = Evaluator(episodes, run.reward, config, run.config.seed, journal)
    singles = shelf.chosen(env.writers)
    # Before any of them is asked: several processes ask the same ones.
    for name in singles:
        shelf.writer(name)
    made = {f"{WRITER_ROW}{name}": _alone(shelf, name, evaluator.episodes) for name in singles}
    best = str(read_json(kept / SINGLES)["best"])
    made[BEST_SINGLE] = made[f"{WRITER_ROW}{best}"]
    made["random_writer"] = _at_random(shelf, singles, evaluator.episodes, run.config.seed)
    learner = learner_of(env)
    made[UNTRAINED] = _made(learner.untrained(env, shelf, run.config.seed), evaluator.episodes)
    for name, part, without in _parts(env, kept):
        made[name] = _made(learner.load(without, part, shelf), evaluator.episodes)
    evaluation = ensemble_table(evaluator, made, run.progress)
    return with_recall(run, evaluator, journal, evaluation)


def ensemble_of(run: Run) -> Ensemble:
    assert isinstance(run.env, Ensemble)
    return run.env


def _parts(env: Ensemble, kept: Path) -> list[tuple[str, Path, Ensemble]]:
    """The rows of what was fitted: the whole, and what is left without each writer."""
    found = [(TRAINED, kept / TRAINED, env)]
    for folder in sorted(kept.glob(f"{WITHOUT_ROW}*")):
        left = tuple(read_json(folder / "writers.json")["writers"])
        found.append((folder.name, folder, replace(env, writers=left)))
    return found


def fitted_folder(run: Run, earlier: Path | None = None) -> Path:
    """Where what was fitted is: in the run folder `earlier`, if it is of this env and of these
    writers, or in the cache, fitted now if need be.
    """
    env = ensemble_of(run)
    about = {
        "env": run.config.env,
        "generator": model_digest(run.generator),
        "writers": {name: model_digest(model) for name, model in run.writers.items()},
        **({"policy": model_digest(run.agent)} if env.asks_policy else {}),
        # What was fitted of the writers is kept by their places.
        "order": in_order(env, run.shelf),
    }
    # In JSON's own types, as it is read again.
    about = json.loads(json.dumps(about))
    kept = None if earlier is None else earlier / FITTED
    if kept is not None and (kept / MADE_OF).is_file() and read_json(kept / MADE_OF) == about:
        return kept
    key = {
        **about,
        "prompts": asdict(run.config.prompts),
        "limits": [
            {**asdict(g), "model": None, "training": None, "reading": None}
            for g in (run.config.generator, *run.config.writers.values())
        ],
        "data": run.source.key(),
        "seed": run.config.seed,
        "processes": ranks.num_processes(),
        "code": source_fingerprint(envs, rewards, train),
    }

    def make(folder: Path) -> None:
        _fit(run, env, folder)
        write_json(folder / MADE_OF, about)

    return keep(run.stages.cache, FITTED, key, make)


def _fit(run: Run, env: Ensemble, folder: Path) -> None:
    shelf, learner, seed = run.shelf, learner_of(env), run.config.seed
    learned, chosen_on = run.train_episodes, run.source.episodes("validation")
    if not chosen_on:
        raise ValueError("data: the split 'validation' has no episodes; give more books")
    names = shelf.chosen(env.writers)
    lone = len(names) < 3 and env.leave_one_out
    if lone:
        raise ValueError(
            "env.leave_one_out: of two writers one is left, which is a row already; set it to false"
        )
    left_out = names if env.leave_one_out else ()
    reduced = {name: _without(env, shelf, name, seed) for name in left_out}
    with run.progress.stage("fit the ensemble", 2 + len(left_out)) as advance:
        means = _validation_means(shelf, names, chosen_on)
        advance()
        _save(learner.fit(env, shelf, learned, chosen_on, seed), folder / TRAINED)
        advance()
        for name in left_out:
            others = reduced[name].writers
            part = folder / f"{WITHOUT_ROW}{name}"
            _save(learner.fit(reduced[name], shelf, learned, chosen_on, seed), part)
            write_json(part / "writers.json", {"writers": list(others)})
            advance()
    write_json(folder / SINGLES, {"best": max(means, key=means.__getitem__), "validation": means})


def _without(env: Ensemble, shelf: Shelf, name: str, seed: int) -> Ensemble:
    """The env without one of its writers.

    Raises:
        ValueError: it cannot do without, which is found out before anything is fitted.
    """
    others = tuple(other for other in in_order(env, shelf) if other != name)
    try:
        some = replace(env, writers=others, leave_one_out=False)
        learner_of(some).untrained(some, shelf, seed)
    except ValueError as error:
        raise ValueError(
            f"env.leave_one_out: this env cannot do without {name} ({error}); set it to false"
        ) from error
    return some


def _save(fitted: Fitted, folder: Path) -> None:
    folder.mkdir(parents=True)
    fitted.save(folder)


def _validation_means(
    shelf: Shelf, names: Sequence[str], episodes: Sequence[Episode]
) -> dict[str, float]:
    """Mean improvement of each writer alone."""
    plain = shelf.likelihoods(GENERATOR, episodes)
    return {
        name: fmean(
            improvement_percent(own, baseline)
            for own, baseline in zip(shelf.likelihoods(name, episodes), plain, strict=True)
        )
        for name in names
    }


def _alone(shelf: Shelf, name: str, episodes: Sequence[Episode]) -> Made:
    outcomes = [written_by(name) for _ in episodes]
    costs = [writing_costs(shelf, [name], e) for e in episodes]
    return Made(outcomes, [costs_in_play(c) for c in costs])


def _at_random(shelf: Shelf, names: Sequence[str], episodes: Sequence[Episode], seed: int) -> Made:
    """One writer for each chapter, by its id: what a router is worth that looks at nothing."""
    chosen = [names[int(digest([e.episode_id, seed])[:8], 16) % len(names)] for e in episodes]
    costs = [writing_costs(shelf, [name], e) for name, e in zip(chosen, episodes, strict=True)]
    return Made([written_by(n) for n in chosen], [costs_in_play(c) for c in costs])


def _made(fitted: Fitted, episodes: Sequence[Episode]) -> Made:
    decided = fitted.decide(episodes)
    return Made([d.outcome for d in decided], [costs_in_play(d.costs) for d in decided])
