"""An evaluation of 24 episodes in batches of four, to be killed and begun again.

    python resumable_evaluation.py FOLDER SECONDS_PER_BATCH

Every request that is scored leaves a line in FOLDER/scored.txt, every answer one in answered.txt;
the end is FOLDER/evaluation.json.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from envs.plans import PlanParser
from envs.prompts import Prompts
from envs.sampling import Sampling
from envs.solo import SoloPlanner
from envs.types import Agent, Chapter, Episode, Rollout, Section, StoryContext
from rewards.encode import GeneratorEncoder
from rewards.likelihood_improvement import LikelihoodImprovement
from rewards.status_rules import StatusRules
from rewards.stores.likelihood_store import MemoryLikelihoodStore
from rewards.terms.raw import Raw
from rewards.types import Likelihood, ScoreRequest
from rewards.weighted_sum import WeightedTerm
from train.evaluation.agents import agents_table
from train.evaluation.contestants import Planner
from train.evaluation.evaluator import Evaluator
from train.files import write_json
from train.journal import Journal
from train.progress import ProgressDisplay
from train.schema import EvaluationConfig
from train.scratch import random_model, train_tokenizer

NUM_BOOKS, CHAPTERS = 6, 4


def episodes() -> list[Episode]:
    return [
        Episode(
            f"book {book}/{i}",
            StoryContext((Section("So far", f"Ann owes Bob {book} rings and {i} mills."),)),
            Chapter(f"Chapter {i}", f"Ann went to mill {i} and paid for {book} rings."),
            {"true": f"Ann pays {book} rings at mill {i}."},
        )
        for book in range(NUM_BOOKS)
        for i in range(CHAPTERS)
    ]


class SlowScorer:
    """Costs that depend on every token, and a note of what was asked for."""

    def __init__(self, path: Path, seconds: float) -> None:
        self.path = path
        self.seconds = seconds

    def score(self, requests: Sequence[ScoreRequest]) -> list[Likelihood]:
        time.sleep(self.seconds)
        with self.path.open("a") as file:
            file.writelines(f"{r.episode_id} {r.prefix_ids + r.guidance_ids}\n" for r in requests)
        costs = [
            tuple(1.0 + (sum(r.prefix_ids + r.guidance_ids) * g % 97) / 300 for g in r.gold_ids)
            for r in requests
        ]
        return [Likelihood(sum(cost), cost) for cost in costs]


class Noted(SoloPlanner):
    """The plainest env, with a note of what was answered."""

    path: Path

    def play(self, episodes: Sequence[Episode], policy: Agent) -> list[Rollout]:
        with self.path.open("a") as file:
            file.writelines(f"{e.episode_id}\n" for e in episodes)
        return super().play(episodes, policy)


def main(folder: Path, seconds: float) -> None:
    played = episodes()
    tokenizer = train_tokenizer([e.chapter.text for e in played], 300)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 512}

    def load() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        return random_model({"model_type": "llama", **small, **heads}, tokenizer, 0), tokenizer

    env = Noted(parser=PlanParser(whole_answer_without_marker=True))
    object.__setattr__(env, "path", folder / "answered.txt")
    reward = LikelihoodImprovement(
        SlowScorer(folder / "scored.txt", seconds),
        GeneratorEncoder(tokenizer, Prompts()),
        [WeightedTerm("raw", Raw())],
        StatusRules(),
        MemoryLikelihoodStore(),
    )
    config = EvaluationConfig(decodings=("sampled",), batch_size=4, bootstrap_samples=100)
    journal = Journal(folder / "journal", {"code": 1})
    quiet = ProgressDisplay(Console(file=io.StringIO()))
    evaluator = Evaluator(played, reward, config, 0, journal)
    agents = {"trained": Planner("weights", load)}
    evaluation = agents_table(evaluator, env, agents, Sampling(max_new_tokens=4), quiet)
    write_json(folder / "evaluation.json", evaluation.as_json())


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
