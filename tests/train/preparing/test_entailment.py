"""Whether a text proves a statement: by an agent's word, and by a model for inference."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from envs.sampling import Sampling
from envs.tokens import end_id, pad_id
from envs.types import Message, Reply
from train.local_member import LocalMember
from train.models import save_model
from train.preparing.entailment import AskedEntailment, Claim
from train.preparing.identity import identity_of
from train.preparing.nli import NliEntailment
from train.preparing.settings import PrepareConfig
from train.schema import ModelConfig

LABELS = ("contradiction", "entailment", "neutral")


@pytest.mark.parametrize(
    ("said", "proved"),
    [
        ("YES", True),
        ("**Yes.** The text says so.", True),
        ("no", False),
        ("No, though yes would be kind.", False),
        ("It depends.", None),
        ("...", None),
    ],
)
def test_an_agents_verdict_is_its_first_word(
    configured: Callable[..., PrepareConfig], said: str, proved: bool | None
) -> None:
    class Judge:
        def reply(self, conversations: object) -> list[Reply]:
            return [Reply(said)]

    entailment = AskedEntailment(configured().wording, Judge())
    (verdict,) = entailment.check([Claim("Ann left.", "Ann is gone.")])
    assert entailment.is_proved(verdict) is proved


@pytest.fixture
def nli(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> Callable[..., NliEntailment]:
    """A tiny random classifier with the labels of natural language inference."""

    def make(labels: tuple[str, ...] = LABELS, **fields: object) -> NliEntailment:
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=64,
            initializer_range=0.5,
            pad_token_id=pad_id(tokenizer),
            bos_token_id=end_id(tokenizer),
            eos_token_id=end_id(tokenizer),
            id2label=dict(enumerate(labels)),
            label2id={label: number for number, label in enumerate(labels)},
        )
        folder = tmp_path / "-".join(labels)
        LlamaForSequenceClassification(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return NliEntailment(str(folder), **fields)  # pyright: ignore[reportArgumentType]

    return make


def test_a_statement_counts_as_its_likeliest_window_whatever_its_batch(
    nli: Callable[..., NliEntailment],
) -> None:
    windows = ["Ann owes Bob a ring.", "Bob went to the mill.", "Zoe lies."]
    judge = nli(max_premise_words=5)
    alone = [float(r.text) for r in judge.check([Claim(w, "Ann owes a ring.") for w in windows])]
    assert len(set(alone)) == 3 and all(0 < p < 1 for p in alone)
    whole, other = judge.check([Claim(" ".join(windows), "Ann owes a ring."), Claim("Ann.", "No.")])
    assert float(whole.text) == pytest.approx(max(alone), abs=2e-6)
    assert whole.usage.read_tokens > other.usage.read_tokens > 0
    slow = nli(max_premise_words=5, batch_size=1)
    (again,) = slow.check([Claim(" ".join(windows), "Ann owes a ring.")])
    assert float(again.text) == pytest.approx(float(whole.text), abs=2e-6)


def test_the_threshold_decides_and_needs_no_new_verdict(nli: Callable[..., NliEntailment]) -> None:
    strict, lenient = nli(threshold=0.9), nli(threshold=0.3)
    assert identity_of(strict) == identity_of(lenient)
    assert strict.is_proved(Reply("0.500000")) is False
    assert lenient.is_proved(Reply("0.500000")) is True


def test_a_text_longer_than_the_model_reads_loses_its_end_and_not_the_statement(
    nli: Callable[..., NliEntailment],
) -> None:
    (verdict,) = nli(max_premise_words=200).check([Claim("Ann owes Bob. " * 60, "Ann left.")])
    assert verdict.usage.read_tokens == 64


def test_a_classifier_of_something_else_is_refused(
    nli: Callable[..., NliEntailment], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="has no class 'entailment' among good, bad"):
        nli(("good", "bad")).check([Claim("Ann left.", "Ann is gone.")])
    with pytest.raises(ValueError, match=r"entailment\.model: no usable model"):
        NliEntailment(str(tmp_path / "none")).check([Claim("Ann left.", "Ann is gone.")])


def test_a_local_agent_knows_what_its_window_holds_and_what_it_depends_on(
    make_model: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    save_model(make_model(max_position_embeddings=64), tokenizer, tmp_path / "model")
    sampling = Sampling(max_new_tokens=32, temperature=0.0)
    agent = LocalMember(ModelConfig(path=str(tmp_path / "model")), sampling)
    assert agent.fits((Message("user", "Ann left."),))
    assert not agent.fits((Message("user", "Ann owes Bob a ring. " * 8),))
    assert replace(agent, sampling=Sampling(16, 0.0)).identity() != agent.identity()
    json.dumps(identity_of(agent))


def test_an_agent_that_does_not_say_what_it_depends_on_is_refused() -> None:
    class Mine:
        def __init__(self) -> None:
            self.model = object()

    with pytest.raises(ValueError, match=r"Mine does not say .* give it a method identity\(\)"):
        identity_of(Mine())
