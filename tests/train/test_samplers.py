"""What each sampler needs is asked for in one line; continuous batching samples what others do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from envs.plans import PlanParser
from envs.solo import SoloPlanner
from envs.sources.storyworld import StoryWorldSource
from envs.types import Rollout
from rewards.encode import GeneratorEncoder
from rewards.likelihood.dense import DenseScorer
from rewards.likelihood_improvement import LikelihoodImprovement
from rewards.status_rules import StatusRules
from rewards.terms.raw import Raw
from rewards.weighted_sum import WeightedTerm
from train.config.validate import parse
from train.episode_order import EpisodeOrder
from train.grpo import train_grpo
from train.models import save_model
from train.progress import ProgressDisplay
from train.run import Run
from train.samplers import check_continuous_batching, check_vllm
from train.schema import RunConfig
from train.settings.grpo import GrpoSettings, Sampler

MakeModel = Callable[..., PreTrainedModel]


@pytest.mark.parametrize("sampler", ["vllm_colocate", "vllm_server"])
def test_vllm_is_refused_where_it_or_a_gpu_is_missing(sampler: Sampler) -> None:
    settings = GrpoSettings(sampler=sampler)
    with pytest.raises(ValueError, match=rf"^trainer\.sampler: {sampler} needs vLLM, which is not"):
        check_vllm(settings, has_vllm=False, has_gpu=True, processes=1)
    with pytest.raises(ValueError, match=rf"^trainer\.sampler: {sampler} needs a GPU in every"):
        check_vllm(settings, has_vllm=True, has_gpu=False, processes=1)
    check_vllm(settings, has_vllm=True, has_gpu=True, processes=1)


def test_engines_that_share_the_processes_have_to_divide_them() -> None:
    settings = GrpoSettings(sampler="vllm_colocate", trl={"vllm_tensor_parallel_size": 4})
    with pytest.raises(ValueError, match=r"vllm_tensor_parallel_size: 4 does not divide the 6"):
        check_vllm(settings, has_vllm=True, has_gpu=True, processes=6)
    check_vllm(settings, has_vllm=True, has_gpu=True, processes=8)
    # A server has GPUs of its own.
    server = GrpoSettings(sampler="vllm_server", trl={"vllm_tensor_parallel_size": 4})
    check_vllm(server, has_vllm=True, has_gpu=True, processes=6)


def test_other_samplers_need_nothing() -> None:
    for sampler in ("transformers", "continuous_batching"):
        check_vllm(GrpoSettings(sampler=sampler), has_vllm=False, has_gpu=False, processes=1)


def test_the_embedded_agent_has_layers_that_cannot_be_paged(
    compose_train: Callable[..., DictConfig],
) -> None:
    config = parse(RunConfig, compose_train("trainer.sampler=continuous_batching"))
    with pytest.raises(ValueError, match=r"^trainer\.sampler: .* layers without them \(conv\)"):
        Run.prepare(config, ProgressDisplay())


def test_continuous_batching_does_not_go_with_bfloat16_passes_on_fp32_weights(
    compose_train: Callable[..., DictConfig],
    make_model: MakeModel,
    tokenizer: PreTrainedTokenizerBase,
    tmp_path: Path,
) -> None:
    save_model(make_model(), tokenizer, tmp_path)

    def check(*overrides: str) -> None:
        policy = f"policy.model={{path: {tmp_path}}}"
        asked = compose_train(policy, "trainer.sampler=continuous_batching", *overrides)
        check_continuous_batching(parse(RunConfig, asked))

    with pytest.raises(
        ValueError, match=r"casts the weights to bfloat16 .* take distributed=zero2"
    ):
        check("trainer.bf16=true")
    check("trainer.bf16=true", "distributed=zero2")
    check("trainer.bf16=true", "+policy.model.dtype=bfloat16")
    check()
    check("trainer.bf16=true", "trainer.sampler=transformers")


def test_continuous_batching_answers_each_prompt_as_plain_sampling_does(
    make_model: MakeModel,
    tokenizer: PreTrainedTokenizerBase,
    encoder: GeneratorEncoder,
    world: StoryWorldSource,
    tmp_path: Path,
) -> None:
    """So sure of itself, and so cold, the policy does not hang on the random numbers."""
    answers: dict[str, list[tuple[str, str]]] = {}
    for sampler in ("transformers", "continuous_batching"):
        policy = make_model(seed=3, tie_word_embeddings=False, initializer_range=0.3)
        with torch.no_grad():
            policy.get_output_embeddings().weight.mul_(100.0)
        seen: list[Rollout] = []
        trained = train_grpo(
            policy,
            tokenizer,
            SoloPlanner(parser=PlanParser(whole_answer_without_marker=True)),
            LikelihoodImprovement(
                DenseScorer(make_model(seed=1)),
                encoder,
                [WeightedTerm("raw", Raw())],
                StatusRules(),
            ),
            EpisodeOrder(world.episodes("train"), 2, 2, seed=0),
            GrpoSettings(
                max_steps=2,
                num_generations=2,
                episodes_per_step=2,
                per_device_batch_size=2,
                max_completion_length=8,
                learning_rate=1e-6,
                temperature=0.01,
                sampler=sampler,
                # By itself it takes half of what memory is free.
                trl={"transformers_continuous_batching_config": {"num_blocks": 32}}
                if sampler == "continuous_batching"
                else {},
            ),
            output_dir=tmp_path / sampler,
            seed=0,
            on_scored=lambda rollouts, _, seen=seen: seen.extend(rollouts),
        )
        assert trained.config._attn_implementation == "sdpa"
        answers[sampler] = [(r.episode.episode_id, r.reply.text) for r in seen]
    assert len(answers["transformers"]) == 8
    assert len({text for _, text in answers["transformers"]}) > 1
    assert answers["continuous_batching"] == answers["transformers"]
