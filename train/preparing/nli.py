"""Whether a text proves a statement, by a model for natural language inference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any

import torch
from accelerate import PartialState
from pydantic import Field
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from envs.types import Reply, Usage
from train.models import model_digest
from train.preparing.entailment import Claim
from train.preparing.pieces import cut
from train.schema import ModelConfig

# B claims, C classes.

ENTAILMENT = "entailment"


class NliEntailment:
    """Reads a text in windows of sentences; a statement is proved if one of them entails it.

    A verdict is the highest probability of entailment over the windows, since models of this kind
    are trained on premises of a sentence or a paragraph.
    """

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5,
        max_premise_words: Annotated[int, Field(gt=0)] = 200,
        batch_size: Annotated[int, Field(gt=0)] = 32,
    ) -> None:
        self.model = model
        self.revision = revision
        self.threshold = threshold
        self.max_premise_words = max_premise_words
        self.batch_size = batch_size

    def check(self, claims: Sequence[Claim]) -> list[Reply]:
        asked = [
            (place, window, claim.statement)
            for place, claim in enumerate(claims)
            for window in cut(claim.text, self.max_premise_words)
        ]
        best, read = [0.0] * len(claims), [0] * len(claims)
        for start in range(0, len(asked), self.batch_size):
            batch = asked[start : start + self.batch_size]
            probabilities, lengths = self._entailed([(w, s) for _, w, s in batch])
            for (place, _, _), probability, length in zip(
                batch, probabilities, lengths, strict=True
            ):
                best[place] = max(best[place], probability)
                read[place] += length
        # A verdict is kept as text, with digits enough to tell it from the threshold.
        return [
            Reply(f"{probability:.6f}", usage=Usage(num_tokens))
            for probability, num_tokens in zip(best, read, strict=True)
        ]

    def is_proved(self, verdict: Reply) -> bool | None:
        return float(verdict.text) >= self.threshold

    def identity(self) -> Mapping[str, Any]:
        weights = model_digest(ModelConfig(path=self.model, revision=self.revision))
        return {"nli": weights, "max_premise_words": self.max_premise_words}

    def _entailed(self, pairs: Sequence[tuple[str, str]]) -> tuple[list[float], list[int]]:
        """The probability that each text entails its statement, and the tokens read for it."""
        model, tokenizer, entailment = self._loaded
        inputs = tokenizer(
            [text for text, _ in pairs],
            [statement for _, statement in pairs],
            truncation="only_first",
            padding=True,
            return_tensors="pt",
        ).to(model.device)
        with torch.inference_mode():
            logits_BC = model(**inputs).logits.float()
        return (
            logits_BC.softmax(-1)[:, entailment].tolist(),
            inputs["attention_mask"].sum(1).tolist(),
        )

    @cached_property
    def _loaded(self) -> tuple[Any, Any, int]:
        """The model, its tokenizer, and which of its classes is entailment."""
        where = {"revision": self.revision, "trust_remote_code": False}
        try:
            tokenizer = AutoTokenizer.from_pretrained(self.model, **where)
            model = AutoModelForSequenceClassification.from_pretrained(
                self.model, use_safetensors=True, **where
            )
        except (OSError, ValueError) as error:
            raise ValueError(
                f"entailment.model: no usable model at {self.model!r} "
                f"({str(error).strip().splitlines()[0]}); give a folder or a Hub id in safetensors"
            ) from error
        labels = {
            str(label).lower(): int(number) for number, label in model.config.id2label.items()
        }
        if ENTAILMENT not in labels:
            raise ValueError(
                f"entailment.model: {self.model} has no class '{ENTAILMENT}' among "
                f"{', '.join(labels)}; name a model for natural language inference"
            )
        # Its tokenizer may not know how much the model reads.
        tokenizer.model_max_length = min(
            tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", 512)
        )
        return model.eval().to(PartialState().device), tokenizer, labels[ENTAILMENT]
