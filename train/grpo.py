"""GRPO through TRL's public hooks. The only module that knows TRL's row format.

A row of the data set is a prompt and an `episode_id`; TRL samples the answers, and the reward
function below joins them with their episodes again by that id.
"""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from datasets import Dataset
from peft import PeftConfig
from torch import nn
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
    set_seed,
)
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from envs.collaboration.collaboration import Collaboration
from envs.solo import SoloPlanner
from envs.tokens import end_id
from envs.types import Episode, Reply, Rollout
from envs.voices import SHARED
from rewards.types import Reward, Score
from train import zero
from train.dynamic_sampling import DynamicSampler
from train.episode_order import EpisodeOrder
from train.lessons import in_rows, rows_per_play
from train.play_sampler import PlaySampler
from train.reinforcement import trainer_arguments
from train.role_marks import MarkedRoleAdapters
from train.rollouts import Judge, OnScored, summary
from train.settings.grpo import GrpoSettings, micro_batches, steps_per_generation
from train.signal import levelled


class Rows:
    """Makes the rows of the run's data set when they are asked for: positions in, rows out."""

    def __init__(self, order: EpisodeOrder, env: SoloPlanner | Collaboration) -> None:
        self.order = order
        self.env = env

    def __getstate__(self) -> int:
        # datasets names what it is given by its pickle, for which it would go through all books.
        return len(self.order)

    def __call__(self, batch: Mapping[str, Sequence[int]]) -> dict[str, list[Any]]:
        rows = [_row(self.env, self.order[position]) for position in batch["position"]]
        return {column: [row[column] for row in rows] for column in ("prompt", "episode_id")}


class EpisodeReward:
    """The reward function that TRL calls with each process's answers, whole groups of them.

    `noise` is in points of improvement. Where a `sampler` has sampled the answers, it has scored
    them as well.
    """

    __name__ = "likelihood_improvement"

    def __init__(
        self,
        judge: Judge,
        end_ids: frozenset[int],
        group_size: int,
        noise: float = 0.0,
        on_scored: OnScored | None = None,
        sampler: DynamicSampler | PlaySampler | None = None,
    ) -> None:
        self.judge = judge
        self.end_ids = end_ids
        self.group_size = group_size
        self.noise = noise
        self.on_scored = on_scored
        self.sampler = sampler
        self.rows_per_play = rows_per_play(judge.env)

    def __call__(
        self,
        *,
        completions: Sequence[Sequence[Mapping[str, str]]],
        completion_ids: Sequence[Sequence[int]],
        episode_id: Sequence[str],
        log_metric: Callable[[str, float], None],
        judged: Sequence[tuple[Rollout, Score]] | None = None,
        turn_credit: Sequence[float | None] = (),
        **_: Any,
    ) -> list[float | None]:
        if judged is None:
            replies = [
                Reply(turns[0]["content"], truncated=not self._ended(ids))
                for turns, ids in zip(completions, completion_ids, strict=True)
            ]
            rollouts, scores = self.judge(episode_id, replies)
        else:
            plays = judged[:: self.rows_per_play]
            rollouts, scores = [r for r, _ in plays], [s for _, s in plays]
        if self.on_scored is not None:
            self.on_scored(rollouts, scores)
        # TRL compares no attempt with one whose reward is None, and gives it no advantage.
        learned = [s if r.is_heard else None for r, s in zip(rollouts, scores, strict=True)]
        rewards, share_without_signal = levelled(learned, self.group_size, self.noise)
        metrics = {
            **summary(rollouts, scores),
            "groups/without_signal": share_without_signal,
            **(self.sampler.metrics if self.sampler else {}),
        }
        for name, value in metrics.items():
            log_metric(name, value)
        if any(credit is not None for credit in turn_credit):
            return list(turn_credit)
        return [reward for reward in rewards for _ in range(self.rows_per_play)]

    def _ended(self, ids: Sequence[int]) -> bool:
        return bool(ids) and ids[-1] in self.end_ids


def train_grpo(
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    env: SoloPlanner | Collaboration,
    reward: Reward,
    order: EpisodeOrder,
    settings: GrpoSettings,
    *,
    output_dir: Path,
    seed: int,
    callbacks: Sequence[TrainerCallback] = (),
    on_scored: OnScored | None = None,
    resume_from: Path | None = None,
    peft_config: Any = None,
    roles: Sequence[str] = (),
    deepspeed: Mapping[str, Any] | None = None,
    noise: float = 0.0,
) -> PreTrainedModel:
    """Trains `policy` in place to raise `reward` on the episodes in `order`; returns it, adapters
    included.

    Each of the `roles` gets adapters of its own. `deepspeed` is DeepSpeed's own config, or None for
    plain data parallelism; either way the policy is whole in every process when it returns. `noise`
    is by how many points the scorer's improvements are off by rounding.
    """
    rows = Dataset.from_dict({"position": range(len(order))})
    rows.set_transform(Rows(order, env))
    judge, end_ids = Judge(order.episodes, env, reward), frozenset({end_id(tokenizer)})
    floor = noise if settings.noise_floor is None else settings.noise_floor
    sampler: DynamicSampler | PlaySampler | None = None
    if isinstance(env, Collaboration):
        sampler = PlaySampler(
            env,
            reward,
            judge.episodes,
            tokenizer,
            end_ids,
            group_size=settings.num_generations,
            batch_size=settings.per_device_batch_size,
            credit=settings.credit,
            seed=seed,
            noise=floor,
        )
    elif settings.max_refills or overlaps(judge, settings):
        sampler = DynamicSampler(
            judge,
            tokenizer,
            end_ids,
            group_size=settings.num_generations,
            max_refills=settings.max_refills,
            refill_with=settings.refill_with,
            noise=floor,
            seed=seed,
            episodes_at_once=settings.episodes_at_once if judge.foresees else None,
        )
        if judge.foresees:
            # All of a step is one generation to TRL; the sampler divides it.
            settings = dataclasses.replace(settings, episodes_at_once=None)
    if roles:
        policy, peft_config = cast(Any, _with_roles(policy, peft_config, roles, seed)), None
    with warnings.catch_warnings():
        # TRL keeps the right to change `rollout_func`; the lock file holds the release that we use.
        warnings.filterwarnings("ignore", message="You are using 'rollout_func'")
        trainer = (RoleTrainer if roles else GRPOTrainer)(
            model=policy,
            reward_funcs=EpisodeReward(
                judge, end_ids, settings.num_generations, floor, on_scored, sampler
            ),
            args=grpo_config(in_rows(settings, env), output_dir, seed, deepspeed, bool(roles)),
            train_dataset=rows,
            processing_class=tokenizer,
            callbacks=list(callbacks),
            peft_config=peft_config,
            # Its type wants texts, though of conversations TRL hands over the messages.
            rollout_func=cast(Any, sampler),
        )
    if isinstance(policy, MarkedRoleAdapters):
        _drop_shared(policy)
    trainer.remove_callback(PrinterCallback)
    with zero.training(trainer):
        trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    return cast(PreTrainedModel, trainer.accelerator.unwrap_model(trainer.model))


class RoleTrainer(GRPOTrainer):
    """GRPO of a policy with adapters by role, which lie where transformers does not look."""

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        cast(MarkedRoleAdapters, self.model).restore(Path(resume_from_checkpoint))


def _with_roles(
    policy: PreTrainedModel, how: PeftConfig, roles: Sequence[str], seed: int
) -> MarkedRoleAdapters:
    """The policy with adapters for each role, and one set that TRL makes its reference from."""
    # Adapters start at random.
    set_seed(seed)
    adapted = MarkedRoleAdapters.on(policy, how, roles)
    adapted.add_adapter("default", copy.deepcopy(adapted.peft_config[roles[0]]))
    return adapted


def _drop_shared(policy: MarkedRoleAdapters) -> None:
    """Takes away what is of no role: then TRL's reference is the policy without adapters."""
    for name in SHARED & set(policy.peft_config):
        policy.delete_adapter(name)
    policy.all_learn()


def overlaps(judge: Judge, settings: GrpoSettings) -> bool:
    """Whether a step's answers come in parts, of which one is scored while the next is sampled."""
    return judge.foresees and settings.episodes_at_once is not None


def _row(env: SoloPlanner | Collaboration, episode: Episode) -> dict[str, Any]:
    """A row of TRL's data set. Of a row, `rollout_func` sees only the messages, so that they carry
    the id as well; chat templates read none but role and content."""
    id_ = {"episode_id": episode.episode_id}
    prompt = [{"role": m.role, "content": m.content, **id_} for m in env.ask(episode)]
    return {"prompt": prompt, **id_}


def check_passed_on(settings: GrpoSettings) -> None:
    """Refuses names in `trainer.trl` that TRL does not know, or that are settings of our own.

    Raises:
        ValueError: there is one.
    """
    known = {f.name for f in dataclasses.fields(GRPOConfig)}
    ours = _arguments(settings, Path(), 0, 1, 1)
    for name in settings.trl:
        if name not in known:
            raise ValueError(f"trainer.trl.{name} is not a field of TRL's GRPOConfig.")
        if name in ours:
            raise ValueError(
                f"trainer.trl.{name} is set by a key of the trainer itself; docs/trainers.md "
                "lists them."
            )


def grpo_config(
    settings: GrpoSettings,
    output_dir: Path,
    seed: int,
    deepspeed: Mapping[str, Any] | None = None,
    by_role: bool = False,
) -> GRPOConfig:
    """Settings in TRL's terms."""
    ours = _arguments(
        settings,
        output_dir,
        seed,
        micro_batches(settings),
        steps_per_generation(settings),
        deepspeed,
    )
    others = {
        # Every weight of a causal language model takes part in every pass, save the adapters of a
        # role that has no row in it; to look for some that do not costs time.
        "ddp_find_unused_parameters": by_role,
        **settings.trl,
    }
    return GRPOConfig(**ours, **others)


def _arguments(
    settings: GrpoSettings,
    output_dir: Path,
    seed: int,
    accumulation: int,
    sampled_together: int,
    deepspeed: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    server_or_colocated = settings.sampler.removeprefix("vllm_")
    return {
        **trainer_arguments(settings, output_dir, seed, accumulation, deepspeed),
        # The order of the rows is the order of the run.
        "shuffle_dataset": False,
        "num_generations": settings.num_generations,
        "steps_per_generation": sampled_together,
        "num_iterations": settings.num_iterations,
        "max_completion_length": settings.max_completion_length,
        "beta": settings.beta,
        "epsilon": settings.epsilon,
        "epsilon_high": settings.epsilon_high,
        "temperature": settings.temperature,
        "loss_type": settings.loss_type,
        "importance_sampling_level": settings.importance_sampling_level,
        "scale_rewards": settings.scale_rewards,
        "use_vllm": settings.uses_vllm,
        "vllm_mode": server_or_colocated if settings.uses_vllm else "colocate",
        "vllm_importance_sampling_correction": settings.importance_sampling_correction,
        "use_transformers_continuous_batching": settings.sampler == "continuous_batching",
    }
