"""The table: agents, controls and reference plans on the same unseen episodes."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from envs.collaboration.cast import Cast
from envs.debate import Debate
from envs.feedback import Feedback
from envs.plans import PlanParser
from envs.sampling import Sampling
from envs.self_consistency import SelfConsistency
from envs.solo import SoloPlanner
from envs.sources.storyworld import StoryWorldSource
from envs.types import Conversation, Episode, Reply
from rewards.encode import GeneratorEncoder
from rewards.likelihood_improvement import LikelihoodImprovement
from rewards.status_rules import StatusRules
from rewards.terms.raw import Raw
from rewards.types import Likelihood, ScoreRequest
from rewards.weighted_sum import WeightedTerm
from train.analysis.rows import Evaluation, operations_of
from train.evaluation.agents import agents_table
from train.evaluation.contestants import Planner, Second, Writer
from train.evaluation.controls import shuffled_plans
from train.evaluation.evaluator import Evaluator
from train.journal import Journal
from train.progress import ProgressDisplay
from train.run import episodes_of
from train.schema import EvaluationConfig
from train.scratch import random_model, train_tokenizer
from train.tables import evaluation_table

QUIET = ProgressDisplay(Console(file=io.StringIO()))
SAMPLING = Sampling(max_new_tokens=4)
CONFIG = EvaluationConfig(bootstrap_samples=100)
SOLO = SoloPlanner()
MakeModel = Callable[..., PreTrainedModel]
RAW = [WeightedTerm("raw", Raw())]


@pytest.fixture
def episodes(make_episode: Callable[..., Episode]) -> list[Episode]:
    """Two episodes of each of three books; the plans of a book name it."""
    return [
        make_episode(
            f"{book}/{index}",
            true=f"In {book} Ann pays all that she owes.",
            inferable=f"In {book} Ann pays.",
            true_but_place=f"In {book} Ann.",
        )
        for book in ("first", "second", "third")
        for index in (1, 2)
    ]


@pytest.fixture
def evaluator(
    episodes: list[Episode], fake_scorer: Any, encoder: GeneratorEncoder
) -> Callable[..., Evaluator]:
    def make(of: Sequence[Episode] = episodes, **config: Any) -> Evaluator:
        reward = LikelihoodImprovement(fake_scorer, encoder, RAW, StatusRules())
        return Evaluator(of, reward, replace(CONFIG, **config), seed=0)

    return make


@pytest.fixture
def agents(make_model: MakeModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, Planner]:
    """Two random models that say something else at every step."""

    def planner(name: str, seed: int) -> Planner:
        varied = {"tie_word_embeddings": False, "initializer_range": 0.3}
        return Planner(name, lambda: (make_model(seed=seed, **varied), tokenizer))

    return {name: planner(name, seed) for seed, name in enumerate(("untrained", "trained"))}


def test_the_table_has_every_agent_control_and_reference(
    evaluator: Callable[..., Evaluator], agents: dict[str, Planner]
) -> None:
    evaluation = agents_table(evaluator(), SOLO, agents, SAMPLING, QUIET)
    assert [(row.name, row.decoding) for row in evaluation.rows] == [
        ("untrained", "greedy"),
        ("untrained", "sampled"),
        ("trained", "greedy"),
        ("trained", "sampled"),
        ("empty_plan", None),
        ("shuffled_plan", None),
        ("random_words", None),
        ("inferable_plan", None),
        ("true_plan", None),
    ]
    assert [row.name for row in evaluation.ablations] == ["true_but_place"]
    written = json.loads(json.dumps(evaluation.as_json(), allow_nan=False))
    assert {(row["episodes"], row["books"]) for row in written["rows"]} == {(6, 3)}
    assert written["rows"][1]["decoding"] == "sampled"
    assert "decoding" not in written["rows"][-1]


def test_operations_count_the_agent_and_a_generator_whose_size_is_known(
    evaluator: Callable[..., Evaluator], agents: dict[str, Planner]
) -> None:
    told = evaluator()
    told.generator_weights = 1_000
    found = agents_table(told, SOLO, agents, SAMPLING, QUIET).row("trained", "sampled").play
    assert found is not None
    writing, planning = (
        found[f"cost/{name}/read_tokens"] + found[f"cost/{name}/generated_tokens"]
        for name in ("generator", "policy")
    )
    weights = sum(p.numel() for p in agents["trained"].load()[0].parameters())
    expected = 2e-9 * (1_000 * writing + weights * planning)
    assert operations_of(found) == pytest.approx(expected)
    untold = agents_table(evaluator(), SOLO, agents, SAMPLING, QUIET).row("trained", "sampled").play
    assert untold is not None and operations_of(untold) is None


def test_a_collaboration_is_measured_by_its_agent_alone_with_as_many_tokens(
    evaluator: Callable[..., Evaluator], agents: dict[str, Planner]
) -> None:
    whole = PlanParser(whole_answer_without_marker=True)
    found = agents_table(evaluator(), Debate(parser=whole), agents, SAMPLING, QUIET)
    together, alone = found.row("trained", "sampled"), found.row("self_consistency")
    for play, own in zip(together.attempts, alone.attempts, strict=True):
        wanted, spent = (a.play["cost/policy/generated_tokens"] for a in (play, own))
        # At most the rest of one answer more.
        assert wanted <= spent < wanted + SAMPLING.max_new_tokens
        assert own.answer is not None and own.plan
        # The generator writes once, whatever it took to arrive at the plan.
        assert play.play["cost/generator/calls"] == own.play["cost/generator/calls"] == 1
    # What goes wrong in a play is counted in the table: four tokens are no whole answer.
    assert together.play is not None and together.play["play/failed/too_long"] > 0
    compared = {(c.first, c.second) for c in found.comparisons}
    assert ("trained sampled", "self_consistency") in compared
    itself = agents_table(evaluator(), SelfConsistency(parser=whole), agents, SAMPLING, QUIET)
    assert "self_consistency" not in [row.name for row in itself.rows]


class Says:
    """A member that answers by what it is asked."""

    def __init__(self, answer: Callable[[str], str]) -> None:
        self.answer = answer

    def reply(self, conversations: Sequence[Conversation]) -> list[Reply]:
        return [Reply(self.answer(conversation[-1].content)) for conversation in conversations]


DRAFT, REFINED, SHORT = "Ann pays Bob a ring.", "Ann pays Bob a ring at the old mill.", "Ann pays."


@pytest.fixture
def feedback() -> Feedback:
    """A draft that is refined, or spoilt in the story of a mill; who verifies is to learn."""
    refined = Says(lambda asked: f"In summary: {SHORT if 'The mill.' in asked else REFINED}")
    members = {"drafting": Says(lambda _: f"In summary: {DRAFT}"), "refining": refined}
    roles = {"drafter": "drafting", "refiner": "refining"}
    return Feedback(cast=Cast(members=members, roles=roles), rounds=1)


@pytest.fixture
def stories(make_episode: Callable[..., Episode]) -> list[Episode]:
    """Two episodes of each of three books, one of which is of a mill."""
    known = {"first": "The mill.", "second": "A ring.", "third": "A ring."}
    return [make_episode(f"{book}/{i}", known=text) for book, text in known.items() for i in (1, 2)]


def test_a_collaboration_is_measured_by_its_single_members(
    evaluator: Callable[..., Evaluator],
    agents: dict[str, Planner],
    feedback: Feedback,
    stories: list[Episode],
    encoder: GeneratorEncoder,
    fake_scorer: Any,
) -> None:
    asked_alone = evaluator(stories, members=False)
    without = agents_table(asked_alone, feedback, agents, SAMPLING, QUIET)
    before = len(fake_scorer.asked)
    assert not without.ahead and not any(r.name.startswith("alone_") for r in without.rows)
    found = agents_table(evaluator(stories), feedback, agents, SAMPLING, QUIET)

    def worth(plan: str) -> float:
        """One hundredth of a nat for each token."""
        num_tokens = len(encoder.tokenizer(f"\n\n## Plan\n{plan}")["input_ids"])
        return pytest.approx(100 * (1 - math.exp(-0.01 * num_tokens)))

    whole = found.row("trained", "greedy").improvements
    assert whole == [worth(SHORT)] * 2 + [worth(REFINED)] * 4
    # Nobody had planned before the draft. Without it the refinement stays as it was said; without
    # the verifier there would be none.
    assert found.row("alone_drafter").improvements == [worth(DRAFT)] * 6
    assert found.row("without_drafter").improvements == whole
    assert found.row("without_verifier").improvements == [worth(DRAFT)] * 6
    assert found.row("without_refiner").improvements == [worth(DRAFT)] * 6
    statuses = found.row("without_refiner").statuses
    assert statuses == {"complete": 6, "truncated": 0, "no_plan": 0}
    # Better than the draft in two books of three.
    assert list(found.ahead) == ["trained greedy"]
    assert found.ahead["trained greedy"].mean == pytest.approx(4 / 6)
    assert found.as_json()["ahead"]["trained greedy"]["ci95"] == [0.0, 1.0]
    # A draft that stands in three rows is scored once for each episode; the rest was scored before.
    assert len(fake_scorer.asked) - 2 * before == 6
    compared = {c.second for c in found.comparisons if c.first == "trained greedy"}
    assert {"without_drafter", "without_verifier", "without_refiner"} <= compared
    assert not any(name.startswith("alone_") for name in compared)
    text = io.StringIO()
    Console(file=text, width=120).print(evaluation_table(found))
    assert "trained greedy is ahead of every member alone on 67% of episodes [0, 100]." in (
        text.getvalue()
    )


def test_a_role_that_planned_nothing_is_worth_as_much_as_no_plan(
    evaluator: Callable[..., Evaluator], agents: dict[str, Planner], stories: list[Episode]
) -> None:
    # Random models never say the marker.
    found = agents_table(evaluator(stories), Debate(), agents, SAMPLING, QUIET)
    names = [row.name for row in found.rows if row.name.startswith(("alone_", "without_"))]
    assert names == [f"without_debater_{n}" for n in (1, 2, 3)] and not found.ahead
    row = found.row("without_debater_1")
    assert row.improvements == [0.0] * 6
    assert row.statuses == {"complete": 0, "truncated": 0, "no_plan": 6}


def test_single_members_come_from_the_journal_as_they_were(
    evaluator: Callable[..., Evaluator],
    agents: dict[str, Planner],
    feedback: Feedback,
    stories: list[Episode],
    fake_scorer: Any,
    tmp_path: Path,
) -> None:
    def evaluated(loaded: dict[str, Planner]) -> tuple[Evaluation, str]:
        text = io.StringIO()
        made = evaluator(stories, batch_size=4)
        made.journal = Journal(tmp_path, {})
        display = ProgressDisplay(Console(file=text, width=120))
        return agents_table(made, feedback, loaded, SAMPLING, display), text.getvalue()

    def gone() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        raise AssertionError("nothing is left to be said")

    first, shown = evaluated(agents)
    assert "score single members: done" in shown and "were taken" not in shown
    again, shown = evaluated({name: Planner(name, gone) for name in agents})
    assert again.as_json() == first.as_json()
    assert "score single members: 6 of 6 were taken from the journal" in shown


def test_agents_need_not_share_a_tokenizer(
    evaluator: Callable[..., Evaluator], make_model: MakeModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    other = train_tokenizer(["Ann owed Bob a ring and a mill, and paid neither."] * 3, 300)
    own = {"model_type": "llama", "hidden_size": 16, "intermediate_size": 16}
    heads = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    small = random_model({**own, **heads, "max_position_embeddings": 512}, other, 0)
    assert len(other) != len(tokenizer)
    agents = {
        "one": Planner("one", lambda: (make_model(), tokenizer)),
        "other": Planner("other", lambda: (small, other)),
    }
    env = SoloPlanner(parser=PlanParser(whole_answer_without_marker=True))
    rows = agents_table(evaluator(), env, agents, SAMPLING, QUIET).rows
    # What is scored is the generator's tokens of the chapter, whoever planned it.
    scored = [[len(a.with_plan.token_nll) for a in row.attempts] for row in rows]
    assert all(lengths == scored[0] for lengths in scored)
    assert all(a.plan for row in rows[:4] for a in row.attempts)


def test_a_longer_plan_gains_more_from_a_scorer_that_pays_for_length(
    evaluator: Callable[..., Evaluator], agents: dict[str, Planner], encoder: GeneratorEncoder
) -> None:
    evaluation = agents_table(evaluator(), SOLO, agents, SAMPLING, QUIET)
    spoilt = evaluation.ablations[0].improvement.mean
    inferable = evaluation.row("inferable_plan").improvement.mean
    assert 0 < spoilt < inferable < evaluation.row("true_plan").improvement.mean
    attempt = evaluation.row("true_plan").attempts[0]
    num_tokens = len(encoder.tokenizer(f"\n\n## Plan\n{attempt.plan}")["input_ids"])
    assert attempt.improvement == pytest.approx(100 * (1 - math.exp(-0.01 * num_tokens)))


def test_the_bar_moves_with_every_batch_of_answers_and_of_scores(
    evaluator: Callable[..., Evaluator], agents: dict[str, Planner], fake_scorer: Any
) -> None:
    text = io.StringIO()
    display = ProgressDisplay(Console(file=text, width=120), seconds_between_lines=0.0)
    sft = Writer("sft", lambda: fake_scorer)
    agents_table(evaluator(batch_size=4), SOLO, agents, SAMPLING, display, sft)
    shown = text.getvalue().splitlines()
    # Six episodes: four agents answer and are scored; six rows of plans, a writer and the chapters
    # without their context are scored.
    total = 6 * (2 * 4 + 6 + 1 + 1)
    # Of how long scores take nothing is known before the first of them.
    assert shown[1] == f"evaluate: 4 of {total}, untrained, greedy"
    for line, done in zip(shown[2:5], (8, 10, 12), strict=True):
        assert re.fullmatch(rf"evaluate: {done} of {total}, untrained, greedy, \d+ s left", line)
    assert shown[-4] == f"evaluate: {total} of {total}, without context, 0 s left"
    assert shown[-2] == "compare the rows ..."
    assert len(shown) == 4 + total // 3


def test_what_an_earlier_evaluation_did_is_told_and_not_done_again(
    evaluator: Callable[..., Evaluator], tmp_path: Path
) -> None:
    def shown() -> str:
        text = io.StringIO()
        made = evaluator()
        made.journal = Journal(tmp_path, {})
        agents_table(made, SOLO, {}, SAMPLING, ProgressDisplay(Console(file=text, width=120)))
        return text.getvalue()

    assert "from the journal" not in shown()
    # Six rows of plans and the chapters without their context, of six episodes each.
    assert "evaluate: 42 of 42 were taken from the journal" in shown()


def test_the_empty_plan_is_exactly_zero(
    evaluator: Callable[..., Evaluator], agents: dict[str, Planner]
) -> None:
    interval = (
        agents_table(evaluator(), SOLO, agents, SAMPLING, QUIET).row("empty_plan").improvement
    )
    assert (interval.mean, interval.ci95) == (0.0, (0.0, 0.0))


def test_a_shuffled_plan_was_made_for_another_book(
    evaluator: Callable[..., Evaluator], agents: dict[str, Planner]
) -> None:
    for attempt in (
        agents_table(evaluator(), SOLO, agents, SAMPLING, QUIET).row("shuffled_plan").attempts
    ):
        assert attempt.plan.endswith("Ann pays all that she owes.")
        assert attempt.episode.book_id not in attempt.plan


def test_in_a_single_book_a_shuffled_plan_was_made_for_another_chapter(
    make_episode: Callable[..., Episode],
) -> None:
    episodes = [make_episode(f"book/{index}") for index in range(3)]
    for seed in range(20):
        for own, other in enumerate(shuffled_plans(episodes, ["0", "1", "2"], seed)):
            assert other in {"0", "1", "2"} - {str(own)}


def test_a_book_of_many_chapters_never_lends_a_plan_to_itself(
    make_episode: Callable[..., Episode],
) -> None:
    episodes = [*(make_episode(f"long/{index}") for index in range(9)), make_episode("short/1")]
    plans = [*("long" for _ in range(9)), "short"]
    for seed in range(20):
        assert shuffled_plans(episodes, plans, seed) == [*("short" for _ in range(9)), "long"]


def test_a_single_episode_has_no_shuffled_plan(
    evaluator: Callable[..., Evaluator], agents: dict[str, Planner], episodes: list[Episode]
) -> None:
    evaluation = agents_table(evaluator(episodes[:1]), SOLO, agents, SAMPLING, QUIET)
    names = [row.name for row in evaluation.rows]
    assert names[-4:] == ["empty_plan", "random_words", "inferable_plan", "true_plan"]
    with pytest.raises(ValueError, match="one episode has no other's plan"):
        shuffled_plans(episodes[:1], ["Ann pays."], seed=0)


def test_without_agents_and_reference_plans_there_is_nothing_to_shuffle(
    evaluator: Callable[..., Evaluator], episodes: list[Episode]
) -> None:
    bare = [replace(episode, plans={}) for episode in episodes]
    evaluation = agents_table(evaluator(bare), SOLO, {}, SAMPLING, QUIET)
    assert [row.name for row in evaluation.rows] == ["empty_plan"]


def test_without_reference_plans_the_agents_plans_are_shuffled(
    evaluator: Callable[..., Evaluator], agents: dict[str, Planner], episodes: list[Episode]
) -> None:
    env = SoloPlanner(parser=PlanParser(whole_answer_without_marker=True))
    bare = [replace(episode, plans={}) for episode in episodes]
    evaluation = agents_table(evaluator(bare), env, agents, SAMPLING, QUIET)
    names = [row.name for row in evaluation.rows[-3:]]
    assert names == ["empty_plan", "shuffled_plan", "random_words"]
    assert evaluation.ablations == ()
    trained = {attempt.plan for attempt in evaluation.row("trained", "sampled").attempts}
    assert {a.plan for a in evaluation.row("shuffled_plan").attempts} <= trained


def test_how_answers_were_read_is_counted(
    evaluator: Callable[..., Evaluator], agents: dict[str, Planner]
) -> None:
    # Random models never say the marker, so nothing they say is a plan.
    row = agents_table(evaluator(), SOLO, agents, SAMPLING, QUIET).row("trained", "greedy")
    assert row.statuses == {"complete": 0, "truncated": 0, "no_plan": 6}
    assert row.as_json()["plan_status"] == row.statuses
    assert row.improvement.mean == 0.0
    whole = SoloPlanner(parser=PlanParser(whole_answer_without_marker=True))
    row = agents_table(evaluator(), whole, agents, SAMPLING, QUIET).row("trained", "greedy")
    assert row.statuses is not None and row.statuses["no_plan"] == 0
    assert row.statuses["complete"] + row.statuses["truncated"] == 6


def test_another_writer_is_compared_on_the_same_tokens_without_a_plan(
    evaluator: Callable[..., Evaluator], agents: dict[str, Planner]
) -> None:
    class Cheap:
        asked: tuple[ScoreRequest, ...] = ()

        def score(self, requests: Sequence[ScoreRequest]) -> list[Likelihood]:
            self.asked += tuple(requests)
            return [Likelihood(1.0 * n, (1.0,) * n) for n in (len(r.gold_ids) for r in requests)]

    sft = Cheap()
    made = evaluator()
    row = agents_table(made, SOLO, agents, SAMPLING, QUIET, Writer("sft", lambda: sft)).row(
        "sft_baseline"
    )
    plain = [made.reward.encoder.request(episode) for episode in made.episodes]
    assert list(sft.asked) == plain
    # The fake generator costs 2 nats less 0.01 for what closes the prompt; the other writer 1.
    cost = 2 - 0.01 * len(plain[0].guidance_ids)
    assert row.improvement.mean == pytest.approx(100 * (1 - math.exp(1 - cost)))


def test_a_chapter_that_the_generator_was_shown_in_part_is_told(
    evaluator: Callable[..., Evaluator], agents: dict[str, Planner]
) -> None:
    limited = evaluator()
    limited.reward.encoder.max_gold_tokens = 3
    evaluation = agents_table(limited, SOLO, agents, SAMPLING, QUIET)
    assert evaluation.as_json()["episodes_cut"] == {"context": 0, "gold": 6}
    text = io.StringIO()
    console = Console(file=text, width=120)
    console.print(evaluation_table(evaluation))
    printed = text.getvalue()
    assert "6 of 6 episodes: the gold was too long for the generator and was cut." in printed
    assert "max_context_tokens" not in printed


def test_one_book_has_no_interval(
    evaluator: Callable[..., Evaluator], episodes: list[Episode]
) -> None:
    row = evaluator(episodes[:2]).plans("true_plan", ["Ann pays."] * 2)
    assert row.as_json()["improvement"]["ci95"] == [None, None]


def test_only_the_first_episodes_are_played_where_there_is_a_limit(
    evaluator: Callable[..., Evaluator], episodes: list[Episode]
) -> None:
    assert evaluator(max_episodes=3).episodes == episodes[:3]


def test_a_split_without_episodes_is_refused(evaluator: Callable[..., Evaluator]) -> None:
    with pytest.raises(ValueError, match=r"evaluation\.split: there are no episodes in 'test'"):
        evaluator([])


def test_the_printed_table_has_a_line_per_row(
    evaluator: Callable[..., Evaluator], agents: dict[str, Planner]
) -> None:
    text = io.StringIO()
    console = Console(file=text, width=120)
    console.print(evaluation_table(agents_table(evaluator(), SOLO, agents, SAMPLING, QUIET)))
    printed = text.getvalue()
    for name in ("untrained", "trained", "empty plan", "shuffled plan", "true but place"):
        assert name in printed
    assert "+0.00" in printed


def test_genres_that_name_none_of_the_books_are_refused(
    evaluator: Callable[..., Evaluator], tmp_path: Path
) -> None:
    path = tmp_path / "genres.csv"
    path.write_text("book,genre\nfirst,crime\n")
    assert evaluator(genres=str(path)).genres == {"first": ["crime"]}
    path.write_text("book,genre\nFirst!,crime\n")
    with pytest.raises(ValueError, match="names none of the books that are evaluated"):
        evaluator(genres=str(path))


def test_a_whole_shelf_is_all_of_its_splits(world: StoryWorldSource) -> None:
    parts = [world.episodes(split) for split in ("train", "validation", "test")]
    assert episodes_of(world, "all") == [episode for part in parts for episode in part]
    assert episodes_of(world, "test") == parts[2]


def test_a_generator_that_needs_no_context_knows_the_book_by_heart(
    evaluator: Callable[..., Evaluator],
) -> None:
    evaluation = agents_table(evaluator(), SOLO, {}, SAMPLING, QUIET)
    # The fake generator does not look at the context: its chapters cost the same without.
    (row,) = evaluation.checks
    assert (row.name, row.improvement.mean) == ("without_context", 0.0)


def test_the_table_tells_who_is_ahead_and_what_plans_are_like(
    evaluator: Callable[..., Evaluator], agents: dict[str, Planner]
) -> None:
    env = SoloPlanner(parser=PlanParser(whole_answer_without_marker=True))
    written = agents_table(evaluator(), env, agents, SAMPLING, QUIET).as_json()
    pairs = {(c["first"], c["second"]) for c in written["comparisons"]}
    assert ("trained greedy", "untrained greedy") in pairs
    assert ("trained sampled", "random_words") in pairs
    assert not {second for _, second in pairs} & {"true_plan", "inferable_plan"}
    rows = {row["name"]: row for row in written["rows"]}
    assert {part["by"] for part in rows["trained"]["parts"]} == {"chapter", "words", "book"}
    # "In first Ann pays all that she owes."
    assert rows["true_plan"]["texts"]["words"] == 8
    assert "texts" not in rows["empty_plan"]


def test_a_second_generator_scores_the_plans_of_every_row_once(
    evaluator: Callable[..., Evaluator], encoder: GeneratorEncoder, tmp_path: Path
) -> None:
    class Twice:
        """Every gold token costs 2 nats, less two hundredths for each token between x and y."""

        def __init__(self) -> None:
            self.num_asked = 0

        def score(self, requests: Sequence[ScoreRequest]) -> list[Likelihood]:
            self.num_asked += len(requests)
            costs = [(2 - 0.02 * len(r.guidance_ids),) * len(r.gold_ids) for r in requests]
            return [Likelihood(sum(cost), cost) for cost in costs]

    other = Twice()
    judge = LikelihoodImprovement(other, encoder, (), StatusRules())
    second = Second("other", lambda: judge)
    made = evaluator()
    made.journal = Journal(tmp_path, {})
    evaluation = agents_table(made, SOLO, {}, SAMPLING, QUIET, second=second)
    found = {row.name: row.second for row in evaluation.rows}
    assert found.pop("empty_plan") is None
    assert all(found.values())
    attempt = evaluation.row("true_plan").attempts[0]
    num_tokens = len(encoder.tokenizer(f"\n\n## Plan\n{attempt.plan}")["input_ids"])
    true = evaluation.row("true_plan")
    assert true.second is not None and true.second.mean > true.improvement.mean
    assert 100 * (1 - math.exp(-0.02 * num_tokens)) == pytest.approx(true.second.mean, abs=3)
    assert true.as_json()["second_generator"]["mean"] == true.second.mean
    again = evaluator()
    again.journal = Journal(tmp_path, {})
    asked = other.num_asked
    repeated = agents_table(again, SOLO, {}, SAMPLING, QUIET, second=second)
    assert other.num_asked == asked
    assert [row.second for row in repeated.rows] == [row.second for row in evaluation.rows]
