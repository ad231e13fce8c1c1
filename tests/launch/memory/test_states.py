"""What stays on a GPU, against a pencil and against two real processes, byte by byte."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from omegaconf import DictConfig

from launch.memory.job import Job
from launch.memory.phases import plan as phases_of
from launch.memory.shapes import Shape, from_config
from launch.memory.states import Training, kept_states, live_weights, whole_weights
from train.config.validate import parse
from train.schema import RunConfig

SCRIPT = Path(__file__).with_name("memory_ranks.py")
# ZeRO stage (0 is DDP), precision or adapters, and PPO's critic.
WAYS = (
    *("0_float32", "2_bfloat16", "3_float32", "3_bfloat16"),
    *("0_lora", "2_lora", "3_lora"),
)
WAYS_WITH_CRITIC = (
    *("0_float32_shared", "2_lora_shared"),
    *("0_lora_separate", "2_bfloat16_separate", "3_bfloat16_separate", "3_lora_separate"),
)
Counted = list[dict[str, dict[str, int]]]
# 1,000 weights in two tensors, on four GPUs.
SMALL = Training(
    learned=(990, 10),
    frozen=(),
    learned_bytes=4,
    frozen_bytes=4,
    hidden=10,
    bf16=True,
    zero_stage=0,
    num_gpus=4,
)


def sizes(training: Training) -> dict[str, int]:
    return {t.name.removeprefix("x: "): t.num_bytes for t in kept_states(training, "x")}


def test_plain_data_parallelism_keeps_20_bytes_of_each_weight() -> None:
    assert sizes(SMALL) == {
        "weights": 4_000,
        "gradients": 4_000,
        "AdamW": 8_000,
        "DDP's buckets": 4_000,
    }
    assert "DDP's buckets" not in sizes(replace(SMALL, num_gpus=1))
    # Under autocast the pass works on copies in bfloat16.
    assert [t.num_bytes for t in live_weights(SMALL, "x")] == [2_000]


def test_zero2_keeps_weights_whole_and_a_quarter_of_the_rest() -> None:
    # In bfloat16, with copies in fp32 to step on: 2 + (4 + 4 + 8) / 4.
    assert sizes(replace(SMALL, zero_stage=2)) == {
        "weights": 2_000,
        "gradients": 1_000,
        "fp32 copy": 1_000,
        "AdamW": 2_000,
        "bucket of gradients": 2 * 10 * 10,
    }


def test_zero3_keeps_a_quarter_of_each_tensor_and_small_ones_whole_as_well() -> None:
    # 990 / 4 is 247.5, 10 / 4 is 2.5: 248 + 3 elements, and the 10 whole as 4 × 3.
    assert sizes(replace(SMALL, zero_stage=3)) == {
        "weights": 2 * (251 + 12),
        "gradients": 4 * 251,
        "fp32 copy": 4 * 251,
        "AdamW": 8 * 251,
        "bucket of gradients": 200,
    }
    assert [t.num_bytes for t in whole_weights(replace(SMALL, zero_stage=3), "x")] == [2_000]


def test_an_offloaded_optimizer_takes_nothing_of_a_gpu() -> None:
    offloaded = sizes(replace(SMALL, zero_stage=3, offload_optimizer=True))
    assert offloaded["fp32 copy and AdamW"] == 0
    assert "AdamW" not in offloaded


def test_frozen_weights_have_no_gradients_and_no_optimizer() -> None:
    adapters = replace(SMALL, learned=(100,), frozen=(990, 10), frozen_bytes=2)
    assert sizes(adapters) == {
        "weights": 2_000 + 400,
        "gradients": 400,
        "AdamW": 800,
        "DDP's buckets": 400,
    }


@pytest.fixture(scope="module")
def memory_ranks() -> ModuleType:
    """The script that both processes ran: which model, and in which ways."""
    spec = importlib.util.spec_from_file_location("memory_ranks", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def count(folder: Path, ways: Sequence[str]) -> Counted:
    """Bytes of each rank, by way of training and by what they are of."""
    environment = os.environ | {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, SCRIPT, folder, *ways], capture_output=True, text=True, env=environment
    )
    files = [folder / f"{rank}.json" for rank in range(2)]
    assert all(file.exists() for file in files), done.stderr[-3000:]
    return [json.loads(file.read_text()) for file in files]


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Counted:
    return count(tmp_path_factory.mktemp("memory"), (*WAYS, "2_float32"))


@pytest.fixture(scope="module")
def counted_with_critic(tmp_path_factory: pytest.TempPathFactory) -> Counted:
    return count(tmp_path_factory.mktemp("memory"), WAYS_WITH_CRITIC)


@pytest.fixture(scope="module")
def planned(
    memory_ranks: ModuleType, compose_train: Callable[..., DictConfig]
) -> Callable[[str], dict[str, int]]:
    """The plan's bytes for one way of training of the script, by what they are of."""
    shape: Shape = from_config(memory_ranks.tiny_llama().config, "a tiny model")

    def plan(way: str) -> dict[str, int]:
        stage, what, *critic = way.split("_")
        has_adapters = what == "lora"
        overrides = [
            f"trainer={'ppo' if critic else 'grpo'}",
            # Of GRPO the reference is a model that TRL loads, which the script does not.
            f"trainer.beta={0.1 if critic else 0.0}",
            *(f"trainer.critic={kind}" for kind in critic),
            f"trainer.bf16={what != 'float32'}",
            f"distributed.zero_stage={stage}",
            "hardware.gpus_per_node=2",
            "trainer.per_device_batch_size=1",
            f"policy={'lora' if has_adapters else 'full'}",
            *([f"policy.lora.r={memory_ranks.RANK_OF_ADAPTERS}"] if has_adapters else []),
            "+policy.model.path=tiny",
            f"+policy.model.dtype={'bfloat16' if has_adapters else 'float32'}",
        ]
        job = Job(parse(RunConfig, compose_train(*overrides)), shape, shape)
        stays = next(phase for phase in phases_of(job) if phase.name == "reinforcement")
        together: Counter[str] = Counter()
        for term in stays.terms:
            if not term.name.startswith("generator"):
                kind = "weights" if term.name.startswith("reference") else term.name
                together[kind.rpartition(": ")[2]] += term.num_bytes
        return dict(together)

    return plan


def assert_as_planned(seen: Counted, expected: dict[str, int], way: str) -> None:
    for rank in seen:
        assert rank[way] == {name: expected[name] for name in rank[way]}
        # Under stage 2 the bucket is there during a backward pass only.
        assert expected.keys() - rank[way].keys() <= {"bucket of gradients"}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", WAYS)
def test_two_processes_hold_what_the_plan_says_to_the_byte(
    counted: Counted, planned: Callable[[str], dict[str, int]], way: str
) -> None:
    assert_as_planned(counted, planned(way), way)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", WAYS_WITH_CRITIC)
def test_they_hold_critic_and_reference_beside_the_policy_to_the_byte(
    counted_with_critic: Counted, planned: Callable[[str], dict[str, int]], way: str
) -> None:
    assert_as_planned(counted_with_critic, planned(way), way)


@pytest.mark.timeout(600)
def test_zero2_in_fp32_holds_a_tensor_more_where_the_cut_goes_through_it(
    counted: Counted,
    planned: Callable[[str], dict[str, int]],
    memory_ranks: ModuleType,
) -> None:
    largest = 4 * max(p.numel() for p in memory_ranks.tiny_llama().parameters())
    expected = planned("2_float32")
    for rank in counted:
        for name, num_bytes in rank["2_float32"].items():
            more = num_bytes - expected[name]
            assert 0 <= more <= (largest if name == "gradients" else 0)
