"""Writing a chapter: which one is meant, what the generator reads, what the reader is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from omegaconf import DictConfig
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from envs.sampling import Sampling
from envs.types import Episode, Guidance, PlanStatus, Reply, Rollout, Turn, Usage
from rewards.encode import GeneratorEncoder
from train.commands import write
from train.config.validate import check
from train.writing import Written, find_episode, write_chapter

MakeEpisode = Callable[..., Episode]


def test_a_book_is_meant_by_its_id_or_by_a_part_that_no_other_has(
    make_episode: MakeEpisode,
) -> None:
    episodes = [make_episode(id_) for id_ in ("emma/1", "emma/2", "emma-abridged/1")]
    assert find_episode(episodes, "emma", 2) is episodes[1]
    assert find_episode(episodes, "abridged", 1) is episodes[2]


@pytest.mark.parametrize(
    ("book", "chapter", "complaint"),
    [
        ("em", 1, r"book: 'em': several books are meant; name one of emma, emma-abridged"),
        ("persuasion", 1, r"book: 'persuasion': there is no such book; name one of emma"),
        ("emma", 9, r"chapter: emma has no chapter 9 to write; it has 1, 2"),
    ],
)
def test_a_chapter_that_is_not_there_is_refused(
    make_episode: MakeEpisode, book: str, chapter: int, complaint: str
) -> None:
    episodes = [make_episode(id_) for id_ in ("emma/1", "emma/2", "emma-abridged/1")]
    with pytest.raises(ValueError, match=complaint):
        find_episode(episodes, book, chapter)


def test_the_generator_writes_behind_the_plan_and_within_its_window(
    make_model: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    encoder: GeneratorEncoder,
    make_episode: MakeEpisode,
) -> None:
    model, episode = make_model(initializer_range=0.3, tie_word_embeddings=False), make_episode()
    how = Sampling(max_new_tokens=500, temperature=0.0)
    with_plan, without = (
        write_chapter(model, tokenizer, encoder.request(episode, plan), how, seed=0)
        for plan in ("Ann runs away.", "")
    )
    assert with_plan and with_plan != without
    request = encoder.request(episode, "Ann runs away.")
    used = len(request.prefix_ids) + len(request.guidance_ids)
    narrow = make_model(
        initializer_range=0.3, tie_word_embeddings=False, max_position_embeddings=used + 3
    )
    written = write_chapter(narrow, tokenizer, request, how, seed=0)
    assert with_plan.startswith(written)
    assert 0 < len(written) < len(with_plan)


def test_the_reader_is_shown_who_said_what_and_what_it_cost(make_episode: MakeEpisode) -> None:
    turns = (
        Turn("rising_action", "policy", (), Reply("Ann runs.", usage=Usage(9, 2)), True, 1),
        Turn("judge", "served", (), Reply("", failure="unreachable"), round=2),
    )
    rollout = Rollout(
        make_episode(),
        (),
        turns[0].reply,
        PlanStatus.COMPLETE,
        Guidance("Ann runs."),
        turns,
        {"failed/unreachable": 1},
    )
    shown = Written(rollout, "Ann ran.", 1.25).as_markdown()
    assert "### 1. rising action (policy, round 1)\n\nAnn runs." in shown
    assert "### 2. judge (served, round 2)\n\n(unreachable)" in shown
    assert "- policy: 1 answers, 9 tokens read, 2 generated" in shown
    assert "- failed/unreachable: 1" in shown
    assert "author's chapter: +1.25 %" in shown and shown.endswith("## Chapter\n\nAnn ran.\n")


def test_what_is_to_be_written_has_to_be_said(compose_train: Callable[..., DictConfig]) -> None:
    with pytest.raises(ValueError, match="book: says what is to be written"):
        write.run(compose_train())


def test_the_config_samples_chapters_as_the_command_does_by_default(repository: Any) -> None:
    from omegaconf import OmegaConf

    written = OmegaConf.select(OmegaConf.load(repository / "configs" / "write.yaml"), "writing")
    assert check(Sampling, OmegaConf.to_container(written)) == write.CHAPTERS
