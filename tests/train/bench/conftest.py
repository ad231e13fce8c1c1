"""A model and work so small that every contender is done in a moment."""

from __future__ import annotations

from dataclasses import replace

import pytest
from transformers import PreTrainedModel

from train.bench.scales import QUICK, Scale
from train.bench.workload import Shape, Workload, draw_workload

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 300,
}


@pytest.fixture(scope="session")
def tiny() -> Scale:
    return replace(QUICK, architecture={**QUICK.architecture, **SIZES}, rows_per_batch=3)


@pytest.fixture(scope="session")
def model(tiny: Scale) -> PreTrainedModel:
    return tiny.make_model()


@pytest.fixture(scope="session")
def workload() -> Workload:
    """Two episodes of unlike lengths with four attempts each."""
    return draw_workload(Shape("g4", 2, 4, 70, 8, 20), SIZES["vocab_size"], seed=0)
