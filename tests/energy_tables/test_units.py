"""Text to numbers and numbers to text."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refusal

from bitsim.energy_tables.units import format_count, format_ratio, format_si, parse_count, parse_energy, parse_money

PREFIXES = {
    "P": 1e15,
    "T": 1e12,
    "G": 1e9,
    "M": 1e6,
    "k": 1e3,
    "": 1.0,
    "m": 1e-3,
    "u": 1e-6,
    "n": 1e-9,
    "p": 1e-12,
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("70B", 70e9),
        ("350M", 350e6),
        ("1.5e9", 1.5e9),
        ("2T", 2e12),
        (" .5k ", 500.0),
        ("3 g", 3e9),
        ("7.", 7.0),
        ("1e3K", 1e6),
        ("1E+2", 100.0),
        ("1P", 1e15),
    ],
)
def test_counts_are_read_as_people_write_them(text: str, value: float) -> None:
    assert parse_count(text) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "B",
        "-5",
        "0",
        "0B",
        "nan",
        "inf",
        "1e400",
        "7BB",
        "7 0B",
        "0x10",
        "\N{ARABIC-INDIC DIGIT SEVEN}B",
        "1_000",
        "1e9999",
        "9" * 400,
    ],
)
def test_what_is_no_positive_finite_count_is_refused_by_name(text: str) -> None:
    message = refusal(lambda: parse_count(text, "training tokens"))
    assert message is not None
    assert message.startswith("training tokens: expected a positive")


@given(st.text())
def test_any_text_is_a_count_or_refused_in_one_line(text: str) -> None:
    if refusal(lambda: parse_count(text)) is None:
        assert parse_count(text) > 0


@pytest.mark.parametrize(
    ("text", "joules"),
    [
        ("100kWh", 3.6e8),
        ("3.6MJ", 3.6e6),
        ("2GJ", 2e9),
        (" 1e3 j ", 1e3),
        ("5wh", 1.8e4),
        ("1.5 TWh", 5.4e15),
        ("7.PJ", 7e15),
        (".5KWH", 1.8e6),
    ],
)
def test_energies_are_read_in_joules(text: str, joules: float) -> None:
    assert parse_energy(text) == pytest.approx(joules, rel=1e-15)


@pytest.mark.parametrize(
    "text", ["", "100", "kWh", "1mJ", "0J", "-1J", "1BJ", "1e300PJ", "1e400J", "5 k Wh", "1kW", "2MJ\nJ"]
)
def test_what_is_no_energy_is_refused_by_name(text: str) -> None:
    assert (refusal(lambda: parse_energy(text, "lunch")) or "").startswith("lunch: expected a positive")


@pytest.mark.parametrize(
    ("text", "dollars"),
    [("5000usd", 5e3), ("$5000", 5e3), ("5000", 5e3), ("2.5M USD", 2.5e6), ("$ 1k", 1e3), ("1e6 usd", 1e6)],
)
def test_sums_of_money_are_read_in_dollars(text: str, dollars: float) -> None:
    assert parse_money(text) == dollars


@pytest.mark.parametrize("text", ["", "$", "usd", "5000eur", "0usd", "-5$", "5$", "1e400usd", "usd5"])
def test_what_is_no_money_is_refused_by_name(text: str) -> None:
    assert (refusal(lambda: parse_money(text, "purse")) or "").startswith("purse: expected a positive")


@given(st.text())
def test_any_text_is_an_energy_and_money_or_refused_in_one_line(text: str) -> None:
    for parse in (parse_energy, parse_money):
        if refusal(lambda parse=parse: parse(text)) is None:  # type: ignore[misc]
            assert 0 < parse(text) < float("inf")


@given(st.integers(1, 10**15))
def test_a_whole_number_is_read_exactly(count: int) -> None:
    assert parse_count(str(count)) == count


@pytest.mark.parametrize(
    ("value", "text"),
    [(70e9, "70.0B"), (2e12, "2.00T"), (350e6, "350M"), (1.5e3, "1.50K"), (512.0, "512"), (999.9e6, "1.00B")],
)
def test_counts_are_written_with_three_digits(value: float, text: str) -> None:
    assert format_count(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 J"),
        (3.1e-3, "3.10 mJ"),
        (1.65e12, "1.65 TJ"),
        (999.96, "1.00 kJ"),
        (9.996, "10.0 J"),
        (-5.0, "-5.00 J"),
        (1e-12, "1.00 pJ"),
        (float("inf"), "inf J"),
    ],
)
def test_si_values_are_written_with_three_digits(value: float, text: str) -> None:
    assert format_si(value, "J") == text


@given(st.floats(1e-12, 9.99e17))
def test_si_text_reads_back_within_its_digits(value: float) -> None:
    match = re.fullmatch(r"([\d,.]+) ([PTGMkmunp]?)J", format_si(value, "J"))
    assert match is not None
    number, prefix = match.groups()
    assert float(number.replace(",", "")) * PREFIXES[prefix] == pytest.approx(value, rel=0.0051)
    assert prefix == "P" or float(number.replace(",", "")) < 1000


@pytest.mark.parametrize(("value", "text"), [(71.42, "71.4x"), (4.1, "4.10x"), (16.67, "16.7x"), (float("nan"), "n/a")])
def test_ratios_are_written_with_three_digits(value: float, text: str) -> None:
    assert format_ratio(value) == text
