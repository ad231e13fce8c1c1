"""The tasks of lm-evaluation-harness, run by the harness itself on a tiny model."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from envs.prompts import Prompts, gold_text
from envs.types import Episode
from rewards.improvement import improvement_percent
from rewards.likelihood.dense import DenseScorer
from rewards.types import ScoreRequest

pytest.importorskip("lm_eval", reason="needs lm-evaluation-harness: nextchapter[lm-eval]")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import lm_eval
    from lm_eval.tasks import TaskManager

from train.interop.lm_eval.documents import PLAIN_TEMPLATE, Reader, document, plans_of

FOLDER = Path(__file__).parents[3] / "train" / "interop" / "lm_eval"
pytestmark = pytest.mark.filterwarnings("ignore")


def evaluate(
    model: Path, overrides: tuple[str, ...], task: str = "nextchapter", **metadata: Any
) -> dict[str, Any]:
    about = {"pretrained": str(model), "overrides": list(overrides), **metadata}
    # Loaded lazily, so that its type is another function's.
    harness: Any = lm_eval
    found = harness.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(model), "dtype": "float32"},
        tasks=[task],
        task_manager=TaskManager(include_path=str(FOLDER), include_defaults=False, metadata=about),
        device="cpu",
        batch_size=2,
        limit=3,
        bootstrap_iters=0,
    )
    assert found is not None
    return found


@pytest.fixture(scope="module")
def with_true_plans(generator_folder: Path, overrides: tuple[str, ...]) -> dict[str, Any]:
    return evaluate(generator_folder, overrides)


def test_the_metric_is_the_formula_over_the_tokens_that_the_harness_scores(
    with_true_plans: dict[str, Any], generator_folder: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(generator_folder)
    scorer = DenseScorer(AutoModelForCausalLM.from_pretrained(generator_folder))
    improvements = []
    for sample in with_true_plans["samples"]["nextchapter"]:
        doc = sample["doc"]
        requests = []
        for context in (doc["with_plan"], doc["without_plan"]):
            ids = tokenizer(context + doc["chapter"], add_special_tokens=False)["input_ids"]
            cut = len(ids) - doc["num_tokens"]
            requests.append(ScoreRequest("book/1", tuple(ids[:cut]), (), tuple(ids[cut:])))
        assert requests[0].gold_ids == requests[1].gold_ids
        with_plan, baseline = scorer.score(requests)
        for (total, _), likelihood in zip(
            sample["filtered_resps"], (baseline, with_plan), strict=True
        ):
            assert -total == pytest.approx(likelihood.nll, abs=1e-3)
        improvements.append(improvement_percent(with_plan, baseline))
        assert sample["improvement"] == pytest.approx(improvements[-1], abs=1e-3)
    assert len(improvements) == 3 and any(abs(i) > 0.001 for i in improvements)
    mean = with_true_plans["results"]["nextchapter"]["improvement,none"]
    assert mean == pytest.approx(sum(improvements) / 3, abs=1e-3)


def test_the_chapter_alone_is_scored_and_every_token_of_it(
    with_true_plans: dict[str, Any], generator_folder: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(generator_folder)
    for sample in with_true_plans["samples"]["nextchapter"]:
        doc = sample["doc"]
        ids = tokenizer(doc["with_plan"] + doc["chapter"], add_special_tokens=False)["input_ids"]
        text = tokenizer.decode(ids[-doc["num_tokens"] :])
        assert text.strip() == doc["chapter"].strip()


def test_an_empty_plan_scores_exactly_zero(
    generator_folder: Path, overrides: tuple[str, ...], tmp_path: Path
) -> None:
    episodes = json.dumps({"episode_id": "x", "plan": ""})
    path = tmp_path / "plans.jsonl"
    from train.interop.prepared import prepared

    books = prepared(None, overrides).episodes("test")
    lines = [json.dumps({"episode_id": e.episode_id, "plan": ""}) for e in books]
    path.write_text("\n".join([*lines, episodes, ""]), encoding="utf-8")
    found = evaluate(generator_folder, overrides, plan=str(path))
    assert [s["improvement"] for s in found["samples"]["nextchapter"]] == [0.0, 0.0, 0.0]


def test_an_agent_s_plans_are_scored_by_the_run_s_generator(
    generator_folder: Path, overrides: tuple[str, ...]
) -> None:
    # A random model writes no "In summary:", so that all that it says is taken as its plan here.
    whole = (*overrides, "env.parser.whole_answer_without_marker=true")
    found = evaluate(generator_folder, whole, "nextchapter_agent")
    samples = found["samples"]["nextchapter_agent"]
    from envs.types import Reply
    from train.interop.prepared import prepared

    books = prepared(None, whole)
    for sample in samples:
        said = Reply(sample["filtered_resps"][0])
        assert said.text.strip()
        expected = books.improvement(sample["doc"]["episode_id"], said)
        assert sample["improvement"] == pytest.approx(expected, abs=1e-6) != 0.0


def test_a_plan_that_would_change_the_chapter_s_tokens_is_refused(
    make_episode: Any, tokenizer: PreTrainedTokenizerBase
) -> None:
    class Glued:
        """A tokenizer that makes one token of a full stop and the line break behind it."""

        chat_template = "{% for message in messages %}{{ message['content'] }}\n\n{% endfor %}"
        name_or_path = "glued"

        def __call__(self, text: str, add_special_tokens: bool = False) -> dict[str, list[int]]:
            return {"input_ids": [ord(c) for c in text.replace(".\n", "\x01")]}

        def apply_chat_template(self, messages: Any, **_: Any) -> str:
            return "".join(f"{m['content']}\n\n" for m in messages)

    episode = make_episode()
    reader: Any = Reader(Glued(), None)  # pyright: ignore[reportArgumentType]
    assert gold_text(episode.chapter) == document(episode, "A plan.", Prompts(), reader)["chapter"]
    with pytest.raises(ValueError, match="book/1: with the plan, other tokens"):
        document(episode, "A plan without an end", Prompts(), reader)


def test_a_model_without_a_chat_template_reads_plain_text(
    make_episode: Any, tokenizer: PreTrainedTokenizerBase, generator_folder: Path
) -> None:
    bare = AutoTokenizer.from_pretrained(generator_folder)
    bare.chat_template = PLAIN_TEMPLATE
    doc = document(make_episode(), "Ann pays", Prompts(), Reader(bare, None))
    assert doc["with_plan"].endswith("\n\n## Plan\nAnn pays\n\n### Chapter\n\n")
    assert doc["with_plan"].replace("\n\n## Plan\nAnn pays", "") == doc["without_plan"]


def test_what_the_model_cannot_read_whole_is_refused(
    make_episode: Any, tokenizer: PreTrainedTokenizerBase
) -> None:
    with pytest.raises(ValueError, match=r"book/1: is [0-9]+ tokens long and the model reads 16"):
        document(make_episode(), "Ann pays", Prompts(), Reader(tokenizer, 16))


def test_plans_come_from_the_books_or_from_a_row_of_a_file(
    make_episode: Any, tmp_path: Path
) -> None:
    episode: Episode = make_episode(true="Ann pays.")
    assert plans_of([episode], "true", None) == {"book/1": "Ann pays."}
    with pytest.raises(ValueError, match=r"'inferable' is no reference plan .* has true"):
        plans_of([episode], "inferable", None)
    path = tmp_path / "plans.jsonl"
    lines = [{"row": row, "episode_id": "book/1", "plan": row} for row in ("greedy", "sampled")]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    assert plans_of([episode], str(path), "sampled") == {"book/1": "sampled"}
    with pytest.raises(ValueError, match=r"several plans for a chapter .rows greedy, sampled."):
        plans_of([episode], str(path), None)
    with pytest.raises(ValueError, match="has no plan for these books"):
        plans_of([episode], str(path), "other")
