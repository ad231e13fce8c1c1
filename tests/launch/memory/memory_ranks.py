"""Two real processes that count their bytes: `python memory_ranks.py <folder> <way>…`.

A way is a ZeRO stage or 0 for DDP, a precision or adapters, and for PPO a kind of critic. In each a
tiny model takes a pass and a step; every rank writes how many bytes of what it held to
`<folder>/<rank>.json`, for test_states.py to compare with the plan.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from transformers import LlamaConfig, LlamaForCausalLM, TrainingArguments

from train import ranks
from train.distribution import DistributedSettings
from train.ppo.actor_critic import ActorCritic
from train.quiet import quiet_libraries

NUM_RANKS = 2
RANK_OF_ADAPTERS = 4


def tiny_llama() -> LlamaForCausalLM:
    """Sizes that nothing divides, so that padding shows."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=36,
            intermediate_size=67,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=10,
            vocab_size=301,
            max_position_embeddings=64,
        )
    )


def size(tensors: Iterable[Tensor | None]) -> int:
    """Bytes of the storages that the tensors lie in, each once; scalars such as counters aside."""
    storages = [t.untyped_storage() for t in tensors if t is not None and t.ndim]
    return sum({s.data_ptr(): s.nbytes() for s in storages if s.nbytes()}.values())


def loss_of(model: Any, ids: Tensor) -> Tensor:
    """Of a model that is wrapped for its training; what the loss is does not matter."""
    if isinstance(model.module, ActorCritic):
        found = model(ids, torch.ones_like(ids), ids.shape[1] // 2)
        return found["logp_NA"].sum() + found["value_NA"].sum()
    return model(input_ids=ids, labels=ids).loss


def groups_of(model: Any) -> list[dict[str, Any]]:
    """Parameter groups as the trainers make them: the critic has one of its own."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    policy = [p for name, p in named if not name.startswith("critic.")]
    critic = [p for name, p in named if name.startswith("critic.")]
    return [{"params": group} for group in (policy, critic) if group]


def replicated(model: Any, optimizer: torch.optim.Optimizer, ids: Tensor) -> dict[str, int]:
    ddp = DistributedDataParallel(model)
    loss_of(ddp, ids).backward()
    seen = {
        "weights": size(model.parameters()),
        "gradients": size(p.grad for p in model.parameters()),
    }
    buckets = ddp._get_ddp_logging_data()["bucket_sizes"]
    optimizer.step()
    states = [t for state in optimizer.state.values() for t in state.values()]
    return seen | {"AdamW": size(states), "DDP's buckets": sum(map(int, buckets.split(", ")))}


def sharded(model: Any, stage: int, bf16: bool, ids: Tensor) -> dict[str, int]:
    import deepspeed

    arguments = TrainingArguments(
        output_dir="unused",
        use_cpu=True,
        bf16=bf16,
        report_to=[],
        deepspeed=DistributedSettings(zero_stage=stage).as_deepspeed(),
    )
    config = arguments.hf_deepspeed_config
    config.trainer_config_finalize(arguments, model, 1)
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=torch.optim.AdamW(groups_of(model)),
        config={**config.config, "zero_allow_untested_optimizer": True},
    )
    engine.backward(loss_of(engine, ids))
    zero = engine.optimizer
    if stage == 2:
        seen = {
            "gradients": size(t for part in zero.averaged_gradients.values() for t in part),
            "fp32 copy": size(zero.single_partition_of_fp32_groups),
        }
    else:
        seen = {
            "gradients": size([zero.grad_partitions_flat_buffer]),
            "fp32 copy": size(zero.fp32_partitioned_groups_flat),
        }
        buffers = [bucket.buffer for bucket in zero.ipg_buckets.values()]
        seen["bucket of gradients"] = size(buffers)
    engine.step()
    states = [t for state in zero.optimizer.state.values() for t in state.values()]
    seen["AdamW"] = size(t for t in states if isinstance(t, Tensor))
    weights = list(model.parameters())
    # Under stage 3 each has its part, and small ones are whole again after a step.
    parts = size(p.ds_tensor for p in weights) if stage == 3 else 0
    seen["weights"] = parts + size(p.data for p in weights)
    engine.destroy()
    os.environ.pop("ACCELERATE_USE_DEEPSPEED", None)
    return seen


def count(way: str) -> dict[str, int]:
    stage, what, *critic = way.split("_")
    bf16 = what != "float32"
    model: Any = tiny_llama()
    adapters = None
    if what == "lora":
        model = model.to(torch.bfloat16)
        adapters = LoraConfig(
            r=RANK_OF_ADAPTERS, target_modules="all-linear", task_type="CAUSAL_LM"
        )
    if critic:
        kind: Any = critic[0]
        model = ActorCritic.build(model, kind, 1.0, with_reference=True, peft_config=adapters)
    elif adapters is not None:
        model = get_peft_model(model, adapters)
    ids = torch.arange(20).reshape(2, 10)
    if stage == "0":
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return replicated(model, torch.optim.AdamW(groups_of(model)), ids)
    return sharded(model, int(stage), bf16, ids)


def play(rank: int, port: int, folder: Path, ways: Sequence[str]) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(NUM_RANKS),
        "LOCAL_WORLD_SIZE": str(NUM_RANKS),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(1)
    quiet_libraries()
    ranks.join()
    (folder / f"{rank}.json").write_text(json.dumps({way: count(way) for way in ways}))
    ranks.leave()


def main(folder: Path, ways: Sequence[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    started = [context.Process(target=play, args=(r, port, folder, ways)) for r in range(NUM_RANKS)]
    for process in started:
        process.start()
    for process in started:
        process.join()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
