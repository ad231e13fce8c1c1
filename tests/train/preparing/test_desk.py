"""What is asked, once, within a budget, and what is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from envs.types import Book, Cost, Reply, Usage
from train.preparing.answers import AnswerStore
from train.preparing.desk import Desk, Tally
from train.preparing.prepare import Preparation
from train.preparing.settings import PrepareBudget
from train.progress import ProgressDisplay


class Asked:
    """Answers with the question, in capitals; each answer costs 10 tokens to read and 2 to say."""

    def __init__(self, *failures: str) -> None:
        self.failures = failures
        self.batches: list[list[str]] = []

    def __call__(self, questions: Sequence[str]) -> list[Reply]:
        self.batches.append(list(questions))
        return [
            Reply("", failure="busy")
            if q in self.failures
            else Reply(q.upper(), usage=Usage(10, 2))
            for q in questions
        ]


def desk_of(
    answer: Callable[[Sequence[str]], list[Reply]], folder: Path, **limits: int
) -> Desk[str]:
    tally = Tally(PrepareBudget(**limits))
    return Desk(answer, AnswerStore(folder, {"agent": "a"}), tally, 2, ProgressDisplay())


def test_a_question_is_asked_once_and_never_again(tmp_path: Path) -> None:
    agent = Asked()
    desk = desk_of(agent, tmp_path)
    assert [r.text for r in desk.ask("names", ["a", "b", "a", "c"])] == ["A", "B", "A", "C"]
    assert [r.text for r in desk.ask("names", ["c", "d"])] == ["C", "D"]
    assert agent.batches == [["a", "b"], ["c"], ["d"]]
    assert desk.tally.costs == {"names": Cost(4, 40, 8)}
    later = desk_of(Asked(), tmp_path)
    assert later.ask("names", ["d", "a"]) == [Reply("D"), Reply("A")]
    assert later.answer.batches == []  # pyright: ignore[reportFunctionMemberAccess]
    # What it would have cost, so that a preparation that went on ends with the same sums.
    assert later.tally.costs == {"names": Cost(2, 20, 4)} and later.tally.fresh_calls == 0


def test_beyond_its_budget_nobody_is_asked_and_it_is_counted(tmp_path: Path) -> None:
    desk = desk_of(Asked(), tmp_path / "calls", max_calls=3)
    assert [r.failure for r in desk.ask("names", list("abcde"))] == ["", "", "", "budget", "budget"]
    assert desk.tally.failures == {"names": {"budget": 2}} and desk.tally.total.calls == 3
    # Two answers to a batch, two tokens to an answer: the second batch reaches 7.
    desk = desk_of(Asked(), tmp_path / "tokens", max_generated_tokens=7)
    assert [bool(r.text) for r in desk.ask("names", list("abcdef"))] == [True] * 4 + [False] * 2


def test_what_has_no_answer_is_counted_and_asked_again_another_time(tmp_path: Path) -> None:
    desk = desk_of(Asked("b"), tmp_path)
    assert [r.failure for r in desk.ask("names", ["a", "b"])] == ["", "busy"]
    assert desk.tally.failures == {"names": Counter(busy=1)}
    later = desk_of(Asked(), tmp_path)
    assert [r.text for r in later.ask("names", ["a", "b"])] == ["A", "B"]
    assert later.tally.fresh_calls == 1


def test_answers_of_another_agent_are_not_taken(tmp_path: Path) -> None:
    AnswerStore(tmp_path, {"agent": "a"}).keep({"key": Reply("A")})
    assert AnswerStore(tmp_path, {"agent": "a"}).get("key") == Reply("A")
    assert AnswerStore(tmp_path, {"agent": "b"}).get("key") is None


def test_kept_answers_cost_what_they_did_and_say_what_is_estimated(tmp_path: Path) -> None:
    def answer(questions: Sequence[str]) -> list[Reply]:
        usage = Usage(10, 2, money=0.5, giga_operations=3.0)
        return [Reply("A", usage=replace(usage, is_estimated=q == "two")) for q in questions]

    costs = []
    for _ in range(2):
        desk = desk_of(answer, tmp_path)
        desk.ask("verdict", ["one", "two"])
        costs.append(desk.tally.total.named())
    whole = {"calls": 2, "read_tokens": 20, "generated_tokens": 4, "estimated_calls": 1}
    assert costs == [whole, whole]


def test_a_line_that_a_kill_has_cut_costs_itself_alone(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path, {})
    store.keep({"one": Reply("A\u2028B", truncated=True, usage=Usage(3, 2))})
    with store.path.open("ab") as file:
        file.write(b'{"answers": {"two": ["B", fal')
    AnswerStore(tmp_path, {}).keep({"three": Reply("C")})
    found = AnswerStore(tmp_path, {})
    assert found.get("one") == Reply("A\u2028B", truncated=True)
    assert found.get("two") is None and found.get("three") == Reply("C")


def test_an_agent_that_gives_fewer_answers_than_questions_is_named(tmp_path: Path) -> None:
    desk = desk_of(lambda questions: [Reply("A")], tmp_path)
    with pytest.raises(ValueError, match=r"agent: gave 1 answers to 2 questions \(names\)"):
        desk.ask("names", ["a", "b"])


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (Reply(""), "empty"),
        (Reply("", failure="slow"), "slow"),
        (Reply("word " * 300), "too_long"),
        (Reply("Ann left. Then she", truncated=True), "too_long"),
    ],
)
def test_a_summary_that_is_none_or_too_much_is_bounded_and_counted(
    preparation: Callable[..., Preparation],
    readers: ModuleType,
    book: Callable[..., Book],
    reply: Reply,
    why: str,
) -> None:
    made = preparation(readers.Echo(say={"chapter_summary": lambda prompt: reply}))
    (rows,) = made.rows([book()])
    assert made.scribe.desk.tally.failures["chapter_summary"] == {why: 3}
    told = rows[0]["prior_plot_summary"]
    # 150 words are asked for, and half as many more are let pass.
    assert told == {
        "Ann left. Then she": "Title of b0c0x: Ann left.",
        "word " * 300: "Title of b0c0x: " + " ".join(["word"] * 225),
    }.get(reply.text, "")
