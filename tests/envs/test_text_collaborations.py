"""Every collaboration at text level: who reads what, when it ends, what is read from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

import pytest

from envs.agents_room import PLANNING, WRITING, AgentsRoom
from envs.augment import Augment
from envs.collaboration.agreement import agreement, overlap, vote
from envs.collaboration.cast import Budget, Cast
from envs.collaboration.collaboration import Collaboration
from envs.debate import Debate
from envs.divide_and_conquer import DivideAndConquer
from envs.feedback import Feedback
from envs.layered import Layered
from envs.plans import PlanParser
from envs.prompts import Prompts, prompt_leaks
from envs.self_consistency import SelfConsistency
from envs.types import Episode, Guidance, PlanStatus, Reply, Rollout, Turn

Speaker = Callable[..., Any]
MakeEpisode = Callable[..., Episode]
# Every role is told its own name, so that a speaker can answer by it.
ROLES = (
    *("drafter", "verifier", "refiner", "debater", "debater_cooperative", "debater_competitive"),
    *("judge", "divider", "solver", "combiner", "characters", "world", "threads"),
    *("augmented_writer", "orchestrator", "reasoner", "writer", "agent", "agent_again"),
    *(*PLANNING, *WRITING),
)
PROMPTS = Prompts(tasks={role: f"You are: {role}" for role in ROLES})
WHOLE = PlanParser(whole_answer_without_marker=True)


def who(prompt: str) -> str:
    return prompt.rpartition("You are: ")[2]


def says(**texts: str) -> Callable[[str], str]:
    """What each role says; others say their name."""
    return lambda prompt: texts.get(who(prompt), f"I am {who(prompt)}.")


def play(env: Collaboration, episode: Episode, policy: Any) -> Rollout:
    (rollout,) = env.play([episode], policy)
    return rollout


def roles_of(rollout: Rollout) -> list[str]:
    return [turn.role for turn in rollout.turns]


def text_of(rollout: Rollout, role: str, which: int = -1) -> str:
    """What a role was asked."""
    asked = [turn.prompt[-1].content for turn in rollout.turns if turn.role == role]
    return asked[which]


COLLABORATIONS: list[Callable[..., Collaboration]] = [
    Feedback,
    Debate,
    DivideAndConquer,
    Augment,
    AgentsRoom,
    Layered,
    SelfConsistency,
]


@pytest.mark.parametrize("make", COLLABORATIONS)
def test_a_batch_is_played_as_its_plays_alone_and_asks_no_more_often(
    make: Callable[..., Collaboration], make_episode: MakeEpisode, speaker: Speaker
) -> None:
    env = make(prompts=PROMPTS, parser=WHOLE)
    episodes = [make_episode(f"book/{n}", known=f"Ann owes Bob {n} rings.") for n in range(3)]

    def say(prompt: str) -> str:
        return f"{who(prompt)} {prompt.count('Ann')} {prompt[20:28]}"

    together, alone = speaker(by=say), speaker(by=say)
    rollouts = env.play(episodes, together)
    assert [r.outcome for r in rollouts] == [play(env, e, alone).outcome for e in episodes]
    assert [r.episode for r in rollouts] == episodes
    assert len(together.asked) == len(alone.asked) / 3
    for rollout in rollouts:
        assert sum(cost.calls for cost in rollout.costs.values()) == len(rollout.turns)
        assert len(rollout.turns) <= sum(env.most_turns.values())


@pytest.mark.parametrize("make", COLLABORATIONS)
def test_no_prompt_of_any_role_holds_text_of_the_gold_chapter_or_hindsight(
    make: Callable[..., Collaboration], make_episode: MakeEpisode, speaker: Speaker
) -> None:
    rollout = play(make(prompts=PROMPTS, parser=WHOLE), make_episode(), speaker("A plan."))
    for turn in rollout.turns:
        assert not prompt_leaks(turn.prompt, rollout.episode, num_words=5)
        assert "Ann pays in the end" not in turn.prompt[-1].content


@pytest.mark.parametrize("make", COLLABORATIONS)
def test_where_nobody_says_anything_there_is_no_plan_and_it_is_counted(
    make: Callable[..., Collaboration], make_episode: MakeEpisode, speaker: Speaker
) -> None:
    rollout = play(make(prompts=PROMPTS, parser=WHOLE), make_episode(), speaker(""))
    assert (rollout.status, rollout.outcome) == (PlanStatus.NO_PLAN, Guidance(""))
    assert rollout.events["failed/empty"] == len(rollout.turns)


@pytest.mark.parametrize("make", COLLABORATIONS)
def test_a_budget_of_one_answer_ends_every_play_after_one(
    make: Callable[..., Collaboration], make_episode: MakeEpisode, speaker: Speaker
) -> None:
    env = make(prompts=PROMPTS, parser=WHOLE, budget=Budget(max_calls=1))
    rollout = play(env, make_episode(), speaker("A plan."))
    assert len(rollout.turns) == 1 and rollout.events["failed/budget"] > 0


def test_a_draft_is_refined_until_it_is_accepted(
    make_episode: MakeEpisode, speaker: Speaker
) -> None:
    verdicts = iter(["Whose ring?", "Accept. It is good."])

    def say(prompt: str) -> str:
        return next(verdicts) if who(prompt) == "verifier" else f"Plan by the {who(prompt)}."

    env = Feedback(prompts=PROMPTS, parser=WHOLE, rounds=5)
    rollout = play(env, make_episode(), speaker(by=say))
    assert roles_of(rollout) == ["drafter", "verifier", "refiner", "verifier"]
    assert rollout.events == {"ended/accepted": 1}
    assert rollout.outcome == Guidance("Plan by the refiner.")
    refiner = text_of(rollout, "refiner")
    assert "## Draft\nPlan by the drafter." in refiner and "## Feedback\nWhose ring?" in refiner
    assert "## Draft\nPlan by the refiner." in text_of(rollout, "verifier")


@pytest.mark.parametrize(
    ("opinion", "is_accepted"),
    [
        ("ACCEPT", True),
        ("**Accept.** It is good.", True),
        ("Acceptable in parts, but wrong.", False),
        ("ACCEPTANCE would be wrong.", False),
        ("I do not accept it.", False),
    ],
)
def test_a_draft_is_accepted_by_the_word_that_comes_first(
    opinion: str, is_accepted: bool, make_episode: MakeEpisode, speaker: Speaker
) -> None:
    env = Feedback(prompts=PROMPTS, parser=WHOLE, rounds=1)
    rollout = play(env, make_episode(), speaker(by=says(verifier=opinion)))
    assert ("refiner" not in roles_of(rollout)) is is_accepted


def test_a_verifier_who_plans_the_same_accepts(make_episode: MakeEpisode, speaker: Speaker) -> None:
    env = Feedback(prompts=PROMPTS)
    rollout = play(env, make_episode(), speaker("So. In summary: Ann pays."))
    assert roles_of(rollout) == ["drafter", "verifier"]
    assert rollout.outcome == Guidance("Ann pays.")


def test_a_refiner_who_loses_the_plan_leaves_the_draft(
    make_episode: MakeEpisode, speaker: Speaker
) -> None:
    env = Feedback(prompts=PROMPTS, rounds=1)
    rollout = play(env, make_episode(), speaker(by=says(drafter="In summary: Ann pays.")))
    assert roles_of(rollout) == ["drafter", "verifier", "refiner"]
    assert rollout.outcome == Guidance("Ann pays.")
    assert rollout.events == {"ended/rounds": 1, "failed/refinement": 1}
    # Each refinement that is lost, after one that was not as well.
    refinements = iter(["In summary: Bob pays.", "So.", "Hm."])

    def say(prompt: str) -> str:
        return next(refinements) if who(prompt) == "refiner" else f"I am {who(prompt)}."

    found = play(Feedback(prompts=PROMPTS, rounds=3), make_episode(), speaker(by=say))
    assert found.outcome == Guidance("Bob pays.")
    assert found.events == {"ended/rounds": 1, "failed/refinement": 2}


def test_a_refinement_that_was_cut_leaves_a_whole_draft_and_is_counted() -> None:
    env = Feedback(parser=WHOLE)
    draft, cut = said(("drafter", "Ann pays.", 1), ("refiner", "Bob", 3))
    cut = replace(cut, reply=Reply("Bob", truncated=True))
    assert env.read([draft, cut]) == ("Ann pays.", PlanStatus.COMPLETE)
    assert env.fallbacks([draft, cut]) == {"failed/refinement": 1}
    # Where nothing whole was there before, it is taken.
    assert env.read([cut])[0] == "Bob" and env.fallbacks([cut]) == {"failed/refinement": 0}


def test_words_tell_how_far_texts_agree() -> None:
    assert overlap("Ann pays Bob.", "ann PAYS Cid") == 2 / 4
    assert overlap("", "") == 0.0
    # 2 / 4, 1 / 5 and 1 / 5.
    assert agreement(["Ann pays Bob", "Ann pays Cid", "Ann runs far"]) == pytest.approx(0.3)
    assert vote(["Cid runs.", "Ann pays.", "Ann pays!"]) == 1
    # Nobody says the same: the one closest to the others, 1/3 + 2/4 against 1/3 and 2/4.
    assert vote(["Bob", "Ann pays Bob", "Ann pays Cid Bob"]) == 1
    assert vote(["", "Ann", ""]) == 1


def test_debaters_read_each_other_and_stop_when_they_agree(
    make_episode: MakeEpisode, speaker: Speaker
) -> None:
    first = iter(["Ann pays.", "Bob pays.", "Ann pays."])

    def say(prompt: str) -> str:
        return next(first) if who(prompt) == "debater" else "Ann pays."

    rollout = play(Debate(prompts=PROMPTS, parser=WHOLE, rounds=4), make_episode(), speaker(by=say))
    assert [turn.round for turn in rollout.turns] == [1, 1, 1, 2, 2, 2]
    assert rollout.events == {"ended/agreement": 1}
    assert "## Plan of debater 2\nBob pays." in text_of(rollout, "debater_1")
    assert "Plan of debater 1" not in text_of(rollout, "debater_1")
    assert who(text_of(rollout, "debater_3")) == "debater_cooperative"


def test_a_debate_that_comes_no_closer_ends_and_a_vote_decides(
    make_episode: MakeEpisode, speaker: Speaker
) -> None:
    # Each holds on to what it has: the others' plans are in its prompt, its own is not.
    def say(prompt: str) -> str:
        if who(prompt) == "debater":
            return next(first)
        return "Bob pays." if "Bob pays." not in prompt else "Ann pays."

    first = iter(["Ann pays.", "Bob pays.", "Ann pays."])
    env = Debate(prompts=PROMPTS, parser=WHOLE, rounds=9, manner="competitive")
    rollout = play(env, make_episode(), speaker(by=say))
    assert len(rollout.turns) == 6 and rollout.events == {"ended/no_gain": 1}
    assert rollout.outcome == Guidance("Ann pays.")
    assert who(text_of(rollout, "debater_1")) == "debater_competitive"


def test_a_debate_that_comes_closer_and_never_agrees_ends_after_its_rounds(
    make_episode: MakeEpisode, speaker: Speaker
) -> None:
    # 0 of 8 words are the same, then 1 of 7, then 2 of 6; there would be a fourth round.
    plans = iter(["a b c d", "e f g h", "a b c x", "a f g y", "a b c x", "a b g y", "a", "a"])
    env = Debate(prompts=PROMPTS, parser=WHOLE, debaters=2, rounds=3)
    rollout = play(env, make_episode(), speaker(by=lambda _: next(plans)))
    assert len(rollout.turns) == 6 and rollout.events == {"ended/rounds": 1}
    assert rollout.outcome == Guidance("a b c x")


def test_a_judge_decides_and_one_who_cannot_leaves_it_to_the_vote(
    make_episode: MakeEpisode, speaker: Speaker
) -> None:
    env = Debate(prompts=PROMPTS, rounds=1, decided_by="judge")
    debaters = {"debater": "In summary: Ann pays."}
    judged = play(env, make_episode(), speaker(by=says(**debaters, judge="In summary: Cid runs.")))
    assert judged.outcome == Guidance("Cid runs.")
    assert text_of(judged, "judge").count("## Plan of debater") == 3
    mute = play(env, make_episode(), speaker(by=says(**debaters, judge="Hm.")))
    assert mute.outcome == Guidance("Ann pays.")
    assert mute.events == {"ended/agreement": 1, "failed/judge": 1}


def test_debaters_without_a_plan_have_no_vote_and_are_counted_where_there_is_one(
    make_episode: MakeEpisode, speaker: Speaker
) -> None:
    env = Debate(prompts=PROMPTS, rounds=1, decided_by="judge")
    plans = {"judge": "Hm."}

    def say(prompt: str) -> str:
        return plans["judge"] if who(prompt) == "judge" else next(debaters)

    debaters = iter(["In summary: Ann pays.", "Hm.", "So."] * 2)
    rollout = play(env, make_episode(), speaker(by=say))
    assert rollout.outcome == Guidance("Ann pays.")
    assert rollout.events == {"ended/rounds": 1, "failed/judge": 1, "failed/vote": 2}
    plans["judge"] = "In summary: Cid runs."
    assert play(env, make_episode(), speaker(by=say)).events == {"ended/rounds": 1}


def test_a_last_round_that_brings_nobody_closer_has_saved_none(
    make_episode: MakeEpisode, speaker: Speaker
) -> None:
    plans = iter(["Ann pays.", "Bob runs.", "Ann pays.", "Bob runs."])
    env = Debate(prompts=PROMPTS, parser=WHOLE, debaters=2, rounds=2)
    rollout = play(env, make_episode(), speaker(by=lambda _: next(plans)))
    assert len(rollout.turns) == 4 and rollout.events == {"ended/rounds": 1}


def test_solvers_hear_their_own_question_alone_and_the_combiner_all_answers(
    make_episode: MakeEpisode, speaker: Speaker
) -> None:
    env = DivideAndConquer(prompts=PROMPTS, parser=WHOLE, questions=("Who?", "Where?"))
    rollout = play(env, make_episode(), speaker(by=says(solver="Ann.", combiner="Ann pays.")))
    assert roles_of(rollout) == ["solver_1", "solver_2", "combiner"]
    assert "## Question\nWho?" in text_of(rollout, "solver_1")
    assert "Where?" not in text_of(rollout, "solver_1")
    assert "## Who?\nAnn.\n\n## Where?\nAnn." in text_of(rollout, "combiner")
    assert (rollout.outcome, rollout.events) == (Guidance("Ann pays."), {})


def test_a_combiner_without_a_plan_is_counted_and_a_solvers_is_taken(
    make_episode: MakeEpisode, speaker: Speaker
) -> None:
    env = DivideAndConquer(prompts=PROMPTS)
    mute = says(solver="In summary: Ann pays.", combiner="Hm.")
    rollout = play(env, make_episode(), speaker(by=mute))
    assert rollout.outcome == Guidance("Ann pays.")
    assert rollout.events == {"failed/combination": 1}


def test_a_divider_asks_at_most_as_many_questions_as_there_are_solvers(
    make_episode: MakeEpisode, speaker: Speaker
) -> None:
    env = DivideAndConquer(
        prompts=PROMPTS, parser=WHOLE, questions=("Who?", "Where?"), divides=True
    )
    listed = says(divider="Well:\n1. When?\n2) Why?\n- How?", combiner="Ann pays.")
    rollout = play(env, make_episode(), speaker(by=listed))
    assert roles_of(rollout) == ["divider", "solver_1", "solver_2", "combiner"]
    assert "## Question\nWhy?" in text_of(rollout, "solver_2")
    unlisted = play(env, make_episode(), speaker(by=says(divider="I would not know.")))
    assert unlisted.events == {"failed/division": 1}
    assert "## Question\nWhere?" in text_of(unlisted, "solver_2")


def test_the_writer_reads_what_specialists_wrote_and_the_generator_may(
    make_episode: MakeEpisode, speaker: Speaker
) -> None:
    policy = speaker(by=says(augmented_writer="Ann pays."))
    rollout = play(Augment(prompts=PROMPTS, parser=WHOLE), make_episode(), policy)
    assert "## Threads\nI am threads." in text_of(rollout, "writer")
    assert "I am" not in text_of(rollout, "threads")
    assert rollout.outcome == Guidance("Ann pays.")
    env = Augment(prompts=PROMPTS, parser=WHOLE, specialists=("world",), guidance="all")
    assert play(env, make_episode(), policy).outcome == Guidance("I am world.\n\nAnn pays.")


@pytest.mark.parametrize(
    ("variant", "reasons", "agents"),
    [
        ("plan", False, PLANNING),
        ("write", False, WRITING),
        ("plan_write", False, (*PLANNING, *WRITING)),
        ("plan_write", True, (*PLANNING, "reasoner", *WRITING)),
        ("end_to_end", False, ("writer",)),
    ],
)
def test_the_orchestrator_calls_the_agents_of_a_variant_in_the_published_order(
    variant: Any,
    reasons: bool,
    agents: tuple[str, ...],
    make_episode: MakeEpisode,
    speaker: Speaker,
) -> None:
    env = AgentsRoom(
        prompts=PROMPTS, parser=WHOLE, variant=variant, reasons=reasons, guidance="scratchpad"
    )
    rollout = play(env, make_episode(), speaker(by=says()))
    assert tuple(roles_of(rollout)) == agents
    # Each reads all that was written before it.
    for number, turn in enumerate(rollout.turns):
        asked = turn.prompt[-1].content
        assert [f"I am {agent}." in asked for agent in agents] == [
            place < number for place in range(len(agents))
        ]
    assert rollout.outcome.plan.count("I am") == len(agents)


def test_the_generator_reads_the_reasoners_plan(
    make_episode: MakeEpisode, speaker: Speaker
) -> None:
    env = AgentsRoom(prompts=PROMPTS, parser=WHOLE)
    rollout = play(env, make_episode(), speaker(by=says(reasoner="Ann pays.")))
    assert rollout.outcome == Guidance("Ann pays.")
    assert "## Conflict\nI am conflict." in text_of(rollout, "reasoner")


def test_a_learned_orchestrator_picks_stops_and_where_it_fails_the_next_is_called(
    make_episode: MakeEpisode, speaker: Speaker
) -> None:
    choices = iter(["stop", "**Plot** is next.", "The setting, or stop?", "We stop."])

    def say(prompt: str) -> str:
        return next(choices) if who(prompt) == "orchestrator" else f"I am {who(prompt)}."

    env = AgentsRoom(
        prompts=PROMPTS,
        parser=WHOLE,
        reasons=False,
        orchestrator="learned",
        guidance="scratchpad",
    )
    rollout = play(env, make_episode(), speaker(by=say))
    # With an empty scratchpad it cannot stop: the first agent is called.
    agents = [role for role in roles_of(rollout) if role != "orchestrator"]
    assert agents == ["conflict", "plot", "character"]
    assert rollout.events == {"failed/choice": 2, "ended/stopped": 1}
    assert "## Agents left\nCharacter, Setting" not in text_of(rollout, "orchestrator")
    assert "## Agents left\nSetting" in text_of(rollout, "orchestrator")


@pytest.mark.parametrize(
    ("said", "called"),
    [
        ("rising_action", "rising_action"),
        ("The Rising action comes next.", "rising_action"),
        ("Unstoppable tension: the climax", "climax"),
        ("It should exploit every subplot in the climax.", "climax"),
        # Which of them is meant is not to be guessed; the first that is left is called.
        ("Not the climax yet: the resolution", "exposition"),
        ("Do not stop before the climax.", "exposition"),
        ("Anybody", "exposition"),
    ],
)
def test_an_orchestrator_calls_the_one_agent_that_it_names_in_whole_words(
    said: str, called: str, make_episode: MakeEpisode, speaker: Speaker
) -> None:
    env = AgentsRoom(
        prompts=PROMPTS,
        parser=WHOLE,
        variant="write",
        reasons=False,
        orchestrator="learned",
        guidance="scratchpad",
    )
    rollout = play(env, make_episode(), speaker(by=says(orchestrator=said)))
    agents = [role for role in roles_of(rollout) if role != "orchestrator"]
    assert agents[0] == called
    assert ("failed/choice" in rollout.events) is (called == "exposition" or len(agents) > 1)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"variant": "write", "reasons": False}, r"env.guidance: plan is the reasoner's"),
        ({"variant": "plan_write"}, r"writing agents of env.variant=plan_write .*=scratchpad"),
        (
            {"variant": "end_to_end", "guidance": "scratchpad", "orchestrator": "learned"},
            r"env.orchestrator: learned has nothing to choose",
        ),
        ({"cast": Cast(trained=("judge",))}, r"env.cast.trained: there is no role 'judge'"),
    ],
)
def test_a_room_that_cannot_work_is_refused(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        AgentsRoom(**fields)


def test_a_long_answer_is_cut_before_others_read_it(
    make_episode: MakeEpisode, speaker: Speaker
) -> None:
    env = Feedback(prompts=PROMPTS, parser=WHOLE, max_note_words=3)
    rollout = play(env, make_episode(), speaker(by=says(drafter="one two three four five")))
    assert "## Draft\none two three\n" in text_of(rollout, "verifier", 0)
    assert rollout.turns[0].reply == Reply("one two three four five")


@pytest.mark.parametrize(
    ("make", "num_cut"),
    [
        # Each answer once, whoever reads it how often; the last of all is read by nobody.
        (partial(AgentsRoom, guidance="scratchpad"), 4),
        (partial(Augment, guidance="all"), 3),
        (DivideAndConquer, 3),
        (partial(Debate, rounds=2, decided_by="judge"), 6),
        (partial(Layered, layers=2), 3),
        (partial(Feedback, rounds=1), 2),
        (SelfConsistency, 0),
    ],
)
def test_answers_of_which_others_saw_the_beginning_are_counted_once_each(
    make: Callable[..., Collaboration],
    num_cut: int,
    make_episode: MakeEpisode,
    speaker: Speaker,
) -> None:
    numbers = count()
    policy = speaker(by=lambda _: f"{next(numbers)} a b c d")
    env = make(prompts=PROMPTS, parser=WHOLE, max_note_words=3)
    rollout = play(env, make_episode(), policy)
    assert rollout.events.get("failed/note_cut", 0) == num_cut
    assert all(" c d" not in turn.prompt[-1].content for turn in rollout.turns)
    # The generator reads what was said to its end.
    assert isinstance(rollout.outcome, Guidance) and rollout.outcome.plan.endswith("a b c d")
    longer = make(prompts=PROMPTS, parser=WHOLE, max_note_words=5)
    assert "failed/note_cut" not in play(longer, make_episode(), policy).events


def test_the_generator_reads_whole_what_agents_were_shown_the_beginning_of(
    make_episode: MakeEpisode, speaker: Speaker
) -> None:
    long = "one two three four five"
    env = Augment(
        prompts=PROMPTS, parser=WHOLE, specialists=("world",), guidance="all", max_note_words=3
    )
    policy = speaker(by=says(world=long, augmented_writer=f"{long} six"))
    assert play(env, make_episode(), policy).outcome == Guidance(f"{long}\n\n{long} six")
    room = AgentsRoom(
        prompts=PROMPTS, parser=WHOLE, variant="end_to_end", guidance="scratchpad", max_note_words=3
    )
    assert play(room, make_episode(), speaker(long)).outcome == Guidance(f"Writer: {long}")


def test_questions_are_shown_whole(make_episode: MakeEpisode, speaker: Speaker) -> None:
    asked = "Which of the open threads comes due now?"
    env = DivideAndConquer(prompts=PROMPTS, questions=(asked,), max_note_words=3)
    assert f"## Question\n{asked}\n" in text_of(
        play(env, make_episode(), speaker("Ann.")), "solver_1"
    )


def test_a_reasoner_without_a_plan_is_counted_where_all_that_it_said_stands_in(
    make_episode: MakeEpisode, speaker: Speaker
) -> None:
    room = AgentsRoom(prompts=PROMPTS, guidance="scratchpad")
    rollout = play(room, make_episode(), speaker(by=says(reasoner="Hm.")))
    assert isinstance(rollout.outcome, Guidance)
    assert rollout.outcome.plan.endswith("Reasoner: Hm.")
    assert (rollout.status, rollout.events) == (PlanStatus.COMPLETE, {"failed/reasoning": 1})
    # Of the reasoner's plan alone, its status tells.
    alone = play(replace(room, guidance="plan"), make_episode(), speaker(by=says(reasoner="Hm.")))
    assert (alone.status, alone.events) == (PlanStatus.NO_PLAN, {})


def test_a_turn_says_which_others_it_did_not_hear(
    make_episode: MakeEpisode, speaker: Speaker
) -> None:
    rollout = play(Augment(prompts=PROMPTS, parser=WHOLE), make_episode(), speaker(by=says()))
    turns: tuple[Turn, ...] = rollout.turns
    assert [turn.round for turn in turns] == [1, 1, 1, 2]


def said(*turns: tuple[str, str, int]) -> tuple[Turn, ...]:
    """A transcript of roles, what they said, and in which round."""
    return tuple(Turn(role, "policy", (), Reply(text), round=n) for role, text, n in turns)


def test_what_roles_planned_alone_are_the_plans_of_the_first_round_with_any() -> None:
    debate = Debate(rounds=2)
    first = [("debater_1", "In summary: Ann.", 1), ("debater_2", "Hm.", 1)]
    turns = said(*first, ("debater_1", "In summary: Bob.", 2), ("debater_2", "In summary: Cid.", 2))
    # The second debater's plan was made by one who had read that of the first.
    assert debate.alone(turns) == {"debater_1": ("Ann.", PlanStatus.COMPLETE)}
    feedback = Feedback()
    asked = [("drafter", "Hm.", 1), ("verifier", "Which ring?", 2)]
    turns = said(*asked, ("refiner", "In summary: Ann.", 3))
    assert feedback.alone(turns) == {"refiner": ("Ann.", PlanStatus.COMPLETE)}
    assert feedback.alone(said(*asked)) == {}


def test_a_play_is_read_without_all_that_a_role_said() -> None:
    turns = said(
        ("drafter", "draft", 1),
        ("verifier", "Which ring?", 2),
        ("refiner", "better", 3),
        ("verifier", "Whose ring?", 4),
        ("refiner", "best", 5),
    )
    env = Feedback(parser=WHOLE)
    # Without either verdict there is no refinement; without the draft, the last of them stays.
    assert {role: env.without_role(turns, role)[0] for role in env.most_turns} == {
        "drafter": "best",
        "verifier": "draft",
        "refiner": "draft",
    }
    assert env.read(env.without(turns, [3]))[0] == "better"
    assert env.without_role(turns[:1], "drafter") == ("", PlanStatus.NO_PLAN)
    assert env.without_role(turns[:1], "refiner") == env.read(turns[:1])
    debate = Debate(parser=WHOLE, rounds=1)
    voices = said(*((f"debater_{n}", text, 1) for n, text in ((1, "a"), (2, "b"), (3, "b"))))
    # Of one voice each, the first is taken.
    assert [debate.without_role(voices, name)[0] for name in debate.most_turns] == ["b", "a", "a"]
