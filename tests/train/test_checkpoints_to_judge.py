"""Which agents an evaluation judges: checkpoints, other runs, adapters, ids on the Hub."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from omegaconf import DictConfig
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from train.commands.evaluate import find_checkpoints, policy_at
from train.config.validate import parse
from train.models import load_model, model_digest, save_model
from train.progress import ProgressDisplay
from train.run import Run
from train.run_folder import RunFolder
from train.schema import ModelConfig, RunConfig

Save = Callable[[Path], None]


@pytest.fixture
def trained(compose_train: Callable[..., DictConfig], tmp_path: Path) -> RunFolder:
    """A run with a policy and one checkpoint."""
    folder = RunFolder.create(tmp_path / "run", compose_train())
    folder.close()
    (folder.checkpoints_dir / "checkpoint-5").mkdir(parents=True)
    folder.policy_dir.mkdir()
    return folder


def test_one_agent_is_called_trained_and_several_by_their_names(trained: RunFolder) -> None:
    checkpoint = trained.checkpoints_dir / "checkpoint-5"
    assert find_checkpoints(trained, None) == {"trained": trained.policy_dir}
    assert find_checkpoints(trained, "checkpoint-5") == {"trained": checkpoint}
    named = ["checkpoint-5", "policy", str(trained.path), "an-organisation/a-model"]
    assert find_checkpoints(trained, named) == {
        "checkpoint-5": checkpoint,
        "policy": trained.policy_dir,
        str(trained.path): trained.policy_dir,
        "an-organisation/a-model": "an-organisation/a-model",
    }


@pytest.mark.parametrize("named", ["checkpoint-6", ["checkpoint-5", "checkpoint-6"]])
def test_a_checkpoint_that_is_not_there_is_refused(
    trained: RunFolder, named: str | list[str]
) -> None:
    with pytest.raises(FileNotFoundError, match="checkpoint-6 is neither in"):
        find_checkpoints(trained, named)


def test_the_same_checkpoint_twice_is_refused(trained: RunFolder) -> None:
    with pytest.raises(ValueError, match="should name different checkpoints"):
        find_checkpoints(trained, ["checkpoint-5", "checkpoint-5/"])


@dataclass
class Prepared:
    """What of a run says on which models its agents stand."""

    base_policy: ModelConfig
    warm_start: ModelConfig


@pytest.fixture
def prepared(
    tmp_path: Path,
    make_model: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
) -> Prepared:
    for seed, name in enumerate(("base", "warm_start")):
        save_model(make_model(seed=seed), tokenizer, tmp_path / name)
    return Prepared(*(ModelConfig(str(tmp_path / name)) for name in ("base", "warm_start")))


def save_adapter(on: ModelConfig, folder: Path) -> torch.Tensor:
    """Adapters that move a weight of the model in this place; gives that weight as it is then."""
    model, _ = load_model(on, "policy.model")
    adapted: Any = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.ones_(parameter)
    adapted.save_pretrained(folder)
    merged = adapted.merge_and_unload()
    return merged.model.layers[0].self_attn.q_proj.weight.detach().clone()


def test_adapters_of_a_run_go_on_its_warm_start_and_others_on_what_they_name(
    trained: RunFolder, prepared: Prepared, tmp_path: Path
) -> None:
    own = trained.checkpoints_dir / "checkpoint-5"
    for place, start in ((own, prepared.warm_start), (tmp_path / "other", prepared.base_policy)):
        expected = save_adapter(start, place)
        policy = policy_at(place, cast(Run, prepared), trained)
        assert (policy.path, policy.adapter) == (start.path, str(place))
        model, _ = load_model(policy, "policy.model")
        found = cast(Any, model).model.layers[0].self_attn.q_proj.weight
        assert torch.allclose(found, expected)
        assert model_digest(policy) != model_digest(start)


def test_a_whole_model_is_loaded_from_its_own_folder(
    trained: RunFolder, prepared: Prepared, tmp_path: Path
) -> None:
    policy = policy_at(tmp_path / "base", cast(Run, prepared), trained)
    assert (policy.path, policy.adapter) == (str(tmp_path / "base"), None)
    with pytest.raises(ValueError, match=r"checkpoint\.path: no usable model"):
        policy_at(trained.policy_dir, cast(Run, prepared), trained)


def test_adapters_in_pickled_form_are_not_loaded(
    trained: RunFolder, prepared: Prepared, tmp_path: Path
) -> None:
    save_adapter(prepared.base_policy, tmp_path / "other")
    (tmp_path / "other" / "adapter_model.safetensors").rename(
        tmp_path / "other" / "adapter_model.bin"
    )
    policy = policy_at(tmp_path / "other", cast(Run, prepared), trained)
    with pytest.raises(ValueError, match=r"there is no adapter_model\.safetensors"):
        load_model(policy, "policy.model")
    with pytest.raises(ValueError, match="merged into whole weights"):
        load_model(policy, "policy.model", distributed_config=None)


def test_a_shelf_too_small_to_train_on_can_be_evaluated(
    compose_train: Callable[..., DictConfig],
) -> None:
    books = ("data.train_books=1", "data.test_books=1", "evaluation.split=all")
    settings = parse(RunConfig, compose_train("experiment=smoke", *books))
    with pytest.raises(ValueError, match="episodes are played at once"):
        Run.prepare(settings, ProgressDisplay())
    run = Run.prepare(settings, ProgressDisplay(), is_trained=True)
    assert run.order is None
