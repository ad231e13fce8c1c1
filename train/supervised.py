"""Supervised training of a causal language model on prompts and targets, through transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from train import zero
from train.settings.supervised import SupervisedSettings

# B batch, T tokens, V vocabulary.


@dataclass(frozen=True)
class Sample:
    """Token ids of a prompt and of what should follow it.

    `target_weights` are the loss weights of the target tokens; empty where all weigh one.
    """

    prompt_ids: tuple[int, ...]
    target_ids: tuple[int, ...]
    target_weights: tuple[float, ...] = ()


_SCHEDULERS = {"cosine": "cosine_with_min_lr", "constant": "constant_with_warmup"}


class Batcher:
    """Pads samples to the right and gives every token the weight of its loss, padding none.

    There is no attention mask: a causal model never looks at what comes after a token.
    """

    def __init__(self, pad_id: int, prompt_loss_weight: float) -> None:
        self.pad_id = pad_id
        self.prompt_loss_weight = prompt_loss_weight

    def __call__(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        lengths = [len(s.prompt_ids) + len(s.target_ids) for s in samples]
        shape = (len(samples), max(lengths))
        ids_BT = torch.full(shape, self.pad_id)
        weight_BT = torch.zeros(shape)
        for i, (sample, length) in enumerate(zip(samples, lengths, strict=True)):
            ids_BT[i, :length] = torch.tensor(sample.prompt_ids + sample.target_ids)
            weight_BT[i, : len(sample.prompt_ids)] = self.prompt_loss_weight
            weight_BT[i, len(sample.prompt_ids) : length] = (
                torch.tensor(sample.target_weights) if sample.target_weights else 1.0
            )
        return {"input_ids": ids_BT, "loss_weights": weight_BT}


def weighted_nll(logits_BTV: Tensor, ids_BT: Tensor, weight_BT: Tensor) -> Tensor:
    """Mean negative log-likelihood per unit of weight, in nats: a scalar, fp32."""
    nll = torch.nn.functional.cross_entropy(
        logits_BTV[:, :-1].flatten(0, 1).float(), ids_BT[:, 1:].flatten(), reduction="none"
    )
    weight = weight_BT[:, 1:].flatten()
    return (nll * weight).sum() / weight.sum()


class SupervisedTrainer(Trainer):
    """transformers' Trainer with a weight per token."""

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        weight_BT = inputs.pop("loss_weights")
        outputs = model(**inputs, use_cache=False)
        loss = weighted_nll(outputs.logits, inputs["input_ids"], weight_BT)
        return (loss, outputs) if return_outputs else loss


class Muon(torch.optim.Optimizer):
    """Muon for the matrices inside a model's blocks, AdamW for embeddings, gains and biases.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; its steps
    are scaled to the size of AdamW's (Liu et al. 2025, arXiv 2502.16982), so that one learning rate
    serves both.
    """

    def __init__(
        self, model: PreTrainedModel, lr: float, weight_decay: float, betas: tuple[float, float]
    ) -> None:
        embedding = model.get_input_embeddings().weight
        head = model.get_output_embeddings()
        outside = {id(embedding), id(head.weight) if head is not None else None}
        named = [p for p in model.parameters() if p.requires_grad]
        matrices = [p for p in named if p.ndim == 2 and id(p) not in outside]
        others = [p for p in named if p.ndim != 2 or id(p) in outside]
        self.parts = (
            torch.optim.Muon(
                matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
            ),
            torch.optim.AdamW(others, lr=lr, weight_decay=0.0, betas=betas),
        )
        super().__init__([group for part in self.parts for group in part.param_groups], {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        assert closure is None
        # The groups and the state are this optimizer's, which schedulers change and checkpoints
        # replace; the parts only know what to do with them.
        for part, group in zip(self.parts, self.param_groups, strict=True):
            part.param_groups, part.state = [group], self.state
            part.step()


def fit(
    model: PreTrainedModel,
    samples: Sequence[Sample],
    settings: SupervisedSettings,
    *,
    pad_id: int,
    seed: int,
    work_dir: Path,
    callbacks: Sequence[TrainerCallback] = (),
    deepspeed: Mapping[str, Any] | None = None,
) -> None:
    """Trains `model` in place. `samples` are drawn in an order that `seed` decides.

    `deepspeed` is DeepSpeed's own config, or None for plain data parallelism.
    """
    arguments = TrainingArguments(
        output_dir=str(work_dir),
        max_steps=settings.max_steps,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=_SCHEDULERS[settings.schedule],
        lr_scheduler_kwargs={"min_lr_rate": 0.1} if settings.schedule == "cosine" else {},
        warmup_steps=settings.warmup_ratio,
        weight_decay=settings.weight_decay,
        adam_beta2=settings.adam_beta2,
        bf16=settings.bf16,
        activation_checkpointing=settings.gradient_checkpointing,
        use_cpu=not torch.cuda.is_available(),
        seed=seed,
        save_strategy="no",
        logging_steps=10,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        ddp_find_unused_parameters=False,
        deepspeed=None if deepspeed is None else dict(deepspeed),
    )
    optimizer = None
    if settings.optimizer == "muon":
        betas = (0.9, settings.adam_beta2)
        optimizer = Muon(model, settings.learning_rate, settings.weight_decay, betas)
    trainer = SupervisedTrainer(
        model=model,
        optimizers=(optimizer, None),
        args=arguments,
        train_dataset=samples,  # pyright: ignore[reportArgumentType]
        data_collator=Batcher(pad_id, settings.prompt_loss_weight),
        callbacks=list(callbacks),
    )
    # Without tqdm the trainer would print every log line; the run has a display of its own.
    trainer.remove_callback(PrinterCallback)
    with zero.training(trainer):
        trainer.train()
