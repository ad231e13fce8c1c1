"""What each reward makes of the agent: one table over finished runs, seeds pooled by reward.

    python -m benchmarks.compare_rewards runs/A runs/B ... --json FILE

Each run is one reward and one seed; all else has to be the same. A cell is the mean over seeds,
with the half width of its 95 % t-interval.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from omegaconf import OmegaConf

from envs.storyworld import PARTS
from envs.types import Episode
from rewards.monitors.copying import words
from train.config.build import build

# 97.5 % quantiles of Student's t by degrees of freedom.
T_975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}
ROW = "trained sampled"
GREEDY = "trained greedy"
COLUMNS = {
    "greedy": "improvement, greedy (%)",
    "sampled": "improvement, sampled (%)",
    "accuracy": "parts of the true plan (%)",
    "words": "plan words",
    "copied": "trigrams copied (%)",
}


def measured(folder: Path) -> dict[str, float]:
    """What one run reached: of its trained agent, on the test books."""
    found = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    rows = {f"{r['name']} {r.get('decoding', '')}".strip(): r for r in found["rows"]}
    return {
        "greedy": rows[GREEDY]["improvement"]["mean"],
        "sampled": rows[ROW]["improvement"]["mean"],
        "accuracy": 100 * accuracy(folder),
        "words": rows[ROW]["texts"]["words"],
        "copied": 100 * (1 - rows[ROW]["texts"]["unseen_trigrams"]),
    }


def accuracy(folder: Path) -> float:
    """The share of the parts of the true plan that the sampled plans name."""
    config: Any = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    episodes = {e.episode_id: e for e in build(config["data"], "data").episodes("test")}
    lines = (folder / "token_gains.jsonl").read_text(encoding="utf-8").splitlines()
    attempts = [line for line in map(json.loads, lines) if line["row"] == ROW]
    return fmean(parts_named(episodes[a["episode_id"]], a["plan"]) for a in attempts)


def parts_named(episode: Episode, plan: str) -> float:
    """The share of parts all of whose words the plan has: those that change where it is spoilt."""
    said, true = set(words(plan)), words(episode.plans["true"])
    return fmean(
        set(true) - set(words(episode.plans[f"true_but_{part}"])) <= said for part in PARTS
    )


def pooled(values: Sequence[float]) -> dict[str, float]:
    """Mean and half width of the 95 % t-interval over seeds; no width for one seed."""
    if len(values) < 2:
        return {"mean": values[0]}
    half = T_975[len(values) - 1] * stdev(values) / sqrt(len(values))
    return {"mean": fmean(values), "half_width": half}


def compare(folders: Sequence[Path]) -> dict[str, Any]:
    """By reward, what its seeds reached; best mean first."""
    by_reward: dict[str, dict[int, dict[str, float]]] = defaultdict(dict)
    for folder in folders:
        config = OmegaConf.load(folder / "config.yaml")
        name = "+".join(config.reward.terms)
        if config.seed in by_reward[name]:
            raise SystemExit(f"{folder}: the reward {name} has a run of seed {config.seed} already")
        by_reward[name][config.seed] = measured(folder)
    table = {
        name: {
            "seeds": sorted(runs),
            **{column: pooled([run[column] for run in runs.values()]) for column in COLUMNS},
        }
        for name, runs in by_reward.items()
    }
    return dict(sorted(table.items(), key=lambda item: -item[1]["sampled"]["mean"]))


def as_markdown(table: Mapping[str, Any]) -> str:
    """The table for a page."""
    lines = [
        f"| reward | {' | '.join(COLUMNS.values())} | seeds |",
        f"|---|{'---|' * len(COLUMNS)}---|",
    ]
    for name, row in table.items():
        cells = [_cell(row[column]) for column in COLUMNS]
        lines.append(f"| `{name}` | {' | '.join(cells)} | {len(row['seeds'])} |")
    return "\n".join(lines)


def _cell(value: Mapping[str, float]) -> str:
    width = f" ± {value['half_width']:.1f}" if "half_width" in value else ""
    return f"{value['mean']:.1f}{width}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    compared = compare(asked.runs)
    print(as_markdown(compared))
    if asked.json:
        asked.json.write_text(json.dumps(compared, indent=2) + "\n", encoding="utf-8")
