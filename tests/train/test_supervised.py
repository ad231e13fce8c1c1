"""Supervised training: every token has the weight that its sample gives it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from train.settings.supervised import SupervisedSettings
from train.supervised import Batcher, Muon, Sample, fit, weighted_nll


def test_a_weighted_loss_by_pencil() -> None:
    # Two tokens to predict, at probability 1/4 with weight 1 and at 3/4 with weight 3.
    log3 = math.log(3)
    logits = torch.tensor([[[0.0, log3], [0.0, log3], [9.0, 9.0]]])
    ids, weights = torch.tensor([[0, 0, 1]]), torch.tensor([[7.0, 1.0, 3.0]])
    expected = (math.log(4) + 3 * math.log(4 / 3)) / 4
    assert weighted_nll(logits, ids, weights).item() == pytest.approx(expected)


def test_tokens_of_no_weight_do_not_count() -> None:
    logits = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[1, 2, 3, 4], [4, 3, 2, 1]])
    weights = torch.tensor([[0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    logits[0, 2:] += 100 * torch.randn(2, 5)
    alone = -logits[[0, 0, 1], [0, 1, 0]].log_softmax(-1)[[0, 1, 2], [2, 3, 3]].mean()
    assert weighted_nll(logits, ids, weights).item() == pytest.approx(alone.item(), rel=1e-5)


def test_a_batch_is_padded_to_the_right_and_padding_weighs_nothing() -> None:
    batch = Batcher(pad_id=9, prompt_loss_weight=0.25)([Sample((1, 2), (3,)), Sample((4,), (5,))])
    assert batch["input_ids"].tolist() == [[1, 2, 3], [4, 5, 9]]
    assert batch["loss_weights"].tolist() == [[0.25, 0.25, 1.0], [0.25, 1.0, 0.0]]


def test_a_token_of_the_target_can_weigh_more() -> None:
    batch = Batcher(pad_id=9, prompt_loss_weight=0.0)([Sample((1,), (2, 3), (1.0, 5.0))])
    assert batch["loss_weights"].tolist() == [[0.0, 1.0, 5.0]]


SETTINGS = SupervisedSettings(max_steps=8, batch_size=2, learning_rate=1e-2, warmup_ratio=0.1)
SAMPLES = [Sample((10, 11, 12), (20 + i, 30, 1)) for i in range(4)]


def test_training_lowers_the_loss_and_follows_from_the_seed(
    make_model: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    start = make_model()
    trained = [copy.deepcopy(start) for _ in range(3)]
    for model, seed in zip(trained, (1, 1, 2), strict=True):
        fit(model, SAMPLES, SETTINGS, pad_id=0, seed=seed, work_dir=tmp_path)
    before, first, same, other = (loss_of(model) for model in (start, *trained))
    assert first < before - 0.5
    assert same == first
    assert other != first
    assert not list(tmp_path.rglob("*.safetensors"))


def test_muon_moves_matrices_by_orthogonal_steps_and_all_else_by_adamw(
    make_model: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    start = make_model()
    models = {name: copy.deepcopy(start) for name in ("adamw", "muon")}
    for name, model in models.items():
        settings = replace(SETTINGS, max_steps=1, warmup_ratio=0.0, weight_decay=0.0)
        fit(model, SAMPLES, replace(settings, optimizer=name), pad_id=0, seed=0, work_dir=tmp_path)
    before = dict(start.named_parameters())
    moved = {
        name: {key: (p - before[key]).detach() for key, p in model.named_parameters()}
        for name, model in models.items()
    }
    inside = [key for key, p in before.items() if p.ndim == 2 and "layers" in key]
    assert inside
    for key, step in moved["adamw"].items():
        if key not in inside:
            torch.testing.assert_close(moved["muon"][key], step)
    for key in inside:
        # Newton-Schulz brings every singular value near to 1, between 0.7 and 1.2; then the step is
        # scaled by 0.2 times the root of the longer side.
        scale = 0.2 * max(before[key].shape) ** 0.5 * SETTINGS.learning_rate
        assert 0.6 < (torch.linalg.matrix_norm(moved["muon"][key], 2) / scale).item() < 1.3
        assert not torch.allclose(moved["muon"][key], moved["adamw"][key])


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_every_optimizer_follows_the_schedule_of_the_learning_rate(
    make_model: Callable[..., PreTrainedModel], tmp_path: Path, optimizer: Any
) -> None:
    start = make_model()
    trained = copy.deepcopy(start)
    settings = replace(SETTINGS, optimizer=optimizer)
    fit(trained, SAMPLES, settings, pad_id=0, seed=0, work_dir=tmp_path)
    assert loss_of(trained) < loss_of(start) - 0.5

    # The first step of a warm-up is taken at a learning rate of nothing.
    unmoved = copy.deepcopy(start)
    settings = replace(settings, max_steps=1, warmup_ratio=0.5)
    fit(unmoved, SAMPLES, settings, pad_id=0, seed=0, work_dir=tmp_path)
    for name, parameter in unmoved.named_parameters():
        assert torch.equal(parameter, start.get_parameter(name)), name

    # What a schedule lets fall moves the weights less than what it leaves.
    moved = {}
    for schedule in ("cosine", "constant"):
        model = copy.deepcopy(start)
        long = replace(settings, max_steps=30, warmup_ratio=0.0, schedule=schedule)
        fit(model, SAMPLES, replace(long, learning_rate=1e-3), pad_id=0, seed=0, work_dir=tmp_path)
        moved[schedule] = sum(
            (parameter - start.get_parameter(name)).norm().item()
            for name, parameter in model.named_parameters()
        )
    assert moved["cosine"] < 0.9 * moved["constant"]


def test_muon_keeps_its_state_where_checkpoints_find_it(
    make_model: Callable[..., PreTrainedModel],
) -> None:
    model = make_model()
    optimizer = Muon(model, lr=1e-3, weight_decay=0.0, betas=(0.9, 0.98))
    batch = Batcher(pad_id=0, prompt_loss_weight=0.0)(SAMPLES)
    logits = model(batch["input_ids"]).logits
    weighted_nll(logits, batch["input_ids"], batch["loss_weights"]).backward()
    optimizer.step()
    assert len(optimizer.state_dict()["state"]) == len(list(model.parameters()))


def test_checkpointed_activations_change_no_result(
    make_model: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    losses = []
    for checkpointing in (False, True):
        model = make_model()
        settings = SupervisedSettings(
            max_steps=2, batch_size=2, gradient_checkpointing=checkpointing
        )
        fit(model, SAMPLES, settings, pad_id=0, seed=0, work_dir=tmp_path)
        losses.append(loss_of(model))
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def loss_of(model: PreTrainedModel) -> float:
    batch = Batcher(pad_id=0, prompt_loss_weight=0.0)(SAMPLES)
    with torch.inference_mode():
        logits = model(batch["input_ids"]).logits
    return weighted_nll(logits, batch["input_ids"], batch["loss_weights"]).item()
