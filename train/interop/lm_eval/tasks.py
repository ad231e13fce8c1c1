"""Two tasks of lm-evaluation-harness: the model under test as generator, and as agent."""

# The harness types its abstract methods by their empty bodies.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean
from lm_eval.api.task import Task

from envs.tokens import chat_text
from envs.types import Episode, Reply
from rewards.improvement import improvement_percent
from rewards.types import Likelihood
from train.interop.lm_eval.documents import Reader, document, plans_of
from train.interop.prepared import Prepared, prepared

Document = dict[str, Any]


class _Chapters(Task):
    """The chapters of a split as documents; `metadata` says which.

    `run` names a finished run and `overrides` are settings of `nextchapter train`, a list or text;
    `split` is one of theirs.
    """

    VERSION = 1

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        given = dict(config or {})
        self.metadata = dict(given.get("metadata") or {})
        overrides = self.metadata.get("overrides") or ()
        overrides = overrides.split() if isinstance(overrides, str) else overrides
        self.books: Prepared = prepared(self.metadata.get("run"), tuple(overrides))
        self.reader = Reader.of(self.metadata)
        super().__init__(config={"metadata": {**self.metadata, "version": self.VERSION}})

    def download(self, *_: Any, **__: Any) -> None:
        split = self.metadata.get("split", "test")
        self.dataset = {"test": self.documents(self.books.episodes(split))}

    def documents(self, episodes: Sequence[Episode]) -> list[Document]:
        raise NotImplementedError

    def has_training_docs(self) -> bool:
        return False

    def has_validation_docs(self) -> bool:
        return False

    def has_test_docs(self) -> bool:
        return True

    def test_docs(self) -> list[Document]:
        return self.dataset["test"]

    def fewshot_context(self, doc: Document, num_fewshot: int, *_: Any, **__: Any) -> str:
        if num_fewshot:
            raise ValueError("nextchapter: has no examples to show; set --num_fewshot 0")
        return ""

    def aggregation(self) -> dict[str, Callable[[Sequence[float]], float]]:
        return {"improvement": mean, "improved": mean}

    def higher_is_better(self) -> dict[str, bool]:
        return {"improvement": True, "improved": True}


def _metrics(improvement: float) -> dict[str, float]:
    """In per cent, and whether there is any."""
    return {"improvement": improvement, "improved": float(improvement > 0)}


class NextChapter(_Chapters):
    """By how many per cent a given plan lowers the model's perplexity on the true chapter.

    `metadata.plan` is a reference plan of the books or a JSONL file of plans (`plans_of`).
    """

    OUTPUT_TYPE = "loglikelihood"

    def documents(self, episodes: Sequence[Episode]) -> list[Document]:
        plans = plans_of(episodes, self.metadata.get("plan", "true"), self.metadata.get("row"))
        return [
            document(e, plans[e.episode_id], self.books.config.prompts, self.reader)
            for e in episodes
            if e.episode_id in plans
        ]

    def doc_to_text(self, doc: Document) -> str:
        return doc["with_plan"]

    def doc_to_target(self, doc: Document) -> str:
        return doc["chapter"]

    def construct_requests(
        self, doc: Document, ctx: str, *, metadata: Any = (None, None, None), **_: Any
    ) -> list[Instance]:
        # A plan that changes nothing is worth exactly what none is worth: it is not asked for.
        contexts = dict.fromkeys((doc["without_plan"], doc["with_plan"]))
        return [
            Instance("loglikelihood", doc, (context, doc["chapter"]), place, metadata)
            for place, context in enumerate(contexts)
        ]

    def process_results(
        self, doc: Document, results: Sequence[tuple[float, bool]]
    ) -> dict[str, float]:
        n = doc["num_tokens"]
        # Of each token the harness tells nothing, and the formula wants their sum alone.
        found = [Likelihood(-total, (-total / n,) * n) for total, _ in results]
        return _metrics(improvement_percent(found[-1], found[0]))


class NextChapterAgent(_Chapters):
    """By how many per cent the model's own plans lower the perplexity of the run's generator.

    An answer without a plan counts as an empty one, which is worth 0.
    """

    OUTPUT_TYPE = "generate_until"

    def documents(self, episodes: Sequence[Episode]) -> list[Document]:
        tokenizer, ask = self.reader.tokenizer, self.books.env.ask
        return [
            {"episode_id": e.episode_id, "prompt": chat_text(tokenizer, ask(e))} for e in episodes
        ]

    def doc_to_text(self, doc: Document) -> str:
        return doc["prompt"]

    def doc_to_target(self, doc: Document) -> str:
        return ""

    def construct_requests(
        self, doc: Document, ctx: str, *, metadata: Any = (None, None, None), **_: Any
    ) -> Instance:
        sampling = self.books.config.sampling
        how = {
            "until": [],
            "max_gen_toks": sampling.max_new_tokens,
            "do_sample": sampling.temperature > 0,
            "temperature": sampling.temperature,
            **(self.config.generation_kwargs or {}),
        }
        return Instance("generate_until", doc, (doc["prompt"], how), 0, metadata)

    def process_results(self, doc: Document, results: Sequence[str]) -> dict[str, float]:
        return _metrics(self.books.improvement(doc["episode_id"], Reply(results[0])))
