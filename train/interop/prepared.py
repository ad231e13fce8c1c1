"""A run's books, prompts, generator and reward, for libraries that bring their own agent."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property
from typing import Literal

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from envs.solo import SoloPlanner
from envs.types import Episode, Reply, Rollout, Split
from rewards.improvement import improvement_percent
from rewards.types import Score
from rewards.weighted_sum import group_terms
from train.commands.evaluate import kept_models
from train.config.validate import parse
from train.progress import ProgressDisplay
from train.recipes import CONFIG_DIR
from train.rollouts import Judge
from train.run import Run, episodes_of
from train.run_folder import RunFolder
from train.schema import ModelConfig, RunConfig

AnySplit = Split | Literal["all"]


class Prepared:
    """What `nextchapter train` would build from these settings, without training an agent.

    With `run`, a finished run's settings and its generator; `overrides` are Hydra's, of
    `nextchapter train`. Models are loaded when the first answer is judged.
    """

    def __init__(self, run: str | None = None, overrides: Sequence[str] = ()) -> None:
        trained = RunFolder.open(run) if run else None
        self.config = _settings(trained, overrides)
        kept: dict[str, ModelConfig] = kept_models(trained, self.config) if trained else {}
        self._run = Run.prepare(self.config, ProgressDisplay(), kept, is_trained=True)

    @property
    def env(self) -> SoloPlanner:
        """Raises:
        ValueError: several agents play, and these libraries bring one.
        """
        if not isinstance(self._run.env, SoloPlanner):
            raise ValueError(
                f"env: {self.config.env['_target_']} is played by several agents; an agent from "
                "outside plays env=solo"
            )
        return self._run.env

    def episodes(self, split: AnySplit) -> list[Episode]:
        return episodes_of(self._run.source, split)

    @cached_property
    def _by_id(self) -> dict[str, Episode]:
        return {episode.episode_id: episode for episode in self.episodes("all")}

    @cached_property
    def _judge(self) -> Judge:
        if compared := group_terms(self._run.terms):
            raise ValueError(
                f"reward.terms.{compared[0]}: compares all attempts at a chapter, and answers from "
                "outside come one by one; choose another, such as reward=raw"
            )
        return Judge(list(self._by_id.values()), self.env, self._run.reward)

    def judged(
        self, episode_ids: Sequence[str], replies: Sequence[Reply]
    ) -> list[tuple[Rollout, Score]]:
        """What each answer to an episode's question is worth.

        Raises:
            ValueError: a term of the reward compares the attempts of a group, or scoring failed.
        """
        return list(zip(*self._judge(episode_ids, replies), strict=True))

    def improvement(self, episode_id: str, reply: Reply) -> float:
        """In per cent, of the plan in an answer, whatever the rules of the reward give for it."""
        episode = self._by_id[episode_id]
        outcome = self.env.conclude(episode, reply).outcome
        ((with_plan, baseline),) = self._run.reward.likelihoods([(episode, outcome)])
        return improvement_percent(with_plan, baseline)


@cache
def prepared(run: str | None, overrides: tuple[str, ...]) -> Prepared:
    """The same object for the same settings, so that a process holds one generator."""
    return Prepared(run, overrides)


def _settings(trained: RunFolder | None, overrides: Sequence[str]) -> RunConfig:
    if trained is not None:
        given = OmegaConf.from_dotlist(list(overrides))
        merged = OmegaConf.merge(OmegaConf.create(dict(trained.load_config())), given)
        assert isinstance(merged, DictConfig)
        return parse(RunConfig, merged)
    try:
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            composed = compose("train", ["run_dir=unused", *overrides])
    except HydraException as error:
        raise ValueError(f"overrides: {str(error).splitlines()[0]}") from error
    return parse(RunConfig, composed)
