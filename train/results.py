"""What a run leaves for the reader: the table of its agents, the curve, examples, its models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
import transformers
from accelerate import PartialState
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import envs
import rewards
from envs.agents import num_weights
from envs.ensemble import Ensemble
from rewards.types import LikelihoodScorer
from train import ranks
from train.analysis.exports import write_tables
from train.analysis.recall import by_heart
from train.analysis.rows import UNTRAINED, Evaluation
from train.analysis.token_gains import write_token_gains
from train.cache import source_fingerprint
from train.evaluation.agents import agents_table
from train.evaluation.contestants import Planner, Second, Writer
from train.evaluation.evaluator import Evaluator
from train.examples import write_examples
from train.files import copy_folder, write_json
from train.frozen import load_frozen, on_device
from train.journal import Journal
from train.judging.comparisons import write_comparisons
from train.judging.improvements import write_improvements
from train.local_member import member_weights
from train.models import load_model, model_digest
from train.plots import plot_learning_curve
from train.run import WRITER, Run, episodes_of
from train.run_folder import RunFolder
from train.schema import ModelConfig
from train.scoring import make_scorer
from train.second_generator import second_judge
from train.settings.pool import PoolConfig
from train.written import with_chapters

# What a kept batch of an evaluation depends on, beside envs and rewards.
CODE = (
    *("train.evaluation", "train.lessons", "train.local_member", "train.models", "train.scoring"),
    *("train.ensembles", "train.merging"),
    *("train.analysis.recall", "train.analysis.rows", "train.second_generator", "train.writing"),
)


def evaluate(run: Run, policies: Mapping[str, ModelConfig]) -> Evaluation:
    """The table of trained agents, by name, against the warm start and the controls."""
    config = run.config.evaluation
    episodes = episodes_of(run.source, config.split)
    made = {UNTRAINED: run.warm_start, **policies}
    agents = {name: _planner(run, policy) for name, policy in made.items()}
    sft = None if run.sft_baseline is None else _sft_writer(run, run.sft_baseline)
    journal = open_journal(run)
    # What lies in a pool is not told of.
    weights = num_weights(run.writer[0]) if run.pooled is None else None
    evaluator = Evaluator(episodes, run.shared_reward, config, run.config.seed, journal, weights)
    second = _second(run)
    players = (run.player, agents, run.config.sampling)
    evaluation = agents_table(evaluator, *players, run.progress, sft, second)
    how = (_generator(run), journal, config, run.config.seed, run.progress)
    evaluation = with_chapters(evaluation, run.reward.encoder, *how)
    return with_recall(run, evaluator, journal, evaluation)


def _generator(run: Run) -> Planner:
    return Planner(model_digest(run.generator), lambda: run.writer)


def with_recall(
    run: Run, evaluator: Evaluator, journal: Journal, evaluation: Evaluation
) -> Evaluation:
    """The same, with what the generator knows by heart."""
    encoder, config, episodes = run.reward.encoder, run.config.evaluation, evaluator.episodes
    title = "look for what the generator knows by heart"
    with run.progress.paced(title, len(episodes)) as did:
        recall = by_heart(episodes, encoder, _generator(run), journal, config, did)
    return replace(evaluation, recall=recall)


def _planner(run: Run, policy: ModelConfig) -> Planner:
    # As it answered in training, where passes in bfloat16 round its weights.
    policy = replace(policy, dtype="bfloat16" if run.config.trainer.bf16 else policy.dtype)

    def load() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        model, tokenizer = load_model(policy, "policy.model")
        return on_device(model), tokenizer

    return Planner(model_digest(policy), load)


def _sft_writer(run: Run, baseline: ModelConfig) -> Writer:
    def load() -> LikelihoodScorer:
        model, _ = load_frozen(baseline, "sft_baseline", run.config.scorer.sharding)
        return make_scorer(model, run.config.scorer)

    return Writer(model_digest(baseline), load)


def _second(run: Run) -> Second | None:
    model = run.config.evaluation.second_generator
    if model is None:
        return None
    how = (model, "evaluation.second_generator", run.config, run.stages)
    return Second(model_digest(model), lambda: second_judge(*how))


def open_journal(run: Run) -> Journal:
    """What was evaluated before under the same generator, books, env and prompts."""
    config = run.config
    about = {
        "generator": model_digest(run.generator),
        "generator_settings": replace(config.generator, model=ModelConfig()),
        "env": config.env,
        "members": {} if isinstance(run.env, Ensemble) else member_weights(run.env),
        "writers": {name: model_digest(model) for name, model in run.writers.items()},
        "writer_settings": [
            replace(writer, model=ModelConfig()) for writer in config.writers.values()
        ],
        "prompts": config.prompts,
        # Where the pool is says nothing of its numbers.
        "scorer": replace(config.scorer, pool=PoolConfig()),
        "data": run.source.key(),
        "processes": ranks.num_processes(),
        # Another device, or another library, rounds otherwise.
        "device": run.generator_device,
        "libraries": [torch.__version__, transformers.__version__],
        "code": source_fingerprint(envs, rewards, *CODE),
    }
    return Journal(Path(config.cache_dir) / "evaluations", about)


def keep_models(run: Run, folder: RunFolder) -> None:
    """Copies what the stages trained, so that the run can be evaluated without its cache."""
    config, is_ensemble = run.config, isinstance(run.env, Ensemble)
    made = {
        "generator": run.generator if config.generator.is_trained else None,
        "warm_start": run.warm_start if config.warm_start and not is_ensemble else None,
        "sft_baseline": None if is_ensemble else run.sft_baseline,
        **{
            f"{WRITER}{name}": model
            for name, model in run.writers.items()
            if config.writers[name].is_trained
        },
    }
    trained = {stage: str(model.path) for stage, model in made.items() if model is not None}
    if not trained or not PartialState().is_main_process:
        return
    with run.progress.stage("keep models", len(trained)) as advance:
        for stage, path in trained.items():
            copy_folder(Path(path), folder.model_dir(stage))
            advance()


def write_results(run: Run, evaluation: Evaluation, folder: RunFolder) -> None:
    """`evaluation.json` and its tables, gains per token, the learning curve and the examples."""
    if not PartialState().is_main_process:
        return
    with run.progress.stage("write results"):
        found = evaluation.as_json()
        write_json(folder.evaluation_path, found)
        write_tables(found, folder.path)
        write_token_gains(evaluation, run.reward.encoder, folder.path)
        write_improvements(evaluation, folder.path)
        write_comparisons(evaluation, folder.path)
        if folder.metrics_path.exists():
            plot_learning_curve(folder.metrics_path, evaluation, folder.learning_curve_path)
        write_examples(
            evaluation,
            run.config.prompts,
            run.reward.encoder,
            run.config.evaluation.num_examples,
            folder.examples_path,
        )
