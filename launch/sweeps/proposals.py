"""Which settings an optimiser tries next: a function of what is known, its seed, and nothing else.

Optuna's study is made anew for each proposal, from the trials as their folders tell of them. So a
sweep that was killed goes on as if nothing had been, and there is no second record of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from launch.sweeps.settings import SweeperSettings
from launch.sweeps.space import Dimension

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler  # pyright: ignore[reportMissingImports]

# Where so many proposals in a row were tried before, there is hardly anything left to try.
ATTEMPTS = 100


@dataclass(frozen=True)
class Told:
    """An earlier trial: its settings as they are written, and its result.

    Without one it is still at work, or, with `failed`, will never have one.
    """

    texts: Mapping[str, str]
    value: float | None = None
    failed: bool = False


def propose(
    dimensions: Sequence[Dimension], told: Sequence[Told], settings: SweeperSettings, number: int
) -> dict[str, str] | None:
    """The settings of trial `number`, as they are written; None where all have been tried."""
    tried = [{d.name: one.texts[d.name] for d in dimensions} for one in told]
    for attempt in range(ATTEMPTS):
        seed = int(np.random.SeedSequence([settings.seed, number, attempt]).generate_state(1)[0])
        texts = _ask(dimensions, told, settings, seed)
        if texts not in tried:
            return texts
    return None


def _ask(
    dimensions: Sequence[Dimension], told: Sequence[Told], settings: SweeperSettings, seed: int
) -> dict[str, str]:
    import optuna  # pyright: ignore[reportMissingImports]

    # It would announce every study.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction=settings.direction, sampler=_sampler(settings, seed))
    distributions = {d.name: d.distribution for d in dimensions}
    for one in told:
        if one.failed:
            continue
        is_done = one.value is not None
        assert one.value is None or math.isfinite(one.value)
        state = optuna.trial.TrialState.COMPLETE if is_done else optuna.trial.TrialState.RUNNING
        params = {d.name: d.chosen(one.texts[d.name]) for d in dimensions}
        study.add_trial(
            optuna.trial.create_trial(
                state=state, value=one.value, params=params, distributions=distributions
            )
        )
    chosen = study.ask(distributions).params
    return {d.name: d.text(chosen[d.name]) for d in dimensions}


def _sampler(settings: SweeperSettings, seed: int) -> BaseSampler:
    from optuna import samplers  # pyright: ignore[reportMissingImports]

    if settings.sampler == "random":
        return samplers.RandomSampler(seed)
    kind = samplers.TPESampler if settings.sampler == "tpe" else samplers.GPSampler
    return kind(seed=seed, n_startup_trials=settings.n_startup_trials)
