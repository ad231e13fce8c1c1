"""A whole run at 7B: the worked example of docs/memory.md, and what settings change in it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from launch.memory.phases import plan
from launch.memory.shapes import KNOWN, from_config
from launch.memory.terms import GB
from launch.plan import job_of, refusal, usable_bytes
from train.config.validate import parse
from train.schema import RunConfig

# Counted from the sizes: embeddings and head 2 × 152,064 × 3584; of each of 28 layers
# 233,057,792; the last norm 3584.
WEIGHTS_7B = 7_615_616_512

Gigabytes = dict[str, dict[str, float]]


@pytest.fixture(scope="module")
def gigabytes(compose_train: Callable[..., DictConfig]) -> Callable[..., Gigabytes]:
    """By phase and term what the plan of a composed run says, in GB."""

    def planned(*overrides: str) -> Gigabytes:
        job = job_of(parse(RunConfig, compose_train(*overrides)))
        return {
            phase.name: {
                **{term.name: term.num_bytes / GB for term in phase.terms},
                "in all": phase.num_bytes / GB,
            }
            for phase in plan(job)
        }

    return planned


def test_the_known_sizes_give_the_published_numbers_of_weights() -> None:
    from transformers import AutoConfig

    counted = {
        path: from_config(AutoConfig.for_model(**fields), path).num_weights
        for path, fields in KNOWN.items()
    }
    assert counted["Qwen/Qwen2.5-7B-Instruct-1M"] == WEIGHTS_7B
    # The model's card says 3.09 billion.
    assert counted["Qwen/Qwen2.5-3B-Instruct"] == 3_085_938_688


def test_full_fine_tuning_at_7b_on_eight_gpus(gigabytes: Callable[..., Gigabytes]) -> None:
    found = gigabytes("experiment=paper_7b_8gpu")
    stays = found["reinforcement"]
    assert stays["generator, whole"] == pytest.approx(15.23, abs=0.01)  # 2 B × 7.616 G
    assert stays["policy: weights"] == pytest.approx(1.90, abs=0.01)  # / 8
    assert stays["policy: gradients"] == pytest.approx(3.81, abs=0.01)  # 4 B × 7.616 G / 8
    assert stays["policy: fp32 copy and AdamW"] == 0  # 11.42 in CPU memory
    kept = gigabytes("experiment=paper_7b_8gpu", "distributed=zero3")["reinforcement"]
    assert kept["policy: fp32 copy"] == pytest.approx(3.81, abs=0.01)
    assert kept["policy: AdamW"] == pytest.approx(7.62, abs=0.01)
    assert stays["reference for the KL penalty"] == pytest.approx(1.90, abs=0.01)
    rollouts = found["rollouts"]
    assert rollouts["policy: gathered whole"] == pytest.approx(15.23, abs=0.01)
    # 8 answers at once, 14,048 tokens each, 28 layers × 2 × 512 × 2 B.
    assert rollouts["keys and values"] == pytest.approx(8 * 14_048 * 57_344 / 1e9)
    for phase in found.values():
        assert phase["in all"] < 74


def test_adapters_on_the_generators_weights_hold_the_base_once(
    gigabytes: Callable[..., Gigabytes],
) -> None:
    found = gigabytes("experiment=paper_7b_lora_8gpu", "distributed=none", "sft_baseline=null")
    stays = found["reinforcement"]
    assert stays["generator, whole"] == pytest.approx(15.23, abs=0.01)
    # Rank 16 on 28 × 7 layers: 40.4 M weights in fp32.
    assert stays["policy: weights"] == pytest.approx(4 * 40_370_176 / 1e9)
    assert "reference for the KL penalty" not in stays
    apart = gigabytes("experiment=paper_7b_lora_8gpu")["reinforcement"]
    assert apart["policy: weights"] > 2 * WEIGHTS_7B / 8 / 1e9


def test_more_nodes_leave_less_on_each_gpu(gigabytes: Callable[..., Gigabytes]) -> None:
    one = gigabytes("experiment=paper_7b_8gpu", "distributed=zero3")["reinforcement"]
    four = gigabytes("experiment=paper_7b_multinode")["reinforcement"]
    assert four["policy: AdamW"] == pytest.approx(one["policy: AdamW"] / 4, rel=1e-3)
    assert four["generator, whole"] == one["generator, whole"]


def test_an_engine_for_rollouts_takes_its_share_of_the_gpu(
    gigabytes: Callable[..., Gigabytes],
) -> None:
    engine = ["experiment=paper_7b_8gpu", "trainer.sampler=vllm_colocate"]
    assert gigabytes(*engine)["rollouts"]["vLLM"] == pytest.approx(0.3 * 80)
    assert gigabytes(*engine)["update"]["vLLM"] == pytest.approx(0.3 * 80)
    asleep = gigabytes(*engine, "++trainer.trl.vllm_enable_sleep_mode=true")
    assert asleep["update"]["vLLM"] == 0
    elsewhere = gigabytes("experiment=paper_7b_8gpu", "trainer.sampler=vllm_server")
    assert "keys and values" not in elsewhere["rollouts"]


def test_a_generator_in_8_bits_or_spread_takes_less(gigabytes: Callable[..., Gigabytes]) -> None:
    # 6.525 G weights in linear layers, 1.090 G beside them.
    int8 = gigabytes("experiment=paper_7b_8gpu", "generator.quantization=int8")
    assert int8["reinforcement"]["generator, whole"] == pytest.approx(6.525 + 2.18, abs=0.01)
    spread = gigabytes("experiment=paper_7b_8gpu", "++scorer.sharding.method=fsdp")
    assert spread["reinforcement"]["generator"] == pytest.approx(13.05 / 8 + 2.18, abs=0.01)


def test_a_refusal_names_changes_under_which_the_run_fits(
    compose_train: Callable[..., DictConfig],
) -> None:
    asked = ["experiment=paper_7b_lora_8gpu", "distributed=none"]
    usable = usable_bytes(80.0)

    def highest(*overrides: str) -> tuple[str, float]:
        job = job_of(parse(RunConfig, compose_train(*asked, *overrides)))
        phase = max(plan(job), key=lambda p: p.num_bytes)
        return refusal(job, phase, usable), phase.num_bytes

    text, num_bytes = highest()
    assert num_bytes > usable
    assert text.startswith("hardware: the phase 'SFT baseline' needs 222.")
    remedy = text.partition("it fits with ")[2].split()
    assert remedy and highest(*remedy)[1] <= usable
