"""Makes the generator that ships with the package: `python -m train.recipes`.

The recipe is `configs/generator/storyworld_scratch.yaml`; what it reached is written beside the
weights as `recipe.json`, and a test makes it again and compares.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir

from train.config.validate import parse, plain
from train.evaluation.evaluator import Evaluator
from train.files import write_json
from train.models import ASSETS, load_model, save_model
from train.progress import ProgressDisplay
from train.run import Run
from train.schema import ModelConfig, RunConfig

CONFIG_DIR = Path(__file__).resolve().parent.parent / "configs"
# Its own world: the books of no run, whatever its seed, have been seen by the generator.
WORLD_SEED = 1_000_000


def storyworld_run() -> tuple[Run, Mapping[str, Any]]:
    """The run whose first stage is the recipe, and all that the recipe says."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        composed = compose(
            "train",
            [
                "generator=storyworld_scratch",
                f"data.seed={WORLD_SEED}",
                "run_dir=unused",
            ],
        )
    run, config = Run.prepare(parse(RunConfig, composed), ProgressDisplay()), plain(composed)
    said = {name: config[name] for name in ("generator", "prompts", "seed")}
    return run, {**said, "source": dict(run.source.key())}


def quality(run: Run, generator: ModelConfig) -> dict[str, float]:
    """Improvement in per cent of each reference plan on validation books, as the recipe reports."""
    taken_as_is = replace(run.config.generator, model=generator, reading=(), training=())
    run = replace(run, config=replace(run.config, generator=taken_as_is))
    evaluator = Evaluator(
        run.source.episodes("validation"), run.reward, run.config.evaluation, seed=0
    )
    names = evaluator.episodes[0].plans
    return {
        name: evaluator.plans(name, [e.plans[name] for e in evaluator.episodes]).improvement.mean
        for name in names
    }


def make_storyworld(folder: Path) -> None:
    """Trains the generator and writes it, in half precision, with what it reached."""
    run, said = storyworld_run()
    model, tokenizer = load_model(run.generator, "generator.model")
    save_model(model.to(torch.float16), tokenizer, folder)  # pyright: ignore[reportArgumentType]
    reached = quality(run, ModelConfig(path=str(folder)))
    write_json(
        folder / "recipe.json",
        {**said, "weights_sha256": weights_sha256(folder), "improvement": reached},
    )
    print(json.dumps(reached, indent=2))


def weights_sha256(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


if __name__ == "__main__":
    make_storyworld(ASSETS / "storyworld")
