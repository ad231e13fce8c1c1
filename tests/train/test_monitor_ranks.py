"""Two real processes are watched as one is, whichever way the policy is spread over them."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rewards.likelihood.dense import DenseScorer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SCRIPT = Path(__file__).with_name("monitor_ranks.py")
WATCHED = ("ddp", "zero2", "zero3", "zero3_lora", "zero2_ppo", "zero3_ppo")
STOPPED = ("ddp_stopped", "zero3_stopped", "zero3_ppo_stopped")
# Another batch rounds otherwise; of per cents and nats.
TOLERANCE = 1e-3

Seen = tuple[Path, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def monitor_ranks() -> Iterator[ModuleType]:
    """The script that the processes ran: which models, settings and books it takes."""
    folder = str(SCRIPT.parent)
    sys.path.insert(0, folder)
    yield importlib.import_module("monitor_ranks")
    sys.path.remove(folder)


@pytest.fixture(scope="module")
def seen(
    run_ranks: Callable[..., list[dict[str, Any]]], tmp_path_factory: pytest.TempPathFactory
) -> Seen:
    """The folder, and what each rank saw by way."""
    folder = tmp_path_factory.mktemp("monitors")
    return folder, run_ranks(SCRIPT, folder, *WATCHED, *STOPPED)


@pytest.mark.parametrize("way", WATCHED)
def test_both_find_what_one_process_finds(seen: Seen, monitor_ranks: ModuleType, way: str) -> None:
    models = [monitor_ranks.tiny_model(seed) for seed in (1, 2, 3)]
    generator, policy, second = models
    alone = monitor_ranks.probe_of(DenseScorer(generator), DenseScorer(second))
    expected = alone.measure(policy, monitor_ranks.make_tokenizer())
    for rank in seen[1]:
        start, *later = rank[way]["probes"]
        assert {n: start[n] for n in expected} == pytest.approx(expected, abs=TOLERANCE)
        assert later == seen[1][0][way]["probes"][1:]
        assert len(later) == 2
        # Steps of 1e-2 move a tiny model.
        assert later[-1]["entropy"] != start["entropy"]


@pytest.mark.parametrize("way", WATCHED)
def test_the_main_process_alone_logs(seen: Seen, way: str) -> None:
    lines = (seen[0] / way / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2]


@pytest.mark.parametrize("way", STOPPED)
def test_both_stop_at_the_same_step_with_a_checkpoint(seen: Seen, way: str) -> None:
    folder, ranks = seen
    for rank in ranks:
        assert rank[way]["stopped"] == "truncated"
        # At the start and after the first step.
        assert len(rank[way]["probes"]) == 2
    assert [path.name for path in (folder / way).glob("checkpoint-*")] == ["checkpoint-1"]
