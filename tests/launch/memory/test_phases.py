"""A whole run at 7B: the worked example of docs/memory.md, and what settings change in it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from launch.memory.changes import possible_changes
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


def test_each_role_that_learns_has_adapters_of_its_own(
    gigabytes: Callable[..., Gigabytes], compose_train: Callable[..., DictConfig]
) -> None:
    asked = (
        *("experiment=paper_7b", "policy=lora", "trainer=ppo", "env=feedback", "monitors=off"),
        *("env.cast.trained=[drafter,refiner]", "trainer.critic=separate"),
        *("hardware.gpus_per_node=8", "trainer.per_device_batch_size=12"),
    )
    # Three rows of a play (a draft and two refinements), 16 plays on a GPU: 24 to a minibatch.
    both = gigabytes(*asked, "policy.lora.per_role=true")["reinforcement"]
    shared = gigabytes(*asked)["reinforcement"]
    # Two sets of 40.4 M weights in fp32 beside the frozen ones; the critic has one set as before.
    set_of_adapters = 40_370_176 / 1e9
    assert both["policy: weights"] - shared["policy: weights"] == pytest.approx(4 * set_of_adapters)
    assert both["policy: AdamW"] == pytest.approx(2 * 8 * set_of_adapters)
    assert both["critic's trunk: AdamW"] == shared["critic's trunk: AdamW"]
    # Nothing is advised that would be refused when the run starts.
    job = job_of(parse(RunConfig, compose_train(*asked, "policy.lora.per_role=true")))
    offered = {change.setting for change in possible_changes(job.config)}
    assert "trainer.critic=shared" in offered
    assert not offered & {
        *("trainer.gradient_checkpointing=true", "distributed=zero3"),
        "distributed=zero3_offload",
    }


def test_turns_are_answered_a_batch_at_a_time(gigabytes: Callable[..., Gigabytes]) -> None:
    asked = ("experiment=paper_7b_8gpu", "env=feedback", "trainer.episodes_at_once=null")
    # Of 8 x 8 attempts x 5 turns on each GPU, two at a time.
    cached = gigabytes(*asked)["rollouts"]["keys and values"]
    assert cached == pytest.approx(2 * 14_048 * 57_344 / 1e9)


def test_adapters_by_role_are_refused_where_the_run_would_refuse_them(
    compose_train: Callable[..., DictConfig],
) -> None:
    asked = ("policy=lora", "env=feedback", "policy.lora.per_role=true", "distributed=zero2")
    with pytest.raises(ValueError, match=r"^policy\.lora\.per_role: under DeepSpeed"):
        job_of(parse(RunConfig, compose_train(*asked)))


@pytest.mark.parametrize("where", ["8gpu", "lora_8gpu", "multinode", "lora_multinode"])
def test_every_setting_at_7b_fits_the_machines_that_it_names(
    gigabytes: Callable[..., Gigabytes], where: str
) -> None:
    found = gigabytes(f"experiment=paper_7b_{where}")
    highest = max(phase["in all"] for phase in found.values())
    # 80 GB, less 5 % lost between allocations and 2 GB for CUDA.
    assert highest < 74 == usable_bytes(80.0) / 1e9


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


PPO_7B = (
    *("experiment=paper_7b", "trainer=ppo", "hardware.gpus_per_node=8", "distributed=zero3"),
    *("trainer.bf16=true", "trainer.gradient_checkpointing=true", "trainer.beta=0.01"),
    *("trainer.max_completion_length=2048", "trainer.per_device_batch_size=1"),
)


def test_a_critic_of_its_own_is_a_second_model_that_learns(
    gigabytes: Callable[..., Gigabytes],
) -> None:
    found = gigabytes(*PPO_7B, "trainer.critic=separate")
    stays = found["reinforcement"]
    # Without the head of 152,064 × 3584, and with one of 3585: 7.071 G / 8.
    trunk = (WEIGHTS_7B - 152_064 * 3584 + 3585) / 8 / 1e9
    assert stays["critic: weights"] == pytest.approx(2 * trunk, rel=1e-3)
    assert stays["critic: gradients"] == pytest.approx(4 * trunk, rel=1e-3)
    assert stays["critic: AdamW"] == pytest.approx(8 * trunk, rel=1e-3)
    assert stays["policy: AdamW"] == pytest.approx(7.62, abs=0.01)
    assert stays["reference for the KL penalty"] == pytest.approx(1.90, abs=0.01)
    assert "critic: bucket of gradients" not in stays
    # One answer: 28 layers × 14,048 tokens × 3584 × 2 B, for the policy and for the critic.
    update = found["update"]
    inputs = 28 * 14_048 * 3584 * 2 / 1e9
    assert update["layer inputs"] == update["critic: layer inputs"] == pytest.approx(inputs)
    # Sampled with the weights spread, a pass's answers at a time.
    assert "policy: gathered whole" not in found["rollouts"]
    assert found["rollouts"]["keys and values"] == pytest.approx(14_048 * 57_344 / 1e9)


def test_a_critic_on_the_policys_trunk_is_a_head(gigabytes: Callable[..., Gigabytes]) -> None:
    stays = gigabytes(*PPO_7B, "trainer.critic=shared")["reinforcement"]
    # 3584 weights and a bias over 8 GPUs, 448 + 1, and once more whole, the bias padded to 8.
    assert stays["critic's head: weights"] == 2 * (449 + 3592) / 1e9
    assert stays["critic's head: AdamW"] == 8 * 449 / 1e9
    plain = gigabytes(*PPO_7B, "distributed=none")["reinforcement"]
    assert plain["critic's head: weights"] == 4 * 3585 / 1e9
    # As transformers gives them: of 28 layers and the embeddings, where no layer's input is kept.
    whole = gigabytes(*PPO_7B, "trainer.gradient_checkpointing=false")["update"]
    assert whole["hidden states"] == pytest.approx(29 * 14_048 * 3584 * 2 / 1e9)


def test_a_refused_critic_may_share_the_trunk(compose_train: Callable[..., DictConfig]) -> None:
    asked = (*PPO_7B, "trainer.critic=separate", "sft_baseline=null", "evaluation.batch_size=1")
    job = job_of(parse(RunConfig, compose_train(*asked)))
    highest = max(plan(job), key=lambda p: p.num_bytes)
    assert highest.name == "update"
    assert refusal(job, highest, highest.num_bytes - 1).endswith("fits with trainer.critic=shared")


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
