"""Stop strings are found however the text is cut, and nothing of them is ever passed on."""

from hypothesis import given
from hypothesis import strategies as st
from refusals import refusal

from bitsim.runtime.generation.stop_strings import StopStrings

texts = st.text(alphabet="ab\n", max_size=12)
stops = st.lists(st.text(alphabet="ab\n", min_size=1, max_size=4), max_size=3)


def passed_on(pieces: list[str], strings: list[str]) -> str:
    watch, told = StopStrings(strings), ""
    for piece in pieces:
        told += watch.feed(piece)
        if watch.found:
            return told
    return told + watch.finish()


@given(st.lists(texts, max_size=8), stops)
def test_text_ends_where_a_stop_string_begins(pieces: list[str], strings: list[str]) -> None:
    # The first to be complete counts: that is what can be known while text comes.
    whole, ends = "".join(pieces), []
    lengths = [sum(map(len, pieces[: count + 1])) for count in range(len(pieces))]
    for length in lengths:
        ends = [place for string in strings if (place := whole[:length].find(string)) >= 0]
        if ends:
            break
    assert passed_on(pieces, strings) == (whole[: min(ends)] if ends else whole)


def test_what_may_become_a_stop_string_is_held_back_and_released() -> None:
    watch = StopStrings(["\nUser:"])
    assert [watch.feed(text) for text in ("Hi", "\nUs", "e", " it", "\n", "User", ":more")] == [
        "Hi", "", "", "\nUse it", "", "", "",
    ]  # fmt: skip
    assert watch.found
    assert watch.feed("more") == watch.finish() == ""


def test_an_empty_one_is_refused() -> None:
    assert refusal(lambda: StopStrings(["a", ""])) == "stop: expected a text, got an empty one"


def test_endless_strings_cost_no_more_than_the_text() -> None:
    """Each character is looked at once: with all that is held looked at again for each, this would take hours."""
    watch = StopStrings(["a" * 200_000 + "b", "a" * 200_000 + "c"])
    assert "".join(watch.feed("a") for _ in range(100_000)) == ""
    assert watch.feed("d") == "a" * 100_000 + "d"
