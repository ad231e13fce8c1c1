"""One run from books to an evaluated agent: four stages, each kept, then table, plot, examples."""

from __future__ import annotations

import shutil

from accelerate import PartialState

from envs.ensemble import Ensemble
from train.analysis.rows import TRAINED, Evaluation
from train.ensembles.run import train_ensemble
from train.files import copy_folder
from train.learning import trained_policy
from train.results import evaluate, keep_models, write_results
from train.run import Run
from train.run_folder import RunFolder


def train(run: Run, folder: RunFolder) -> Evaluation:
    """All stages of a run; leaves the agent, the table, the curve and the examples in `folder`."""
    if isinstance(run.env, Ensemble):
        return train_ensemble(run, folder)
    # Before the frozen generator is loaded: either may fill a GPU.
    _ = run.sft_baseline
    trained = trained_policy(run, folder)
    if PartialState().is_main_process:
        copy_folder(trained / "policy", folder.policy_dir)
        if not folder.metrics_path.exists():
            shutil.copy(trained / "metrics.jsonl", folder.metrics_path)
    keep_models(run, folder)
    PartialState().wait_for_everyone()
    evaluation = evaluate(run, {TRAINED: run.base_policy.at(folder.policy_dir)})
    write_results(run, evaluation, folder)
    return evaluation
