"""PPO on transformers' Trainer, which brings optimizer, checkpoints, DDP and DeepSpeed."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments

from envs.tokens import pad_id
from train.files import write_json
from train.lessons import in_rows
from train.ppo.actor_critic import ActorCritic, Part
from train.ppo.advantages import (
    advantages,
    centred,
    explained_variance,
    moments,
    token_rewards,
    whitened,
)
from train.ppo.experience import Experience, Padded, learning_order, step_tokens
from train.ppo.losses import kl_estimate, policy_loss, value_loss
from train.ppo.play import Played, Player, derived_seed
from train.ppo.running import RunningMoments
from train.ppo.settings import divide

# N answers, A answer tokens, T tokens.

MOMENTS_FILE = "score_moments.json"


class Schedule(Dataset[dict[str, int]]):
    """Every micro-batch of a run: which rollout it belongs to, and its place there."""

    def __init__(self, num_micro_batches: int, per_rollout: int) -> None:
        self.num_micro_batches = num_micro_batches
        self.per_rollout = per_rollout

    def __len__(self) -> int:
        return self.num_micro_batches

    def __getitem__(self, index: int) -> dict[str, int]:
        rollout, place = divmod(index, self.per_rollout)
        return {"rollout": rollout, "place": place}


class PpoTrainer(Trainer):
    """Plays a rollout whenever the last one has been learned from, and learns from it."""

    # A loss is a sum over tokens, divided by the tokens of the whole optimizer step.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: ActorCritic,
        player: Player,
        args: TrainingArguments,
        callbacks: Sequence[TrainerCallback],
    ) -> None:
        super().__init__(
            model=model,
            args=args,
            processing_class=player.tokenizer,
            callbacks=list(callbacks),
        )
        self.player = player
        self.settings = in_rows(player.settings, player.judge.env)
        self.score_moments = RunningMoments()
        self.experience: Experience | None = None
        self._measured: dict[str, list[float]] = defaultdict(list)

    @property
    def actor_critic(self) -> ActorCritic:
        return cast(ActorCritic, self.accelerator.unwrap_model(self.model))

    def get_train_dataloader(self) -> DataLoader[dict[str, int]]:
        """Every process goes through the whole schedule; its answers are its own."""
        accumulation = divide(self.settings).micro_batches_per_step
        schedule = Schedule(
            self.settings.max_steps * accumulation, self.settings.steps_per_rollout * accumulation
        )
        return DataLoader(schedule, batch_size=1, collate_fn=lambda items: items[0])

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The Trainer's optimizer, with a learning rate of the critic's own; norms and biases never
        decay."""
        if self.optimizer is None:
            module = cast(nn.Module, self.model if model is None else model)
            kind, options = self.get_optimizer_cls_and_kwargs(self.args)
            critic_rate = self.settings.critic_learning_rate or self.settings.learning_rate
            learning = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
            decay = self.args.weight_decay
            decayed = set(self.get_decay_parameter_names(module)) if decay else set()
            # What a group does not say, torch decides, and AdamW of torch decays by 0.01.
            groups = [
                {
                    "params": chosen,
                    "lr": critic_rate if of_critic else self.settings.learning_rate,
                    "weight_decay": decay if decays else 0.0,
                }
                for of_critic in (False, True)
                for decays in (False, True)
                if (
                    chosen := [
                        p
                        for n, p in learning
                        if n.startswith("critic.") is of_critic and (n in decayed) is decays
                    ]
                )
            ]
            self.optimizer = kind(groups, **options)
        return self.optimizer

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """One micro-batch; the first of a rollout plays it."""
        if self.experience is None or self.experience.number != inputs["rollout"]:
            self.experience = self._play(model, inputs["rollout"])
        batch = self.experience.micro_batch(inputs["place"], self.settings.per_device_batch_size)
        return super().training_step(model, batch)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        settings, mask_NA = self.settings, inputs["mask_NA"]
        critic_alone = self.state.global_step < settings.critic_warmup_steps
        part: Part = "critic" if critic_alone else "both"
        found = model(
            inputs["ids_NT"], inputs["attention_NT"], mask_NA.shape[1], part, inputs["voice_N"]
        )
        # Processes average their gradients, so each counts its tokens as if there were no others.
        per_token = mask_NA * self.args.world_size / inputs["step_tokens"]
        loss_NA, is_held_NA = value_loss(
            found["value_NA"], inputs["value_NA"], inputs["return_NA"], settings.value_epsilon
        )
        self._measure(mask_NA, value_loss=loss_NA, value_clip_ratio=is_held_NA)
        loss = settings.value_weight * (loss_NA * per_token).sum()
        if critic_alone:
            return loss
        loss_NA, is_clipped_NA = policy_loss(
            found["logp_NA"],
            inputs["logp_NA"],
            inputs["advantage_NA"],
            settings.epsilon,
            settings.epsilon_high or settings.epsilon,
        )
        self._measure(
            mask_NA,
            policy_loss=loss_NA,
            clip_ratio=is_clipped_NA,
            entropy=found["entropy_NA"],
            approx_kl=kl_estimate(inputs["logp_NA"], found["logp_NA"], "k3"),
        )
        return loss + (loss_NA * per_token).sum()

    def _play(self, model: nn.Module, number: int) -> Experience:
        process, processes = self.args.process_index, self.args.world_size
        policy = cast(Any, self.actor_critic.policy)
        with self.accelerator.autocast():
            played = self.player.play(number, process, processes, policy)
        for name, value in played.metrics.items():
            self._measured[name].append(value)
        return self._experience(model, number, played)

    def _experience(self, model: nn.Module, number: int, played: Played) -> Experience:
        """What each token of the answers was worth, before anything is learned from it."""
        settings, device = self.settings, self.accelerator.device
        # NaN for no score: of such rows nothing is learned, and they count in no statistic.
        score_N = torch.tensor([math.nan if s is None else s for s in played.scores], device=device)
        padded = Padded.of(played.answers, pad_id(self.player.tokenizer)).to(device)
        padded = padded.learning(~score_N.isnan())
        voice_N = self._voice_numbers(played.roles).to(device)
        self._count_tokens(padded)
        before = self._look(model, padded, "both", voice_N)
        logp_NA, value_NA, mask_NA = before["logp_NA"], before["value_NA"], padded.mask_NA
        score_N = self._in_critic_units(score_N)
        penalty_NA = torch.zeros_like(logp_NA)
        if settings.beta:
            reference_NA = self._look(model, padded, "reference", voice_N)["logp_NA"]
            penalty_NA = settings.beta * kl_estimate(logp_NA, reference_NA, settings.kl_estimator)
            self._measure(mask_NA, kl=kl_estimate(logp_NA, reference_NA, "k3"))
        reward_NA = token_rewards(score_N, penalty_NA, mask_NA)
        advantage_NA, return_NA = advantages(
            reward_NA, value_NA, mask_NA, settings.gamma, settings.gae_lambda
        )
        whole = self._of_all_processes(advantage_NA, value_NA, return_NA, mask_NA)
        self._measured["explained_variance"].append(explained_variance(*whole[1:]))
        if settings.whiten_advantages:
            advantage_NA = whitened(advantage_NA, mask_NA, *moments(whole[0], whole[3]))
        order_EN = learning_order(
            len(mask_NA),
            settings.epochs_per_rollout,
            derived_seed(self.player.seed, "learning", number, self.args.process_index),
        ).to(device)
        tokens_S = step_tokens(mask_NA, order_EN, settings.minibatches_per_epoch)
        return Experience(
            number,
            padded.ids_NT,
            padded.attention_NT,
            mask_NA,
            logp_NA,
            value_NA,
            advantage_NA,
            return_NA,
            order_EN,
            cast(Tensor, self.accelerator.reduce(tokens_S, "sum")).clamp(min=1),
            voice_N,
        )

    def _count_tokens(self, padded: Padded) -> None:
        """Of prompts and answers, over all processes; what is counted is in every checkpoint."""
        everywhere = cast(Tensor, self.accelerator.gather(padded.attention_NT.sum()[None]))
        self.state.num_input_tokens_seen += int(everywhere.sum())

    def _voice_numbers(self, roles: Sequence[str]) -> Tensor:
        """Whose adapters said each answer, as a number; zeros where they are everybody's."""
        numbers = {role: number for number, role in enumerate(self.actor_critic.voices)}
        return torch.tensor([numbers[role] if numbers else 0 for role in roles])

    def _look(
        self, model: nn.Module, padded: Padded, part: Part, voice_N: Tensor
    ) -> dict[str, Tensor]:
        """What the model says of all answers, without learning."""
        model.eval()
        size, num_tokens = self.settings.per_device_batch_size, padded.mask_NA.shape[1]
        with torch.no_grad():
            found = [
                model(ids_NT, attention_NT, num_tokens, part, own_N)
                for ids_NT, attention_NT, own_N in zip(
                    padded.ids_NT.split(size),
                    padded.attention_NT.split(size),
                    voice_N.split(size),
                    strict=True,
                )
            ]
        return {name: torch.cat([some[name] for some in found]) for name in found[0]}

    def _in_critic_units(self, score_N: Tensor) -> Tensor:
        if self.settings.center_groups:
            score_N = centred(score_N, self.settings.num_generations)
        if not self.settings.whiten_values:
            return score_N
        everywhere = cast(Tensor, self.accelerator.gather(score_N))
        if bool((~everywhere.isnan()).any()):
            self.score_moments.add(*moments(everywhere, ~everywhere.isnan()))
        mean, deviation = self.score_moments.mean, self.score_moments.deviation
        return whitened(score_N, torch.ones_like(score_N), mean, deviation)

    def _of_all_processes(self, *tensors_NA: Tensor) -> list[Tensor]:
        """The rows of all processes, padded with zeros to one length."""
        padded = [self.accelerator.pad_across_processes(tensor, dim=1) for tensor in tensors_NA]
        return [cast(Tensor, self.accelerator.gather(tensor)) for tensor in padded]

    def _measure(self, mask_NA: Tensor, **values_NA: Tensor) -> None:
        """Keeps the mean over answer tokens for the next line of the log."""
        if not mask_NA.any():
            return
        for name, value_NA in values_NA.items():
            mean = (value_NA.detach() * mask_NA).sum() / mask_NA.sum()
            self._measured[name].append(float(mean))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds what was measured since the last line: means over micro-batches and processes."""
        mine = {name: fmean(values) for name, values in self._measured.items()}
        self._measured.clear()
        found = cast(list[dict[str, float]], gather_object([mine]))
        names = dict.fromkeys(name for one in found for name in one)
        means = {name: fmean(one[name] for one in found if name in one) for name in names}
        tokens = {"num_tokens": float(self.state.num_input_tokens_seen)}
        super().log({**logs, **means, **tokens}, start_time)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Beside the weights, what is left to learn from the rollout at hand."""
        super().save_model(output_dir, _internal_call)
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        if self.experience is not None:
            self.experience.save(self._rollout_path(folder))
        if self.args.should_save:
            write_json(folder / MOMENTS_FILE, asdict(self.score_moments))

    def restore(self, folder: Path) -> None:
        """The rollout at hand and the running moments of a checkpoint.

        Raises:
            ValueError: this number of processes did not write it.
        """
        path = self._rollout_path(folder)
        if not path.is_file():
            raise ValueError(
                f"{folder}: has no {path.name}, so another number of processes wrote it; resume "
                "with as many as it was trained with"
            )
        self.experience = Experience.load(path, self.accelerator.device)
        moments_path = folder / MOMENTS_FILE
        self.score_moments = RunningMoments(**json.loads(moments_path.read_text(encoding="utf-8")))

    def _rollout_path(self, folder: Path) -> Path:
        return folder / f"rollout-{self.args.process_index}-of-{self.args.world_size}.safetensors"

    def _save(
        self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None
    ) -> None:
        # The Trainer's way would keep policy, critic and reference in one file that nothing loads.
        if not self.args.should_save:
            return
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        state = self.actor_critic.state_dict() if state_dict is None else state_dict
        if not state:
            raise RuntimeError(
                "DeepSpeed: the weights stayed sharded when they were to be saved; set "
                "zero_optimization.stage3_gather_16bit_weights_on_model_save to true"
            )
        self.actor_critic.save(folder, state)
        self.player.tokenizer.save_pretrained(str(folder))

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        self.actor_critic.load(Path(resume_from_checkpoint))
