"""A mixture of LoRA experts: what its gates can say, and that they learn."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from envs.lora_experts import LoraExperts
from envs.sources.storyworld import StoryWorldSource
from envs.types import Merge
from rewards.likelihood.dense import DenseScorer
from rewards.prefix.shared_prefix import SharedPrefixScorer
from train.ensembles import lora_experts
from train.ensembles.shelf import Shelf
from train.merging.experts import gates_of
from train.merging.lora import factors_between, linear_weights, with_factors
from train.merging.weights import put_weights, weights_of

MakeShelf = Callable[..., Shelf]
BOTH = ("north", "south")
IDS = torch.arange(5, 45).view(2, 20)


def expert_alone(shelf: Shelf, name: str, rank: int | None) -> PreTrainedModel:
    """The base with this expert's changes in its weights."""
    base = shelf.model("generator")
    weights = weights_of(base)
    own = factors_between(weights, weights_of(shelf.model(name)), linear_weights(base), rank)
    return put_weights(copy.deepcopy(base), with_factors(weights, own))


@torch.no_grad()
@pytest.mark.parametrize(("place", "name"), list(enumerate(BOTH)))
def test_gates_that_name_one_expert_give_that_expert(place: int, name: str, shelf: Shelf) -> None:
    model = lora_experts.gated(LoraExperts(writers=BOTH, rank=4), shelf)
    for gate_name, gate in gates_of(model).items():
        if gate_name.endswith("bias"):
            # e^-1000 is 0 in floating point: the others have no share at all.
            gate[place] = 1000.0
    expected = expert_alone(shelf, name, rank=4)(input_ids=IDS).logits
    assert torch.allclose(model(input_ids=IDS).logits, expected, atol=1e-5)


@torch.no_grad()
def test_gates_begin_at_the_mean_of_the_experts(shelf: Shelf) -> None:
    model = lora_experts.gated(LoraExperts(writers=BOTH, rank=4), shelf)
    changed = [weights_of(expert_alone(shelf, name, 4)) for name in BOTH]
    mean = {name: (tensor + changed[1][name]) / 2 for name, tensor in changed[0].items()}
    expected = put_weights(expert_alone(shelf, "north", 4), mean)(input_ids=IDS).logits
    assert torch.allclose(model(input_ids=IDS).logits, expected, atol=1e-5)


@torch.no_grad()
def test_only_gates_learn_and_no_writer_changes(shelf: Shelf, world: StoryWorldSource) -> None:
    before = {name: copy.deepcopy(weights_of(shelf.model(name))) for name in shelf.names}
    env = LoraExperts(writers=BOTH, rank=4, steps=6, check_every=2, learning_rate=0.1)
    train, validation = world.episodes("train")[:8], world.episodes("validation")[:4]
    with torch.enable_grad():
        fitted = lora_experts.fit(env, shelf, train, validation, seed=0)
    assert fitted.found["nll"] < fitted.found["start_nll"]
    start = lora_experts.untrained(env, shelf, seed=0)
    assert any(not torch.equal(gate, start.gates[name]) for name, gate in fitted.gates.items())
    for name, weights in before.items():
        after = weights_of(shelf.model(name))
        assert all(torch.equal(tensor, after[key]) for key, tensor in weights.items())
    learned, plain = weights_of(shelf.model(fitted.writer)), weights_of(shelf.model(start.writer))
    assert [d.outcome for d in fitted.decide(train[:2])] == [Merge(fitted.writer)] * 2
    assert all(
        torch.equal(tensor, plain[name]) for name, tensor in learned.items() if "gate." not in name
    )


def test_gates_are_kept_and_give_the_same_writer_again(
    three_models: dict[str, PreTrainedModel],
    make_shelf: MakeShelf,
    world: StoryWorldSource,
    tmp_path: Path,
) -> None:
    env = LoraExperts(writers=BOTH, rank=2, steps=3, learning_rate=0.1)
    shelf, other = make_shelf(three_models), make_shelf(three_models)
    train, validation = world.episodes("train")[:6], world.episodes("validation")[:3]
    fitted = lora_experts.fit(env, shelf, train, validation, seed=0)
    fitted.save(tmp_path)
    again = lora_experts.load(env, tmp_path, other)
    assert again.writer == fitted.writer
    assert again.found == fitted.found
    episodes = world.episodes("test")[:2]
    found = other.likelihoods(again.writer, episodes)
    assert found == shelf.likelihoods(fitted.writer, episodes)


@torch.no_grad()
def test_a_cache_of_earlier_tokens_changes_nothing(shelf: Shelf) -> None:
    model = random_gates(shelf)
    whole = model(input_ids=IDS).logits
    first = model(input_ids=IDS[:, :12], use_cache=True)
    rest = model(input_ids=IDS[:, 12:], past_key_values=first.past_key_values).logits
    assert torch.allclose(rest, whole[:, 12:], atol=1e-5)


def test_a_gated_writer_is_scored_as_any_other(shelf: Shelf, world: StoryWorldSource) -> None:
    model = random_gates(shelf)
    episode = world.episodes("test")[0]
    requests = [shelf.request("generator", episode, plan) for plan in ("", "The debt.", "Ann.")]
    dense = DenseScorer(model).score(requests)
    shared = SharedPrefixScorer(model).score(requests)
    assert [found.nll for found in shared] == pytest.approx([f.nll for f in dense], rel=1e-5)
    assert dense[0].nll == pytest.approx(DenseScorer(model).score(requests[:1])[0].nll, rel=1e-6)


@torch.no_grad()
def random_gates(shelf: Shelf) -> PreTrainedModel:
    """Experts whose shares differ from token to token."""
    model = lora_experts.gated(LoraExperts(writers=BOTH, rank=4), shelf)
    draw = torch.Generator().manual_seed(0)
    for gate in gates_of(model).values():
        gate.copy_(torch.randn(gate.shape, generator=draw))
    return model


def test_gates_of_other_experts_are_refused(shelf: Shelf) -> None:
    env = LoraExperts(writers=BOTH)
    fitted = lora_experts.untrained(env, shelf, seed=0)
    wrong = {name: gate[:1] for name, gate in fitted.gates.items()}
    broken = lora_experts.FittedExperts(env, shelf, wrong, {})
    with pytest.raises(ValueError, match="belong to other experts"):
        _ = broken.writer


@pytest.mark.parametrize(
    ("writers", "message"),
    [
        (("north",), "two experts or more"),
        (("north", "north"), "two experts or more"),
        (("generator", "north"), "is what the experts are on"),
    ],
)
def test_writers_that_cannot_be_experts_are_refused(writers: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LoraExperts(writers=writers)
