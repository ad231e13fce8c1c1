"""Processes that run ensembles together: `python ensemble_ranks.py <folder> <env>…`.

Each env is fitted and evaluated by two processes of one run, and left in `<folder>/<env>`; every
process writes which writers it ends with to `<folder>/<rank>.json`, for test_ensemble_ranks.py.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import sys
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from envs.sources.storyworld import StoryWorldSource
from train import ranks
from train.commands import train
from train.models import save_model
from train.scratch import random_model, train_tokenizer

ENVS = {
    "route_knn": ("env.neighbours=3",),
    "cascade_agreement": ("env.num_drafts=2", "env.draft_tokens=4"),
    "fusion_product": ("env.weights=searched", "env.evaluations=4"),
    "merge_linear": ("env.writers=[generator,north]",),
}
BOOKS = {
    "writing_books": 6,
    "demonstration_books": 4,
    "train_books": 2,
    "validation_books": 1,
    "test_books": 2,
}
WRITERS = ("generator", "north", "south")


def make_writers(folder: Path) -> None:
    """Random models that differ in what they say, as folders."""
    world = StoryWorldSource(seed=0, **BOOKS)
    tokenizer = train_tokenizer((e.chapter.text for e in world.episodes("train")), 300)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "initializer_range": 0.2}
    architecture = {"model_type": "llama", "max_position_embeddings": 1024, **small, **heads}
    for seed, name in enumerate(WRITERS):
        save_model(random_model(architecture, tokenizer, seed), tokenizer, folder / name)


def settings(folder: Path, env: str, run: str) -> DictConfig:
    """Those of `nextchapter train env=<env>` on the writers in `folder`."""
    configs = Path(__file__).parents[3] / "configs"
    writers = [f"+writers.{name}.model.path={folder / name}" for name in WRITERS[1:]]
    with initialize_config_dir(str(configs), version_base="1.3"):
        return compose(
            "train",
            [
                *(f"env={env}", f"generator.model.path={folder / 'generator'}", *writers),
                *(f"++data.{name}={count}" for name, count in BOOKS.items()),
                *(f"run_dir={folder / run}", f"cache_dir={folder / run}_cache"),
                *("evaluation.bootstrap_samples=100", "logging.wandb=disabled"),
                *("logging.tensorboard=false", "scorer=ranks", *ENVS[env]),
            ],
        )


def play(rank: int, port: int, folder: Path, envs: list[str]) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(1)
    for env in envs:
        train.run(settings(folder, env, f"{env}_of_two"))
        ranks.from_main(lambda: "all are done")
    (folder / f"{rank}.json").write_text(json.dumps(envs))
    ranks.leave()


if __name__ == "__main__":
    here = Path(sys.argv[1])
    make_writers(here)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        free_port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    started = [
        context.Process(target=play, args=(rank, free_port, here, sys.argv[2:]))
        for rank in range(2)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join()
