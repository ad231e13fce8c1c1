"""How many tokens fit through a model at once, and what a call costs beside its tokens."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from rewards.likelihood.logits import body

# On a CPU a few hundred tokens keep the cores busy, and larger batches fall out of its caches: a
# model of 0.5 M parameters took 26 µs a token in batches of 4,096 and 39 µs in batches of 16,384.
CPU_TOKENS = 4_096
# On an accelerator more is hardly faster, and every activation grows.
MOST_TOKENS = 65_536
PROBE_TOKENS = 512
# Of the free memory; the rest is for fragmentation and for what the probe did not see.
USABLE_SHARE = 0.7

# A call of the model takes as long as so many tokens more would. On a CPU of 2 cores: 50 tokens for
# a model of 0.5 M parameters, 17 for one of 12 M. An accelerator waits for its kernels' launches.
CPU_TOKENS_PER_CALL = 64
ACCELERATOR_TOKENS_PER_CALL = 1_024


def tokens_per_call(device: torch.device) -> int:
    """The fixed cost of a call, in tokens."""
    return CPU_TOKENS_PER_CALL if device.type == "cpu" else ACCELERATOR_TOKENS_PER_CALL


def tokens_that_fit(free_bytes: int, logits_bytes: int, bytes_per_token: int) -> int:
    """Tokens whose activations fit beside one chunk of logits."""
    usable = int(free_bytes * USABLE_SHARE) - logits_bytes
    return max(1, min(MOST_TOKENS, usable // max(1, bytes_per_token)))


def find_max_tokens(model: PreTrainedModel, positions_per_chunk: int) -> int:
    """Tokens of one batch: measured on an accelerator, a fixed number on a CPU."""
    if model.device.type != "cuda":
        return CPU_TOKENS
    device, config = model.device, model.config.get_text_config()
    longest = getattr(config, "max_position_embeddings", PROBE_TOKENS)
    ids_BT = torch.zeros(1, min(PROBE_TOKENS, longest), dtype=torch.long, device=device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    with torch.no_grad():
        body(model)(input_ids=ids_BT, use_cache=False)
    per_token = (torch.cuda.max_memory_allocated(device) - before) // ids_BT.numel()
    free = torch.cuda.mem_get_info(device)[0]
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    # Logits in the model's type and in fp32, at most 4 bytes each.
    logits_bytes = 8 * positions_per_chunk * config.vocab_size
    return tokens_that_fit(free + unused, logits_bytes, per_token)
