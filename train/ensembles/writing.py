"""Writing a chapter with an ensemble: whom it takes, what that gains on y, and the chapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from envs.sampling import Sampling
from envs.types import GENERATOR, Choice, Cost, Episode, Fusion, Merge, Outcome
from rewards.improvement import improvement_percent
from train.analysis.rows import TRAINED
from train.ensembles import fused_generation
from train.ensembles.fitted import learner_of
from train.ensembles.run import ensemble_of, fitted_folder
from train.run import Run, episodes_of
from train.writing import find_episode, write_chapter


@dataclass(frozen=True)
class WrittenTogether:
    """A chapter by an ensemble. `improvement` on the author's chapter is in per cent; `costs` are
    those of writing a chapter of the author's length.
    """

    episode: Episode
    outcome: Outcome
    costs: Mapping[str, Cost]
    chapter: str
    improvement: float

    def as_markdown(self) -> str:
        """Who wrote, what it costs, and the chapter."""
        costs = [
            f"- {name}: {cost.read_tokens} tokens read, {cost.generated_tokens} written"
            for name, cost in self.costs.items()
        ]
        return "\n".join(
            [
                f"# {self.episode.episode_id}\n",
                f"Written by {writers_of(self.outcome)}.\n",
                "\n".join(["## Cost\n", *costs, ""]),
                f"Improvement on the author's chapter: {self.improvement:+.2f} %\n",
                f"## Chapter\n\n{self.chapter}\n",
            ]
        )


def writers_of(outcome: Outcome) -> str:
    """In words."""
    if isinstance(outcome, Fusion):
        return f"{', '.join(outcome.writers)}, token by token"
    if isinstance(outcome, Choice | Merge):
        return outcome.writer
    return GENERATOR


def write_together(
    run: Run, earlier: Path | None, book: str, chapter: int, how: Sampling
) -> WrittenTogether:
    """The chapter as the run's ensemble writes it, fitted in the run folder `earlier` or here."""
    episode = find_episode(episodes_of(run.source, "all"), book, chapter)
    env, shelf, seed = ensemble_of(run), run.shelf, run.config.seed
    folder = fitted_folder(run, earlier)
    fitted = learner_of(env).load(env, folder / TRAINED, shelf)
    (decision,) = fitted.decide([episode])
    outcome = decision.outcome
    ((under, baseline),) = run.reward.likelihoods([(episode, outcome)])
    with run.progress.stage("write"):
        if isinstance(outcome, Fusion):
            text = fused_generation.write(shelf, outcome, episode, how, seed)
        else:
            name = outcome.writer if isinstance(outcome, Choice | Merge) else GENERATOR
            request = shelf.request(name, episode, outcome.plan)
            text = write_chapter(shelf.model(name), shelf.tokenizer(name), request, how, seed)
    return WrittenTogether(
        episode, outcome, decision.costs, text, improvement_percent(under, baseline)
    )
