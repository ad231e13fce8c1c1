"""How scoring work is spread over ranks: its cost in floating point operations, and who does what.

Pure functions of lengths. Every rank computes the same plan from the same numbers.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

# An assignment this close to the ideal is taken; a split that gains less costs more than it gives.
GOOD_ENOUGH = 1.05
# Largest share of a rank's ideal load that a piece of a split group may be, tried in this order.
PIECE_SHARES = (1.0, 0.5, 0.25, 0.125)


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a decoder that its floating point operations follow from."""

    body_weights: int
    """Weights of the layers that one token is multiplied with: without embeddings and head, and of
    the experts of a mixture only as many as a token visits."""
    num_full_attention_layers: int
    num_sliding_attention_layers: int
    sliding_window: int
    """Keys that a token of a sliding layer sees at most."""
    attention_size: int
    """Number of query heads times the size of a head."""
    hidden_size: int
    vocab_size: int

    @classmethod
    def of(cls, model: PreTrainedModel) -> ModelShape:
        """Read off the model; one on the `meta` device will do."""
        config = model.config.get_text_config()
        window = getattr(config, "sliding_window", None) or 0
        default = "sliding_attention" if window else "full_attention"
        layers = getattr(config, "layer_types", None) or [default] * config.num_hidden_layers
        head_size = getattr(config, "head_dim", None)
        head_size = head_size or config.hidden_size // config.num_attention_heads
        return cls(
            _body_weights(model),
            layers.count("full_attention"),
            layers.count("sliding_attention"),
            window,
            config.num_attention_heads * head_size,
            config.hidden_size,
            config.vocab_size,
        )


@dataclass(frozen=True)
class GroupCost:
    """Floating point operations of requests that share a prefix.

    Members cost the same together as apart; only the prefix is saved by keeping them together.
    """

    prefix: int
    members: tuple[int, ...]

    @property
    def total(self) -> int:
        return self.prefix + sum(self.members)


@dataclass(frozen=True)
class Share:
    """Members of one group that a rank scores together."""

    group: int
    members: tuple[int, ...]


def group_flops(
    prefix_len: int, suffix_lens: Sequence[int], gold_lens: Sequence[int], shape: ModelShape
) -> GroupCost:
    """Floating point operations of scoring a group whose prefix goes through the model once.

    Each suffix ends in its gold tokens. A multiplication and an addition count as two. Counted are
    the products with weights, attention over the keys that each token sees, and the head at gold
    positions.
    """
    # 2: queries times keys, and weights times values.
    per_key = 2 * 2 * shape.attention_size
    per_gold_token = 2 * shape.hidden_size * shape.vocab_size

    def body(start: int, num_tokens: int) -> int:
        full = _keys_seen(start, num_tokens, start + num_tokens)
        sliding = _keys_seen(start, num_tokens, shape.sliding_window)
        keys = shape.num_full_attention_layers * full + shape.num_sliding_attention_layers * sliding
        return 2 * shape.body_weights * num_tokens + per_key * keys

    return GroupCost(
        body(0, prefix_len),
        tuple(
            body(prefix_len, suffix) + per_gold_token * gold
            for suffix, gold in zip(suffix_lens, gold_lens, strict=True)
        ),
    )


def assign(costs: Sequence[float], num_ranks: int) -> list[list[int]]:
    """Indices of the jobs of each rank: the costliest job goes to the least loaded rank, and so on.

    At most 4/3 of the best makespan there is (Graham 1969), near 1 where jobs are many.
    """
    loads = [(0.0, rank) for rank in range(num_ranks)]
    jobs: list[list[int]] = [[] for _ in range(num_ranks)]
    for job in sorted(range(len(costs)), key=lambda j: (-costs[j], j)):
        load, rank = heapq.heappop(loads)
        jobs[rank].append(job)
        heapq.heappush(loads, (load + costs[job], rank))
    return jobs


def balance(groups: Sequence[GroupCost], num_ranks: int) -> list[list[Share]]:
    """The shares of each rank: whole groups where that balances, else large ones in pieces.

    Every piece of a split group goes through the prefix again, so splitting is tried from none to
    fine, and the first plan within `GOOD_ENOUGH` of the ideal is taken, else the best of them.
    """
    ideal = ideal_flops(groups, num_ranks)
    best: list[list[Share]] = [[] for _ in range(num_ranks)]
    best_makespan = math.inf
    for piece_share in (math.inf, *PIECE_SHARES):
        shares = [
            Share(index, members)
            for index, group in enumerate(groups)
            for members in _pieces(group, piece_share * ideal)
        ]
        jobs = assign([_share_flops(groups, s) for s in shares], num_ranks)
        plan = [[shares[j] for j in sorted(indices)] for indices in jobs]
        makespan = makespan_flops(groups, plan)
        if makespan < best_makespan:
            best, best_makespan = plan, makespan
        if best_makespan <= GOOD_ENOUGH * ideal:
            break
    return best


def ideal_flops(groups: Sequence[GroupCost], num_ranks: int) -> float:
    """The load of each rank if work were a liquid and every prefix went through the model once."""
    return sum(g.total for g in groups) / num_ranks


def makespan_flops(groups: Sequence[GroupCost], plan: Sequence[Sequence[Share]]) -> int:
    """The load of the busiest rank; the prefix of a split group counts on each of its ranks."""

    def load(shares: Sequence[Share]) -> int:
        prefixes = sum(groups[index].prefix for index in {s.group for s in shares})
        return prefixes + sum(groups[s.group].members[m] for s in shares for m in s.members)

    return max((load(shares) for shares in plan), default=0)


def _share_flops(groups: Sequence[GroupCost], share: Share) -> int:
    members = groups[share.group].members
    return groups[share.group].prefix + sum(members[m] for m in share.members)


def _pieces(group: GroupCost, limit: float) -> list[tuple[int, ...]]:
    """The members in as few pieces as keep each near `limit`, one by one where none can."""
    num_members = len(group.members)
    num_pieces = 1
    if group.total > limit:
        room = limit - group.prefix
        fits = math.ceil((group.total - group.prefix) / room) if room > 0 else num_members
        num_pieces = min(fits, num_members)
    return [tuple(sorted(piece)) for piece in assign(group.members, num_pieces)]


def _keys_seen(start: int, num_tokens: int, window: int) -> int:
    """Keys that `num_tokens` tokens see in all, the first of them with `start` before it."""
    # Token t, counted from 1, sees min(t, window) keys.
    growing = max(0, min(start + num_tokens, window) - start)
    return growing * start + growing * (growing + 1) // 2 + (num_tokens - growing) * window


def _body_weights(model: PreTrainedModel) -> int:
    config = model.config.get_text_config()
    num_experts = getattr(config, "num_experts", None) or getattr(config, "num_local_experts", 0)
    embeddings = {
        id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)
    }
    total = 0
    for name, weight in model.base_model.named_parameters():
        if weight.ndim < 2 or id(weight) in embeddings:
            continue
        is_expert = num_experts and ".experts." in name
        total += weight.numel() * (config.num_experts_per_tok / num_experts if is_expert else 1)
    return round(total)
