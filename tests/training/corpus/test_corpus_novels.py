"""Novels out of an R package."""

import struct
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitsim.training.corpus.novels import novels, string_vector

HEAD = b"X\n" + struct.pack(">IIII", 3, 0x040201, 0x030500, 5) + b"UTF-8"
WIDE = ["A line of prose that is about as wide as the lines of a printed page, and", "goes on in the _next_ line."]


def strings(*values: tuple[int, bytes]) -> bytes:
    return (
        HEAD
        + struct.pack(">II", 16, len(values))
        + b"".join(struct.pack(">II", flags, len(value)) + value for flags, value in values)
    )


def test_novels_are_unwrapped_and_verse_is_not(r_data: Callable[..., bytes]) -> None:
    first = [
        "NORTHANGER ABBEY",
        "",
        "by Jane Austen",
        "",
        *WIDE,
        "",
        "  * * *",
        "",
        "Short are",
        "the lines of verse",
        "",
    ]
    second = ["EMMA", "", *WIDE, "", "[At this point in the first edition, Volume I ends.]", "", "£5"]
    late = ["A NOTE ON THE TEXT", "", "This edition is based on the first."]
    made = list(novels({"Rdata.rdb": r_data([*first, *late], second)}))
    assert [novel.title for novel in made] == ["NORTHANGER ABBEY", "EMMA"]
    prose = "A line of prose that is about as wide as the lines of a printed page, and goes on in the next line."
    assert made[0].text.split("\n\n") == ["NORTHANGER ABBEY", "by Jane Austen", prose, "Short are\nthe lines of verse"]
    assert made[1].text.split("\n\n") == ["EMMA", prose, "£5"]


def test_strings_say_how_they_are_written() -> None:
    stream = strings((0x00040009, b"plain"), (0x00008009, "é".encode()), (0x00004009, "é".encode("latin-1")), (9, b""))
    assert string_vector(stream) == ["plain", "é", "é", ""]


def test_a_missing_string_is_empty() -> None:
    assert string_vector(HEAD + struct.pack(">IIII", 16, 1, 9, 0xFFFFFFFF)) == [""]


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        HEAD,
        HEAD + struct.pack(">II", 13, 0),
        HEAD + struct.pack(">IIII", 16, 1, 13, 0),
        b"A\n" + HEAD[2:] + struct.pack(">II", 16, 0),
        strings((9, b"cut short"))[:-4],
    ],
)
def test_other_streams_are_refused(stream: bytes) -> None:
    with pytest.raises(ValueError, match=r"expected|ends early"):
        string_vector(stream)


@given(st.binary(max_size=60))
def test_noise_after_the_header_is_read_or_refused(noise: bytes) -> None:
    with suppress(ValueError):
        string_vector(HEAD + struct.pack(">II", 16, 2) + noise)
