"""Pictures of a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np

from train.analysis.rows import Evaluation

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SMOOTHING_STEPS = 10


def plot_learning_curve(metrics_path: Path, evaluation: Evaluation, path: Path) -> None:
    """Improvement of the sampled plans by step, with the reference plans as lines."""
    steps, improvement = read_curve(metrics_path, "improvement")
    figure, axes = plt.subplots(figsize=(7, 4), dpi=150)
    axes.plot(steps, improvement, color="#9ecae1", linewidth=1, label="each step")
    axes.plot(
        steps, _running_mean(improvement), color="#08519c", label=f"mean of {SMOOTHING_STEPS}"
    )
    for row in evaluation.rows:
        if row.name in ("inferable_plan", "true_plan", "empty_plan"):
            axes.axhline(row.improvement.mean, color="#636363", linestyle="--", linewidth=1)
            axes.annotate(
                row.name.replace("_", " "),
                (max(steps, default=1), row.improvement.mean),
                ha="right",
                va="bottom",
                fontsize=8,
            )
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("improvement of sampled plans (%)")
    axes.legend(loc="lower right", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def read_curve(metrics_path: Path, name: str) -> tuple[list[int], list[float]]:
    """Steps and values of one measurement in a `metrics.jsonl`."""
    lines = [json.loads(line) for line in metrics_path.read_text(encoding="utf-8").splitlines()]
    points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
    return [step for step, _ in points], [value for _, value in points]


def _running_mean(values: Sequence[float]) -> list[float]:
    return [
        float(np.mean(values[max(0, i + 1 - SMOOTHING_STEPS) : i + 1])) for i in range(len(values))
    ]
