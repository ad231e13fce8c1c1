"""What agents read: the plan section alone tells two prompts apart, and none holds the chapter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from envs.prompts import PLAN_SLOT, Prompts, gold_text, prompt_leaks
from envs.sources.storyworld import StoryWorldSource
from envs.types import Chapter, Conversation, Episode, Message, Section, StoryContext

PROMPTS = Prompts(system="You write.", plan_task="Plan it.", write_task="Write it.")


def test_a_prompt_is_laid_out_from_the_wording_alone(make_episode: Callable[..., Episode]) -> None:
    context = make_episode().context
    system = Message("system", "You write.")
    known = "## So far\nAnn owes Bob a ring."
    assert PROMPTS.ask_for_plan(context) == (system, Message("user", f"{known}\n\nPlan it."))
    assert PROMPTS.ask_for_chapter(context) == (
        system,
        Message("user", f"Write it.\n\n{known}{PLAN_SLOT}"),
    )


def test_empty_wording_leaves_its_part_out(make_episode: Callable[..., Episode]) -> None:
    prompts = Prompts(plan_task="", write_task="")
    known = "## So far\nAnn owes Bob a ring."
    assert prompts.ask_for_plan(make_episode().context) == (Message("user", known),)
    assert prompts.ask_for_chapter(make_episode().context) == (Message("user", known + PLAN_SLOT),)


def test_an_empty_plan_fills_the_slot_with_nothing() -> None:
    assert Prompts().plan_section("") == ""
    assert Prompts().plan_section("She pays.") == "\n\n## Plan\nShe pays."


def test_sections_made_in_hindsight_are_shown_only_where_asked_for(
    make_episode: Callable[..., Episode],
) -> None:
    context = make_episode().context
    assert "pays" not in PROMPTS.render(context)
    assert PROMPTS.render(context) == PROMPTS.render(context.known_before())
    shown = replace(PROMPTS, include_hindsight=True).render(context)
    assert shown == "## So far\nAnn owes Bob a ring.\n\n## Synopsis\nAnn pays in the end."


def test_the_gold_text_is_the_heading_and_the_prose() -> None:
    assert gold_text(Chapter("Chapter two", "Ann paid.")) == "Chapter two\n\nAnn paid."
    assert gold_text(Chapter("", "Ann paid.")) == "Ann paid."


def test_no_prompt_of_a_run_contains_text_of_its_chapter(world: StoryWorldSource) -> None:
    scanned = 0
    for episode, conversation in all_prompts(world):
        assert prompt_leaks(conversation, episode) == [], episode.episode_id
        scanned += 1
    # 5 episodes a book; two prompts and five plans each, and the writing and demonstration books.
    assert scanned == 5 * (4 + 2 + 3) * (2 + len(world.episodes("test")[0].plans)) + 5 * (6 + 4)


def test_the_scan_finds_a_leak(make_episode: Callable[..., Episode]) -> None:
    episode = make_episode()
    leak = "went to the mill and"
    planted = (Message("system", f"Ann {leak} paid."), Message("user", "What next?"))
    assert prompt_leaks(planted, episode, num_words=5) == [
        "Ann went to the mill",
        leak,
    ]
    section = Section("Notes", f"So she {leak} sat down.", hindsight=True)
    told = replace(episode, context=StoryContext((*episode.context.sections, section)))
    ask = Prompts(include_hindsight=True).ask_for_plan(told.context)
    assert prompt_leaks(ask, told, num_words=5) == [leak]
    assert prompt_leaks(Prompts().ask_for_plan(told.context), told, num_words=5) == []


def all_prompts(world: StoryWorldSource) -> Iterator[tuple[Episode, Conversation]]:
    """Every conversation of a run: the policy's, the generator's with each plan, the training's."""
    prompts = Prompts()
    for split in ("train", "validation", "test"):
        for episode in world.episodes(split):
            yield episode, prompts.ask_for_plan(episode.context)
            for plan in ("", *episode.plans.values()):
                yield episode, _with_plan(prompts, episode, plan)
    for episode, plan in world.writing_samples():
        yield episode, _with_plan(prompts, episode, plan)
    for episode, answer in world.demonstrations(prompts.plan_marker):
        asked = prompts.ask_for_plan(episode.context)
        yield episode, (*asked, Message("assistant", answer))


def _with_plan(prompts: Prompts, episode: Episode, plan: str) -> Conversation:
    (message,) = prompts.ask_for_chapter(episode.context)
    return (Message("user", message.content.replace(PLAN_SLOT, prompts.plan_section(plan))),)
