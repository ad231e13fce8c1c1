"""How answers become batches, and in which order they are learned from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from envs.types import Answer
from train.ppo.experience import Experience, Padded, learning_order, step_tokens
from train.ppo.play import derived_seed, shuffled
from train.ppo.running import RunningMoments

PAD = 9


def test_prompts_end_and_answers_begin_at_one_column() -> None:
    padded = Padded.of([Answer((1, 2), (3,)), Answer((4,), (5, 6, 7))], PAD)
    assert padded.ids_NT.tolist() == [[1, 2, 3, PAD, PAD], [PAD, 4, 5, 6, 7]]
    assert padded.attention_NT.tolist() == [[1, 1, 1, 0, 0], [0, 1, 1, 1, 1]]
    assert padded.mask_NA.tolist() == [[1, 0, 0], [1, 1, 1]]
    one = padded.learning(torch.tensor([True, False]))
    assert one.mask_NA.tolist() == [[1, 0, 0], [0, 0, 0]]
    assert one.attention_NT.tolist() == padded.attention_NT.tolist()


def experience() -> Experience:
    """Four answers of 1, 2, 3 and 3 tokens; two epochs of two minibatches."""
    mask = torch.tensor([[1.0, 0, 0], [1, 1, 0], [1, 1, 1], [1, 1, 1]])
    order = torch.tensor([[0, 1, 2, 3], [3, 0, 2, 1]])
    rows = torch.arange(4.0)[:, None].expand(4, 3)
    ids = torch.arange(4)[:, None].expand(4, 5)
    tokens = step_tokens(mask, order, minibatches_per_epoch=2)
    return Experience(
        7, ids, ids, mask, rows, rows, rows, rows, order, tokens, torch.arange(len(ids))
    )


def test_the_tokens_of_each_step_are_counted() -> None:
    # Epoch one: 1 + 2, 3 + 3. Epoch two: 3 + 1, 3 + 2.
    assert experience().step_tokens_S.tolist() == [3, 6, 4, 5]


def test_micro_batches_go_through_the_order_and_know_the_tokens_of_their_step() -> None:
    batches = [experience().micro_batch(index, size=1) for index in range(8)]
    assert [int(b["logp_NA"][0, 0]) for b in batches] == [0, 1, 2, 3, 3, 0, 2, 1]
    assert [int(b["step_tokens"]) for b in batches] == [3, 3, 6, 6, 4, 4, 5, 5]


def test_experience_is_kept_whole_in_a_file(tmp_path: Path) -> None:
    made = experience()
    made.save(tmp_path / "rollout.safetensors")
    read = Experience.load(tmp_path / "rollout.safetensors", torch.device("cpu"))
    assert read.number == 7
    for index in range(8):
        for name, tensor in made.micro_batch(index, 1).items():
            assert torch.equal(read.micro_batch(index, 1)[name], tensor)


def test_every_epoch_learns_from_every_answer_once_in_an_order_of_its_own() -> None:
    order = learning_order(20, 3, seed=1)
    assert all(sorted(epoch) == list(range(20)) for epoch in order.tolist())
    assert len({tuple(epoch) for epoch in order.tolist()}) == 3
    assert torch.equal(order, learning_order(20, 3, seed=1))


def test_every_pass_draws_every_episode_once_in_an_order_of_its_own() -> None:
    passes = [shuffled(3, number, 10) for number in range(4)]
    assert all(sorted(order) == list(range(10)) for order in passes)
    assert len(set(map(tuple, passes))) == 4
    assert shuffled(3, 2, 10) == passes[2] != shuffled(4, 2, 10)


def test_seeds_of_different_purposes_differ() -> None:
    seeds = {derived_seed(0, use, n) for use in ("order", "sampling") for n in range(50)}
    assert len(seeds) == 100


def test_running_moments_begin_with_the_first_rollout_and_forget() -> None:
    running = RunningMoments(decay=0.5)
    running.add(mean=2.0, deviation=1.0)
    assert (running.mean, running.deviation) == (2.0, 1.0)
    running.add(mean=4.0, deviation=1.0)
    # The newer counts twice: (2 + 2 * 4) / 3; second moment (5 + 2 * 17) / 3 = 13.
    assert running.mean == pytest.approx(10 / 3)
    assert running.deviation**2 == pytest.approx(13 - 100 / 9)
