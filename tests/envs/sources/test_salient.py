"""Names, rare words and stretches of text, on sentences small enough to count by hand."""

from __future__ import annotations

import math

from envs.sources.salient import Lexicon, first_sentence, last_words, stretches

SHELF = Lexicon.of(
    ["the river rose again", "the river fell", "the hope of spring", "no river here"]
)


def test_rarity_is_the_log_of_stretches_over_stretches_with_the_word() -> None:
    assert SHELF.num_stretches == 4
    assert SHELF.rarity("river") == math.log(5 / 4)
    assert SHELF.rarity("spring") == math.log(5 / 2)
    assert SHELF.rarity("unseen") == math.log(5)


def test_a_capital_in_mid_sentence_makes_a_name_even_of_a_common_word() -> None:
    assert SHELF.names("It asked River, and River laughed.") == ["River"]


def test_a_capital_that_a_sentence_gives_makes_no_name_of_a_common_word() -> None:
    assert SHELF.names("River water. “River water,” she said. 'River!'") == []


def test_a_word_that_is_never_in_lower_case_is_a_name_wherever_it_stands() -> None:
    assert SHELF.names("Mr. Anselm left. Anselm’s dog and Brida stayed.") == ["Anselm", "Brida"]


def test_forms_of_address_and_shouting_are_no_names() -> None:
    assert SHELF.names("It was Mrs. Brida who told Miss Cole to STOP, as I did.") == [
        "Brida",
        "Cole",
    ]


def test_rare_words_come_by_count_times_rarity_then_by_letter() -> None:
    text = "spring, spring: the river ran under alder and birch; Birch is a name"
    # spring 2 log(5/2) = 1.83, alder = birch = under = log 5 = 1.61; river is in 3 of 4 stretches.
    found = SHELF.rare_words(text, min_stretches=0, max_share=0.5)
    assert found == ["spring", "alder", "birch", "name", "under"]
    assert SHELF.rare_words(text, min_stretches=1, max_share=0.5) == ["spring"]
    assert SHELF.rare_words(text, min_stretches=1, max_share=1.0) == ["spring", "river"]


def test_stretches_keep_line_breaks_and_leave_a_short_remainder_out() -> None:
    assert stretches("a b\n\nc d e f g h i", 4) == ["a b\n\nc d", "e f g h"]
    assert stretches("a b c d e f", 4) == ["a b c d", "e f"]
    assert stretches("a b", 4) == ["a b"]
    assert stretches("a b", None) == ["a b"]


def test_the_last_words_keep_line_breaks() -> None:
    assert last_words("a b\n\nc d", 3) == "b\n\nc d"
    assert last_words("a b", 9) == "a b"
    assert last_words("a b", 0) == ""
    assert last_words("a b", None) == "a b"


def test_a_sentence_ends_at_its_stop_and_not_at_an_abbreviation() -> None:
    assert first_sentence("Mr. Cole came. He sat.") == "Mr. Cole came."
    assert first_sentence("“Who is it?” she asked.") == "“Who is it?”"
    assert first_sentence("No stop at all") == "No stop at all"
