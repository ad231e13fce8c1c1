"""What each token of a chapter adds to its text."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from train.analysis.token_gains import token_texts


def test_tokens_joined_are_the_chapter_though_characters_are_of_several(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    chapter = "Ann said: “Né — 12 €” and\u2028left."
    ids = tokenizer(chapter, add_special_tokens=False)["input_ids"]
    found = token_texts(tokenizer, ids)
    assert len(found) == len(ids) > len(chapter.split())
    assert "".join(found) == chapter
    # The bytes of a dash: nothing, nothing, and the dash.
    dash = tokenizer("—", add_special_tokens=False)["input_ids"]
    assert token_texts(tokenizer, dash) == ["", "", "—"]
