"""Models that only score: whole on one device, in 8 bits, or spread over ranks."""

from __future__ import annotations

import importlib.util
from typing import cast

import torch
from accelerate import PartialState
from torch.distributed.device_mesh import init_device_mesh
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TorchAoConfig
from transformers.distributed.configuration_utils import DistributedConfig

from rewards.ranks.equal_forwards import shard_layers
from train.models import load_model
from train.schema import ModelConfig, Quantization, ShardingConfig

WHOLE = ShardingConfig()


def load_frozen(
    config: ModelConfig,
    key: str,
    sharding: ShardingConfig = WHOLE,
    quantization: Quantization | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model on its devices, and its tokenizer; where it is sharded, all ranks ask together.

    Raises:
        ValueError: there is no such model, it cannot be spread over these ranks, or the library
            that quantizes is not there.
    """
    if sharding.method == "none":
        how = {"quantization_config": int8_weights()} if quantization == "int8" else {}
        model, tokenizer = load_model(config, key, **how)
        return on_device(model), tokenizer
    if quantization is not None:
        raise ValueError(
            "generator.quantization: 8-bit weights cannot be spread over ranks; "
            "take scorer.sharding out, or the quantization"
        )
    num_replicas, ranks = replicas(sharding, PartialState().num_processes)
    if sharding.method == "tensor_parallel":
        # Replicas come first, so that one's ranks are neighbours and share a host.
        spread = DistributedConfig(tp_size=ranks, tp_plan="auto", dp_replicate_size=num_replicas)
        return load_model(config, key, distributed_config=spread)
    model, tokenizer = load_model(config, key)
    device = cast(torch.device, PartialState().device)
    mesh = init_device_mesh(device.type, (num_replicas, ranks), mesh_dim_names=("replica", "shard"))
    shard_layers(model, mesh)
    return on_device(model), tokenizer


def int8_weights() -> TorchAoConfig:
    """Linear layers' weights in 8 bits with a scale for each row, computed with in the dtype of the
    model.
    """
    if importlib.util.find_spec("torchao") is None:
        raise ValueError(
            "generator.quantization: int8 needs torchao; install it with: "
            "pip install 'nextchapter[int8]'"
        )
    from torchao.quantization import Int8WeightOnlyConfig

    return TorchAoConfig(Int8WeightOnlyConfig())


def replicas(sharding: ShardingConfig, num_processes: int) -> tuple[int, int]:
    """How many copies of the model there are, and over how many ranks each is spread."""
    ranks = sharding.ranks_per_replica or num_processes
    if num_processes == 1 or ranks < 2 or num_processes % ranks:
        raise ValueError(
            f"scorer.sharding.ranks_per_replica: {ranks} ranks hold one generator, which must be "
            f"2 or more and divide the {num_processes} processes of this run; start more "
            "processes, or take scorer.sharding out"
        )
    return num_processes // ranks, ranks


def on_device(model: PreTrainedModel) -> PreTrainedModel:
    """The model on this process's device."""
    return model.to(PartialState().device)  # pyright: ignore[reportArgumentType]
