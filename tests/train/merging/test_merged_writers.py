"""Merged writers on a shelf: identities, what is refused, and what is kept of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from envs.merging import Merging
from envs.sources.storyworld import StoryWorldSource
from envs.types import Merge
from train.ensembles import merging
from train.ensembles.shelf import Shelf
from train.merging.coefficients import Coefficients, group_of
from train.merging.merger import COMBINE, Merger
from train.merging.weights import check_mergeable, put_weights, weights_of
from train.scratch import train_tokenizer

MakeModel = Callable[..., PreTrainedModel]
MakeShelf = Callable[..., Shelf]

BOTH = ("north", "south")
# Every method with the settings under which nothing of a writer is left out.
WHOLE = {
    "linear": Merging(method="linear", writers=BOTH, start=(0.0, 1.0)),
    "slerp": Merging(method="slerp", writers=BOTH, start=(0.0, 1.0)),
    "task_arithmetic": Merging(method="task_arithmetic", writers=BOTH, start=(0.0, 1.0)),
    "ties": Merging(method="ties", writers=BOTH, start=(0.0, 1.0), density=1.0),
    "dare": Merging(method="dare", writers=BOTH, start=(0.0, 1.0), drop_rate=0.0),
}


def merged(env: Merging, shelf: Shelf, seed: int = 0) -> PreTrainedModel:
    return shelf.model(merging.fit(env, shelf, [], [], seed).writer)


def same_weights(model: PreTrainedModel, other: PreTrainedModel) -> bool:
    weights, others = weights_of(model), weights_of(other)
    assert weights.keys() == others.keys()
    return all(
        torch.equal(tensor.view(torch.int32), others[name].view(torch.int32))
        for name, tensor in weights.items()
    )


@pytest.mark.parametrize("method", WHOLE)
def test_a_merge_with_weight_one_is_that_writer_bit_for_bit(method: str, shelf: Shelf) -> None:
    model = merged(WHOLE[method], shelf)
    assert same_weights(model, shelf.model("south"))
    assert not same_weights(model, shelf.model("north"))


@pytest.mark.parametrize("method", ["ties", "dare", "lora"])
def test_weight_one_is_not_the_writer_where_a_method_leaves_something_out(
    method: str, shelf: Shelf
) -> None:
    rank = 1 if method == "lora" else None
    env = Merging(method=method, writers=BOTH, start=(0.0, 1.0), rank=rank)  # pyright: ignore[reportArgumentType]
    assert not same_weights(merged(env, shelf), shelf.model("south"))


@pytest.mark.parametrize("method", COMBINE)
def test_a_writer_merged_with_its_equal_is_itself(
    method: str, three_models: dict[str, PreTrainedModel], make_shelf: MakeShelf
) -> None:
    base, north = three_models["generator"], three_models["north"]
    shelf = make_shelf({"generator": base, "north": north, "twin": north})
    env = Merging(
        method=method,  # pyright: ignore[reportArgumentType]
        writers=("north", "twin"),
        density=1.0,
        drop_rate=0.0,
        rank=None,
    )
    weights = weights_of(merged(env, shelf))
    linear_only = method == "lora"
    for name, tensor in weights_of(north).items():
        if linear_only and "proj" not in name:
            assert torch.equal(weights[name], weights_of(base)[name])
        else:
            assert torch.allclose(weights[name], tensor, rtol=1e-6, atol=1e-9), name


def test_a_merged_writer_scores_what_the_writer_scores(
    shelf: Shelf, world: StoryWorldSource
) -> None:
    episodes = world.episodes("test")[:3]
    fitted = merging.fit(WHOLE["task_arithmetic"], shelf, [], [], 0)
    decided = fitted.decide(episodes)
    assert [d.outcome for d in decided] == [Merge(fitted.writer)] * 3
    own = shelf.likelihoods(fitted.writer, episodes)
    assert own == shelf.likelihoods("south", episodes)
    cost = decided[0].costs
    assert cost[fitted.writer].calls == 1
    assert cost[fitted.writer].generated_tokens == own[0].num_tokens


def test_tied_embeddings_are_merged_once_and_stay_tied(
    make_model: MakeModel, tokenizer: PreTrainedTokenizerBase, make_shelf: MakeShelf, tmp_path: Path
) -> None:
    models = {
        name: make_model(seed=seed, tie_word_embeddings=True)
        for seed, name in enumerate(("generator", *BOTH))
    }
    assert "lm_head.weight" not in weights_of(models["north"])
    shelf = make_shelf(models)
    fitted = merging.fit(Merging(method="linear", writers=BOTH), shelf, [], [], 0)
    model = shelf.model(fitted.writer)
    embedding = model.get_input_embeddings().weight
    assert model.get_output_embeddings().weight is embedding
    north, south = (shelf.model(name).get_input_embeddings().weight for name in BOTH)
    assert torch.allclose(embedding, (north + south) / 2, atol=1e-7)
    fitted.save_model(tmp_path / "merge")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "merge", dtype=torch.float32)
    assert same_weights(loaded, model)


def test_what_is_kept_of_a_merge_makes_it_again(
    three_models: dict[str, PreTrainedModel], make_shelf: MakeShelf, tmp_path: Path
) -> None:
    env = Merging(method="dare", writers=BOTH, start=(0.25, 0.5), per="layer")
    shelf, other = make_shelf(three_models), make_shelf(three_models)
    fitted = merging.fit(env, shelf, [], [], seed=7)
    fitted.save(tmp_path)
    again = merging.load(env, tmp_path, other)
    assert (again.coefficients, again.seed) == (fitted.coefficients, 7)
    assert same_weights(other.model(again.writer), shelf.model(fitted.writer))
    assert set(again.coefficients.values) == {"model.layers.0", "model.layers.1", "outside"}


def test_merges_of_other_seeds_stand_beside_each_other_on_the_shelf(shelf: Shelf) -> None:
    env = Merging(method="dare", writers=BOTH)
    one, two = (merging.fit(env, shelf, [], [], seed) for seed in (1, 2))
    assert one.writer != two.writer
    assert not same_weights(shelf.model(one.writer), shelf.model(two.writer))
    assert merging.writers_of(Merging(), shelf) == BOTH


def test_whole_numbers_stay_the_bases() -> None:
    base = {"weight": torch.ones(2), "counter": torch.tensor([3])}
    member = {"weight": torch.zeros(2), "counter": torch.tensor([5])}
    merger = Merger(base, {"north": member}, COMBINE["task_arithmetic"])
    half = merger.merged(Coefficients.same(["north"], [0.5], "model", ["weight"]))
    assert half["weight"].tolist() == [0.5, 0.5]
    assert half["counter"] is base["counter"]


def test_groups_are_the_model_its_blocks_or_each_tensor() -> None:
    name = "model.layers.12.mlp.up_proj.weight"
    assert group_of(name, "model") == "all"
    assert group_of(name, "layer") == "model.layers.12"
    assert group_of("model.norm.weight", "layer") == "outside"
    assert group_of(name, "tensor") == name


def test_weights_go_into_a_model_and_come_out_again(make_model: MakeModel) -> None:
    model = put_weights(make_model(seed=1), weights_of(make_model(seed=2)))
    assert same_weights(model, make_model(seed=2))


@pytest.mark.parametrize(
    ("fields", "difference"),
    [
        ({"intermediate_size": 128}, "intermediate_size is 64 for one and 128 for the other"),
        ({"rms_norm_eps": 1e-3}, "rms_norm_eps is 1e-06 for one and 0.001"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings is False for one and True"),
        ({"model_type": "qwen3"}, "one is a LlamaForCausalLM, the other a Qwen3ForCausalLM"),
    ],
)
def test_writers_of_other_architectures_are_refused_in_one_line(
    make_model: MakeModel, fields: dict[str, object], difference: str
) -> None:
    models = {"north": make_model(), "south": make_model(**fields)}
    with pytest.raises(ValueError, match=difference) as refusal:
        check_mergeable(models)
    assert "'north' and 'south' cannot be merged" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_missing_weight_is_refused(make_model: MakeModel) -> None:
    broken = make_model()
    del broken.get_submodule("model.layers.0.mlp").up_proj
    with pytest.raises(ValueError, match=r"only one of them has the weight .*up_proj"):
        check_mergeable({"north": make_model(), "south": broken})


def test_writers_of_other_vocabularies_are_refused(
    three_models: dict[str, PreTrainedModel], make_shelf: MakeShelf, world: StoryWorldSource
) -> None:
    other = train_tokenizer((e.chapter.title for e in world.episodes("train")), 300)
    shelf = make_shelf(three_models, {"south": other})
    with pytest.raises(ValueError, match="tokens different ids"):
        merging.fit(Merging(writers=BOTH), shelf, [], [], 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "slerp", "writers": ("a", "b", "c")}, "slerp goes from one writer to one"),
        ({"method": "ties", "writers": ("generator", "a")}, "has learned nothing since itself"),
        ({"writers": ("a", "a")}, "each is named once"),
        ({"writers": ("a", "b"), "start": (1.0,)}, "1 coefficients for 2 writers"),
        ({"method": "linear", "start": (-0.5, 1.5)}, "takes shares, none below 0"),
        ({"method": "linear", "start": (0.0, 0.0)}, "shares add up to 0"),
        ({"method": "linear", "coefficients": "lorahub"}, "choose cma_es or swarm"),
        ({"method": "slerp", "coefficients": "lorahub"}, "slerp divides them by their sum"),
        ({"coefficients": "swarm", "start": (2.0, 0.0)}, "within ±1.5"),
        ({"coefficients": "cma_es", "budget": 4}, "raise it to 5 or more"),
        ({"coefficients": "gradient", "budget": 2}, "raise it to 3 or more"),
    ],
)
def test_settings_that_make_no_merge_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Merging(**settings)  # pyright: ignore[reportArgumentType]


def test_an_unknown_writer_is_refused(shelf: Shelf) -> None:
    with pytest.raises(ValueError, match="'west'"):
        merging.fit(Merging(writers=("north", "west")), shelf, [], [], 0)


def test_rubbish_in_the_file_of_a_merge_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / merging.FILE).write_text('{"coefficients": {"writers": ["a"]}, "seed": 0}')
    with pytest.raises(ValueError, match="the coefficients of a merge"):
        merging.load(Merging(), tmp_path, shelf)
