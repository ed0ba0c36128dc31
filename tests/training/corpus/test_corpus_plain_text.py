"""Paragraphs, and those that a corpus has twice."""

from hypothesis import given
from hypothesis import strategies as st

from bitsim.training.corpus.duplicates import Seen
from bitsim.training.corpus.plain_text import joined_lines, paragraphs

LONG = "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want."


def test_paragraphs_keep_lines_and_squeeze_spaces() -> None:
    text = "First  line\r\n second\tline \r\n\r\n  \n* * *\n\nthird\u00a0line\n-----\n\u200bend\x1a\n"
    assert paragraphs(text) == ["First line\nsecond line", "third line\nend"]


def test_prose_is_joined_and_words_broken_at_a_hyphen_are_whole() -> None:
    assert joined_lines("self-\nmanagement of the\nworkers -\nby them") == "self-management of the workers - by them"


@given(st.text())
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    once = paragraphs(text)
    assert paragraphs("\n\n".join(once)) == once


def test_a_long_paragraph_is_kept_once_and_short_ones_always() -> None:
    seen = Seen()
    assert seen.without_known(f"Chapter 1\n\n{LONG}\n\n{LONG}") == f"Chapter 1\n\n{LONG}"
    assert seen.without_known(f"Chapter 1\n\n{LONG}\n\nNew.") == "Chapter 1\n\nNew."
    assert (seen.removed, seen.removed_bytes) == (2, 2 * len(LONG))
