"""A model card in the Hub's format: what the model is, how to use it, and what it reached."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from train.analysis.exports import improvements_table, label
from train.models import voice_folders
from train.run_folder import RunFolder

_BODY = """\
# {name}

This model plans the next chapter of a book: it reads what has happened so far, reasons, and ends
with a plan. It was trained with nextchapter by reinforcement learning ([VR-CLI]({paper})) for one
reward: by how many per cent its plan lowers the perplexity of a frozen language model on the
chapter that the author wrote.

## Use

```python
{use}
```

The prompt is the run's own; its settings are under `prompts` in the run's `config.yaml`.

## Training

| setting | value |
|---|---|
{settings}

## Evaluation

{evaluation}

## Limits

The reward is a likelihood, not a reader's judgment: a plan that helps to predict a chapter need not
make a good one. The model learned from the books above and no others; what it takes over of their
views, and what it remembers of their text, was not examined.
"""
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_PAPER = "https://arxiv.org/abs/2503.22828"
_MODEL_USE = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")"""
_ADAPTER_USE = """\
from peft import AutoPeftModelForCausalLM

model = AutoPeftModelForCausalLM.from_pretrained("{name}")"""

_ROLE_USE = """

# Adapters of each role are in roles/: speak with those of the role that is asked.
from peft import PeftModel

roles = {roles}
model = PeftModel.from_pretrained(model, f"{name}/roles/{{roles[0]}}", adapter_name=roles[0])
for role in roles[1:]:
    model.load_adapter(f"{name}/roles/{{role}}", adapter_name=role)
model.set_adapter(roles[0])"""


def model_card(folder: Path, source: Path, trained: RunFolder) -> str:
    """The card of the model in `folder`, which was exported from `source` in the run's folder.

    The table of the run is that of its trained agent, so other checkpoints are shown none.
    """
    config = trained.load_config()
    adapter = folder / "adapter_config.json"
    name = f"nextchapter-{config.get('experiment_name', trained.path.name)}"
    evaluation = _evaluation(trained) if source == trained.policy_dir else None
    data = ModelCardData(
        library_name="peft" if adapter.is_file() else "transformers",
        pipeline_tag="text-generation",
        tags=["nextchapter", "reinforcement-learning", "story-planning"],
        base_model=_base_model(adapter, config),
        model_name=name if evaluation else None,
        eval_results=_results(evaluation, config) if evaluation else None,
    )
    use = _ADAPTER_USE if adapter.is_file() else _MODEL_USE
    roles = list(voice_folders(folder))
    if roles:
        use = _MODEL_USE + _ROLE_USE
    body = _BODY.format(
        name=name,
        paper=_PAPER,
        use=use.format(name=name, roles=roles),
        settings="\n".join(f"| {key} | {value} |" for key, value in _settings(config, trained)),
        evaluation=_as_markdown(evaluation) if evaluation else "Of this checkpoint there is none.",
    )
    return f"---\n{data.to_yaml()}\n---\n\n{body}"


def _evaluation(trained: RunFolder) -> Mapping[str, Any] | None:
    """None where there is none, or one of an earlier version's form."""
    if not trained.evaluation_path.is_file():
        return None
    evaluation = json.loads(trained.evaluation_path.read_text(encoding="utf-8"))
    return evaluation if "comparisons" in evaluation else None


def base_settings(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The model that the agent started from, as the run's settings name it."""
    return (config.get("policy") or {}).get("model") or config["generator"]["model"]


def _base_model(adapter: Path, config: Mapping[str, Any]) -> str | None:
    """The model's id on the Hub; None where it is a folder, which says nothing to others."""
    base = base_settings(config).get("path")
    if adapter.is_file():
        base = json.loads(adapter.read_text(encoding="utf-8")).get("base_model_name_or_path")
    return base if base and is_hub_id(base) else None


def is_hub_id(name: str) -> bool:
    """Whether it is `owner/name` and no relative folder: the folder that `owner` would be, of this
    machine or of those that come with the code, is not there."""
    owner, _, _ = name.partition("/")
    is_folder = owner in ("assets", ".", "..") or Path(owner).exists()
    return _HUB_ID.fullmatch(name) is not None and not is_folder


def _results(evaluation: Mapping[str, Any], config: Mapping[str, Any]) -> list[EvalResult]:
    source = str(config["data"]["_target_"]).rpartition(".")[2]
    split = (config.get("evaluation") or {}).get("split", "test")
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type="books",
            dataset_name=source,
            dataset_split=split,
            metric_type="improvement",
            metric_name=f"Improvement in per cent, {row['decoding']}",
            metric_value=round(row["improvement"]["mean"], 3),
        )
        for row in evaluation["rows"]
        if label(row) in ("trained greedy", "trained sampled")
    ]


def _settings(config: Mapping[str, Any], trained: RunFolder) -> list[tuple[str, Any]]:
    trainer = config.get("trainer") or {}
    git = json.loads(trained.revision_path.read_text(encoding="utf-8")).get("git") or {}
    found = {
        "books": str(config["data"]["_target_"]).rpartition(".")[2],
        "generator": config["generator"]["model"].get("path") or "trained from scratch",
        "base model's revision": base_settings(config).get("revision"),
        "algorithm": trainer.get("algorithm"),
        "optimizer steps": trainer.get("max_steps"),
        "learning rate": trainer.get("learning_rate"),
        "attempts per chapter": trainer.get("num_generations"),
        "reward": ", ".join((config.get("reward") or {}).get("terms") or ()),
        "seed": config.get("seed"),
        "code": git.get("revision"),
    }
    return [(key, value) for key, value in found.items() if value not in (None, "")]


def _as_markdown(evaluation: Mapping[str, Any]) -> str:
    columns, rows = improvements_table(evaluation)
    lines = [columns, ["---"] * len(columns), *rows]
    table = "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)
    return (
        "Improvement in per cent on unseen books; intervals are 95 % bootstrap intervals over "
        f"books.\n\n{table}"
    )
