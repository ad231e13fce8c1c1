"""An exported agent loads with the usual libraries, and its card says what it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from huggingface_hub import ModelCard
from omegaconf import DictConfig
from peft import AutoPeftModelForCausalLM, LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from train.export.card import is_hub_id
from train.export.folder import export
from train.models import save_model
from train.run_folder import RunFolder

MakeModel = Callable[..., PreTrainedModel]


@pytest.fixture
def trained(
    compose_train: Callable[..., DictConfig],
    make_model: MakeModel,
    tokenizer: PreTrainedTokenizerBase,
    tmp_path: Path,
) -> RunFolder:
    """A run that ended: its policy, and a checkpoint with a trainer's state."""
    folder = RunFolder.create(tmp_path / "run", compose_train("experiment_name=trial", "seed=3"))
    folder.close()
    row = {
        "name": "trained",
        "decoding": "greedy",
        "improvement": {"mean": 9.8567, "ci95": [8.6, 11.1], "spread": {"p50": 9.0}},
        "episodes": 300,
        "books": 60,
    }
    folder.evaluation_path.write_text(
        json.dumps({"rows": [row], "ablations": [], "comparisons": []})
    )
    save_model(make_model(), tokenizer, folder.policy_dir)
    save_model(make_model(), tokenizer, folder.checkpoints_dir / "checkpoint-5")
    for name in ("optimizer.pt", "rng_state.pth", "critic.safetensors", "trainer_state.json"):
        (folder.checkpoints_dir / "checkpoint-5" / name).write_bytes(b"state")
    return folder


def test_a_whole_model_loads_and_has_a_card_of_the_hub(trained: RunFolder, tmp_path: Path) -> None:
    target = export(trained.policy_dir, trained, tmp_path / "out" / "agent")
    model = AutoModelForCausalLM.from_pretrained(target)
    assert len(AutoTokenizer.from_pretrained(target)) == model.config.vocab_size
    card = ModelCard.load(target / "README.md")
    data = cast(Any, card.data)
    assert (data.library_name, data.pipeline_tag) == ("transformers", "text-generation")
    assert data.base_model is None
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_value) == ("improvement", 9.857)
    assert "| trained greedy | +9.86 | [+8.60, +11.10] | +9.00 | 300 | 60 |" in card.text
    assert "| seed | 3 |" in card.text


def test_a_checkpoint_is_exported_without_its_trainers_state(
    trained: RunFolder, tmp_path: Path
) -> None:
    target = export(trained.checkpoints_dir / "checkpoint-5", trained, tmp_path / "agent")
    names = {path.name for path in target.iterdir()}
    assert names == {
        *("config.json", "generation_config.json", "model.safetensors", "README.md"),
        *("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
    }
    card = ModelCard.load(target / "README.md")
    # The run's table is not of this checkpoint.
    assert cast(Any, card.data).eval_results is None
    assert "Of this checkpoint there is none." in card.text


def test_adapters_stay_adapters(trained: RunFolder, make_model: MakeModel, tmp_path: Path) -> None:
    source = trained.checkpoints_dir / "adapters"
    base = AutoModelForCausalLM.from_pretrained(trained.policy_dir)
    adapted = cast(Any, get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"])))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.ones_(parameter)
    adapted.save_pretrained(source)
    target = export(source, trained, tmp_path / "agent")
    loaded = cast(Any, AutoPeftModelForCausalLM.from_pretrained(target))
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(loaded(input_ids=ids).logits, adapted.eval()(input_ids=ids).logits)
    data = cast(Any, ModelCard.load(target / "README.md").data)
    # What it stands on is a folder of this machine, which says nothing to others.
    assert (data.library_name, data.base_model) == ("peft", None)


def test_a_base_on_the_hub_is_named(trained: RunFolder, tmp_path: Path) -> None:
    source = trained.checkpoints_dir / "adapters"
    source.mkdir()
    (source / "adapter_model.safetensors").write_bytes(b"weights")
    (source / "adapter_config.json").write_text('{"base_model_name_or_path": "Qwen/Qwen2.5-7B"}')
    target = export(source, trained, tmp_path / "agent")
    assert cast(Any, ModelCard.load(target / "README.md").data).base_model == "Qwen/Qwen2.5-7B"


@pytest.mark.parametrize("folder", ["models/qwen", "./qwen", "../qwen", "assets/storyworld"])
def test_a_relative_folder_is_no_id_of_the_hub(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    assert not is_hub_id(folder)
    assert is_hub_id("Qwen/Qwen2.5-7B")


def test_adapters_keep_the_revision_of_the_base_that_they_stand_on(
    compose_train: Callable[..., DictConfig], tmp_path: Path
) -> None:
    pinned = "policy.model={path: Qwen/Qwen2.5-7B, revision: abc123}"
    folder = RunFolder.create(tmp_path / "run", compose_train(pinned, "policy=lora"))
    folder.close()
    for base, revision in (("Qwen/Qwen2.5-7B", "abc123"), ("other/base", None)):
        source = folder.checkpoints_dir / base
        source.mkdir(parents=True)
        (source / "adapter_model.safetensors").write_bytes(b"weights")
        (source / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
        target = export(source, folder, tmp_path / "out" / base)
        config = json.loads((target / "adapter_config.json").read_text())
        assert config.get("revision") == revision
    card = ModelCard.load(tmp_path / "out" / "Qwen" / "Qwen2.5-7B" / "README.md")
    assert "| base model's revision | abc123 |" in card.text


def test_nothing_is_written_over_and_nothing_is_left_of_a_refusal(
    trained: RunFolder, tmp_path: Path
) -> None:
    target = export(trained.policy_dir, trained, tmp_path / "agent")
    with pytest.raises(ValueError, match="is not empty; name a new folder"):
        export(trained.policy_dir, trained, target)
    (tmp_path / "bare").mkdir()
    with pytest.raises(ValueError, match="holds no weights in safetensors"):
        export(tmp_path / "bare", trained, tmp_path / "new")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith((".", "new"))]
