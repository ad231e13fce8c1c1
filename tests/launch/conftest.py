"""A small application in the shape of ours: configs in a temporary folder, jobs in a module."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from launch.cli import Command, main

# Test folders are not packages: a helper beside the tests is found by its folder.
sys.path.insert(0, str(Path(__file__).parent))
from slurm_cluster import CannotStart, SlurmCluster, missing_programs, slurm_cluster

JOBS = """
import json
from pathlib import Path
from omegaconf import OmegaConf
from train.monitors.stop import StoppedByMonitor
from train.preemption import Preempted
from train.run_folder import RunFolder

def train(config):
    if config.seed < 0:
        raise ValueError(f"seed: should not be negative; got {config.seed}. Give 0 or more")
    if config.seed == 99:
        raise AssertionError("a defect")
    folder = RunFolder.open(config.resume) if config.resume else RunFolder.create(
        config.run_dir, config)
    plain = OmegaConf.to_container(config, resolve=True)
    (folder.path / "seen.json").write_text(json.dumps(plain))
    folder.close()
    if config.seed == 13:
        raise ValueError("gave up late")
    if config.seed == 14:
        raise KeyboardInterrupt
    if config.seed == 15:
        raise Preempted("stopped by SIGTERM")
    if config.seed == 16:
        raise StoppedByMonitor("stopped by monitor no_plan")

def evaluate(config):
    if config.seed < 0:
        raise ValueError("seed: should not be negative")
    plain = OmegaConf.to_container(config, resolve=True)
    Path(config.run_dir, "seen.json").write_text(json.dumps(plain))

def show(argv):
    if not argv:
        raise FileNotFoundError(2, "No such file or directory", "novel.epub")
    print(argv)
    return 0
"""

CONFIGS = {
    "train.yaml": """
defaults:
  - hydra/run_folder
  - trainer: grpo
  - _self_
  - experiment: null
experiment_name: trial
seed: 0
resume: null
prompt: costs $5
data: {paths: []}
""",
    "evaluate.yaml": "defaults: [train, _self_]\nrun: null\nwriting: {words: 9, heat: 0.5}\n",
    "alone.yaml": "defaults: [train, _self_]\nrun: null\nalone: true\n",
    "trainer/grpo.yaml": "learning_rate: 1e-3\n",
    "trainer/ppo.yaml": "learning_rate: 2e-3\n",
    "experiment/real.yaml": "# @package _global_\nexperiment_name: real\n",
}

COMMANDS = {
    "train": Command("tiny_jobs:train", "train", "train", "resume"),
    "evaluate": Command(
        "tiny_jobs:evaluate",
        "evaluate",
        "evaluate",
        "run",
        "evaluations/${now:%Y}",
        saved_run_settings=("writing",),
        saved_run_groups=("trainer",),
        config_names={"trainer": "alone"},
    ),
    "show": Command("tiny_jobs:show", "show"),
}


@dataclass
class Result:
    status: int
    out: str
    err: str


@pytest.fixture
def nextchapter(
    tmp_path: Path,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Callable[..., Result]]:
    """Runs a command line of the small application in an empty folder."""
    for name, text in CONFIGS.items():
        path = tmp_path / "configs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    shutil.copytree(repository / "configs" / "hydra", tmp_path / "configs" / "hydra")
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "tiny_jobs.py").write_text(JOBS)
    (tmp_path / "work").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.delitem(__import__("sys").modules, "tiny_jobs", raising=False)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.chdir(tmp_path / "work")

    def run(*argv: str) -> Result:
        status = 0
        try:
            status = main(argv, COMMANDS, tmp_path / "configs")
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        captured = capsys.readouterr()
        return Result(status, captured.out, captured.err)

    yield run


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """A Slurm of two nodes on this machine; who wants it is skipped where its programs are
    missing or cannot start."""
    missing = missing_programs()
    if missing:
        pytest.skip(f"needs slurm-wlm and munge (.ci/install_cluster): {missing[0]} is missing")
    with ExitStack() as stack:
        try:
            cluster = stack.enter_context(slurm_cluster(tmp_path_factory.mktemp("slurm")))
        except CannotStart as error:
            pytest.skip(f"NOT TESTED: Slurm is installed and does not start here: {error}")
        yield cluster
