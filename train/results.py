"""What a run leaves for the reader: the table of its agent, the curve, examples, its models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from accelerate import PartialState

from train.evaluation import Evaluation, Evaluator
from train.examples import write_examples
from train.files import copy_folder, write_json
from train.frozen import load_frozen, on_device
from train.judging.improvements import write_improvements
from train.models import load_model
from train.plots import plot_learning_curve
from train.run import Run
from train.run_folder import RunFolder
from train.schema import ModelConfig
from train.scoring import make_scorer


def evaluate(run: Run, policy: ModelConfig) -> Evaluation:
    """The table of the trained agent against the warm start and the controls."""
    config = run.config.evaluation
    made = {"untrained": run.warm_start, "trained": policy}
    baseline = run.sft_baseline
    with run.progress.stage("load models", len(made) + 2) as advance:
        agents = {}
        for name, model_config in made.items():
            # As it answered in training, where passes in bfloat16 round its weights.
            dtype = "bfloat16" if run.config.trainer.bf16 else model_config.dtype
            model, tokenizer = load_model(replace(model_config, dtype=dtype), "policy.model")
            agents[name] = (on_device(model), tokenizer)
            advance()
        sft = None
        if baseline is not None:
            model, _ = load_frozen(baseline, "sft_baseline", run.config.scorer.sharding)
            sft = make_scorer(model, run.config.scorer)
        advance()
        episodes = run.source.episodes(config.split)
        evaluator = Evaluator(episodes, run.env, run.reward, config, run.config.seed)
        advance()
    return evaluator.table(agents, run.config.sampling, run.progress, sft)


def keep_models(run: Run, folder: RunFolder) -> None:
    """Copies what the stages trained, so that the run can be evaluated without its cache."""
    config = run.config
    made = {
        "generator": run.generator if config.generator.is_trained else None,
        "warm_start": run.warm_start if config.warm_start else None,
        "sft_baseline": run.sft_baseline,
    }
    trained = {stage: str(model.path) for stage, model in made.items() if model is not None}
    if not trained or not PartialState().is_main_process:
        return
    with run.progress.stage("keep models", len(trained)) as advance:
        for stage, path in trained.items():
            copy_folder(Path(path), folder.model_dir(stage))
            advance()


def write_results(run: Run, evaluation: Evaluation, folder: RunFolder) -> None:
    """`evaluation.json`, the learning curve and the examples."""
    if not PartialState().is_main_process:
        return
    with run.progress.stage("write results"):
        write_json(folder.evaluation_path, evaluation.as_json())
        write_improvements(evaluation, folder.path)
        if folder.metrics_path.exists():
            plot_learning_curve(folder.metrics_path, evaluation, folder.learning_curve_path)
        write_examples(
            evaluation,
            run.config.prompts,
            run.reward.encoder,
            run.config.evaluation.num_examples,
            folder.examples_path,
        )
