"""A judge agent: asked in both orders, read strictly, and nothing it says is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from envs.sampling import Sampling
from envs.types import Conversation, Episode, Reply
from rewards.types import Likelihood
from train.analysis.rows import Attempt, Evaluation, Row
from train.judging.agents import JudgeConfig, judge
from train.judging.comparisons import Comparison, read_comparisons, write_comparisons
from train.judging.judge import ask_judge, prompts, read_reply
from train.judging.judgments import DIMENSIONS, OVERALL, TIE, UNANSWERED, cast_votes
from train.judging.position import position_bias
from train.judging.wording import JudgeWording
from train.models import save_model
from train.progress import ProgressDisplay
from train.schema import ModelConfig
from train.statistics import Interval

COMPARISONS = [
    Comparison("book/1", "Ann owes Bob.", ("dull", "new"), ("She paid.", "She sang."), (0.0, 2.0)),
    Comparison("book/2", "Bob left.", ("dull", "new"), ("He went.", "He sang."), None),
]


def verdict(answer: str) -> str:
    return "\n".join(("VERDICT", *(f"{dimension}: {answer}" for dimension in DIMENSIONS)))


class ListeningJudge:
    """Prefers the text that sings, wherever it stands."""

    def reply(self, conversations: Sequence[Conversation]) -> list[Reply]:
        return [
            Reply(verdict("A" if "sang" in c[-1].content.partition("by B")[0] else "B"))
            for c in conversations
        ]


class ScriptedJudge:
    """Says what it was told to say, in that order."""

    def __init__(self, *replies: str) -> None:
        self.replies = replies

    def reply(self, conversations: Sequence[Conversation]) -> list[Reply]:
        assert len(conversations) == len(self.replies)
        return [Reply(text) for text in self.replies]


def test_both_orders_are_asked_and_answers_follow_the_text() -> None:
    judgments = ask_judge(ListeningJudge(), COMPARISONS, "listener", JudgeWording())
    assert [(j.item, j.first) for j in judgments] == [
        ("book/1", "dull"),
        ("book/1", "new"),
        ("book/2", "dull"),
        ("book/2", "new"),
    ]
    assert all(set(j.answers.values()) == {"new"} for j in judgments)
    assert {j.annotator for j in judgments} == {"listener"}
    assert judgments[0].improvements == (0.0, 2.0)
    bias = position_bias(judgments, OVERALL)
    assert (bias.first_won, bias.second_won, bias.in_both_orders["same_option"]) == (2, 2, 2)


def test_a_judge_that_always_says_a_prefers_nobody() -> None:
    agent = ScriptedJudge(*[verdict("A")] * 4)
    judgments = ask_judge(agent, COMPARISONS, "judge", JudgeWording())
    bias = position_bias(judgments, OVERALL)
    assert (bias.first_won, bias.second_won, bias.in_both_orders["first_text"]) == (4, 0, 2)
    assert {vote.winner for vote in cast_votes(judgments, OVERALL)} == {TIE}


def test_a_refusal_is_a_judgment_without_an_answer() -> None:
    agent = ScriptedJudge(verdict("A"), "REFUSE", verdict("B"), verdict("A"))
    judgments = ask_judge(agent, COMPARISONS, "judge", JudgeWording())
    assert [j.answers["plot"] for j in judgments] == ["dull", "refused", "new", "new"]
    assert [v.winner for v in cast_votes(judgments, OVERALL)] == [None, "new"]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (verdict("A"), "A"),
        (verdict("same"), "same"),
        ("Both are good, and plot: B might win.\n\n" + verdict("B"), "B"),
        (verdict("A") + "\nOn second thoughts:\n" + verdict("B"), "B"),
        (verdict("A") + "\nplot: B", "unclear"),
        (verdict("A") + "\nplot: neither", "unclear"),
        (verdict("neither"), "unclear"),
        (verdict("A or B"), "unclear"),
        (verdict("a"), "unclear"),
        (verdict("A").removeprefix("VERDICT\n"), "unclear"),
        ("Both are fine.", "unclear"),
        ("", "unclear"),
        ("VERDICT\nREFUSE", "refused"),
        ("REFUSE", "refused"),
        ("I'm sorry, but I cannot compare these.", "refused"),
        ("I can’t help with that.", "refused"),
        ("I can say that A is better.", "unclear"),
    ],
)
def test_a_reply_is_read_strictly(text: str, answer: str) -> None:
    assert read_reply(Reply(text))["plot"] == answer


def test_one_bad_line_spoils_one_dimension() -> None:
    found = read_reply(Reply(verdict("A").replace("language: A", "language: both")))
    assert {dimension for dimension, answer in found.items() if answer != "A"} == {"language"}


def test_a_reply_that_was_cut_is_unclear() -> None:
    cut = read_reply(Reply(verdict("A"), truncated=True))
    assert set(cut.values()) == {"unclear"}


def test_the_prompts_differ_in_the_order_of_the_texts_alone() -> None:
    (_, one), (_, other) = list(prompts(COMPARISONS[:1], JudgeWording()))
    swapped = one[-1].content.replace("She paid.", "~").replace("She sang.", "She paid.")
    assert swapped.replace("~", "She sang.") == other[-1].content
    # Whoever wrote a text is named nowhere.
    assert "dull" not in one[-1].content
    assert all(f"\n{dimension}: " in one[-1].content for dimension in DIMENSIONS)


def test_a_random_model_can_judge_and_everything_it_says_is_counted(
    make_model: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    tmp_path: Path,
) -> None:
    model = make_model(max_position_embeddings=2048)
    save_model(model, tokenizer, tmp_path)
    config = JudgeConfig(
        ModelConfig(path=str(tmp_path)), "tiny", Sampling(max_new_tokens=8, temperature=0.0)
    )
    judgments = judge(config, COMPARISONS, 0, ProgressDisplay())
    assert [j.first for j in judgments] == ["dull", "new"] * 2
    # It has learned nothing, so it never finds the form; no answer is lost and none is made up.
    assert all(set(j.answers.values()) <= set(UNANSWERED) for j in judgments)


def test_a_prompt_that_is_too_long_is_refused_and_not_cut(
    make_model: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    tmp_path: Path,
) -> None:
    save_model(make_model(max_position_embeddings=64), tokenizer, tmp_path)
    config = JudgeConfig(ModelConfig(path=str(tmp_path)))
    with pytest.raises(ValueError, match=r"judge\.model\.path: .* reads 64 tokens, and item"):
        judge(config, COMPARISONS, 0, ProgressDisplay())


@dataclass(frozen=True)
class Reader:
    """Prefers the first text, leaves a line for each question, and has no answer about Bob."""

    log: str

    def reply(self, conversations: Sequence[Conversation]) -> list[Reply]:
        with Path(self.log).open("a") as file:
            file.writelines("asked\n" for _ in conversations)
        return [
            Reply("", failure="slow") if "Bob left" in c[-1].content else Reply(verdict("A"))
            for c in conversations
        ]


def test_any_agent_can_judge_and_is_paid_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    agent = {"_target_": f"{__name__}.Reader", "log": str(log)}
    config = JudgeConfig(agent=agent, cache_dir=str(tmp_path), batch_size=3)
    first = judge(config, COMPARISONS, 0, ProgressDisplay())
    assert [set(j.answers.values()) for j in first] == [{"dull"}, {"new"}, {""}, {""}]
    assert len(log.read_text().splitlines()) == 4
    # The two that had no answer are asked again, and the others are not.
    assert judge(config, COMPARISONS, 0, ProgressDisplay()) == first
    assert len(log.read_text().splitlines()) == 6


def test_two_judges_at_once_are_refused(tmp_path: Path) -> None:
    both = JudgeConfig(ModelConfig("folder"), {"_target_": f"{__name__}.Reader", "log": "log"})
    with pytest.raises(ValueError, match="leave out one of them"):
        judge(both, COMPARISONS, 0, ProgressDisplay())
    none = JudgeConfig(agent={"_target_": "pathlib.Path"}, cache_dir=str(tmp_path))
    with pytest.raises(ValueError, match="makes no agent"):
        judge(none, COMPARISONS, 0, ProgressDisplay())


def test_without_a_model_there_is_no_judge() -> None:
    with pytest.raises(ValueError, match=r"judge\.model\.path: names no judge"):
        judge(JudgeConfig(), COMPARISONS, 0, ProgressDisplay())


def test_what_a_run_wrote_can_be_judged_as_it_lies_there(
    make_episode: Callable[..., Episode], tmp_path: Path
) -> None:
    episodes = [make_episode("book/1", known="Ann owes."), make_episode("book/2")]
    nothing = Likelihood(0.0, ())

    def row(name: str, decoding: str | None, gain: float, *chapters: str | None) -> Row:
        pairs = zip(episodes, chapters, strict=True)
        attempts = tuple(Attempt(e, "", gain, nothing, nothing, chapter=c) for e, c in pairs)
        return Row(name, decoding, Interval(gain, (gain, gain)), attempts)

    rows = (
        row("trained", "greedy", 2.0, "She paid.", None),
        row("trained", "sampled", 1.0, None, None),
        row("empty_plan", None, 0.0, " ", "Alone."),
    )
    write_comparisons(Evaluation(rows, ()), tmp_path)
    # With one chapter alone there is nothing to compare.
    (found,) = read_comparisons(tmp_path)
    assert (found.item, found.options) == ("book/1", ("empty_plan", "trained greedy"))
    assert found.texts == ("(Nothing was written.)", "She paid.")
    assert found.improvements == (0.0, 2.0)
    assert "Ann owes." in found.context
    write_comparisons(Evaluation(rows[:1], ()), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_every_pair_of_options_is_compared(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    entry = {
        "item": "book/1",
        "context": "Ann owes Bob.",
        "options": {"new": "She paid.", "old": "She left.", "gold": "She sang."},
        "improvements": {"new": 1.5, "old": 0},
    }
    path.write_text(json.dumps(entry) + "\n\n")
    found = read_comparisons(path)
    assert [c.options for c in found] == [("gold", "new"), ("gold", "old"), ("new", "old")]
    assert [c.improvements for c in found] == [None, None, (1.5, 0.0)]
    assert found[2].texts == ("She paid.", "She left.")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "holds no comparisons"),
        ("{", "line 1: "),
        ("[]", "line 1: "),
        ('{"item": "1", "context": "", "options": {"a": "x"}}', "options"),
        ('{"item": "1", "context": "", "options": {"a": "x", "b": ""}}', "options.b"),
        (
            '{"item": "1", "context": "", "options": {"a,c": "x", "b": "y"}}',
            "cannot name an option",
        ),
        (
            '{"item": "1", "context": "", "options": {"same": "x", "b": "y"}}',
            "cannot name an option",
        ),
        ('{"context": "", "options": {"a": "x", "b": "y"}}', "item"),
        (
            '{"item": "1", "context": "", "options": {"a": "x", "b": "y"}}\n'
            '{"item": "1", "context": "", "options": {"a": "x", "c": "y"}}',
            "line 2: item '1' stands above already",
        ),
    ],
)
def test_texts_that_cannot_be_compared_are_refused(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(ValueError) as refused:
        read_comparisons(path)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
