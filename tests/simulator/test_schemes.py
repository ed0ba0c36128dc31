"""Schemes: bits and steps of each, and what their products cost."""

import math

import pytest
from refusals import refusal

from bitsim.energy_tables import cite, energy_table
from bitsim.simulator import PACKINGS, SCHEMES, get_scheme

TERNARY = ("b1.58", "b1.58a4")
PJ = 1e-12


def test_the_promised_schemes_are_there() -> None:
    assert {"fp32", "fp16", "bf16", "w8a8", "w4a4", "b1", "b1.58", "b1.58a4", "billm", "xnor"} <= set(SCHEMES)


@pytest.mark.parametrize("name", SCHEMES)
def test_a_scheme_is_plausible_and_cites_known_sources(name: str) -> None:
    scheme = SCHEMES[name]
    assert scheme.name == name
    assert 1 <= scheme.weight_bits <= 32
    assert 1 <= scheme.activation_bits <= 32
    assert 0 <= scheme.zero_fraction < 1
    assert scheme.rates
    assert [source.key for source in cite(scheme.sources)] == list(scheme.sources)


@pytest.mark.parametrize("node", ["7nm", "45nm"])
@pytest.mark.parametrize("name", SCHEMES)
def test_energies_of_a_product_are_in_order_at_both_nodes(name: str, node: str) -> None:
    scheme, table = SCHEMES[name], energy_table()
    for interval in (scheme.product_energy_j(table, node), scheme.float_energy_j(table, node)):
        assert 0 < interval.low <= interval.mid <= interval.high < 10 * PJ


@pytest.mark.parametrize(
    ("name", "low", "mid", "high"),
    [
        ("fp32", 1.69, 1.69, 1.69),
        ("fp16", 0.50, 0.50, 0.34 + 0.38),
        ("bf16", 0.32, 0.32, 0.21 + 0.38),
        ("w8a8", 0.10, 0.10, 0.10),
        ("w4a16", 0.50, 0.50, 0.72),
        ("b1", 0.007, 0.030, 0.030),
        ("b1.58", 0.007, 0.030, 0.030),
        ("billm", 1.1 * 0.16, 1.1 * 0.16, 1.1 * 0.38),
        ("xnor", 0.007 / 8, 0.007 / 8, 0.007 / 8),
    ],
)
def test_products_at_7_nm_cost_the_sum_of_their_steps(name: str, low: float, mid: float, high: float) -> None:
    energies = SCHEMES[name].product_energy_j(energy_table(), "7nm")
    assert list(energies) == pytest.approx([low * PJ, mid * PJ, high * PJ])


def test_bfloat16_costs_at_most_fp16_where_the_table_has_none() -> None:
    table = energy_table()
    assert SCHEMES["bf16"].product_energy_j(table, "45nm").mid == SCHEMES["fp16"].product_energy_j(table, "45nm").mid


def test_fewer_bits_cost_less_energy() -> None:
    table = energy_table()
    energies = [SCHEMES[name].product_energy_j(table, "7nm").mid for name in ("fp32", "fp16", "w8a8", "b1.58", "xnor")]
    assert energies == sorted(energies, reverse=True)


def test_packings_are_at_or_above_the_entropy_of_a_trit() -> None:
    assert PACKINGS["entropy"] == pytest.approx(math.log2(3))
    assert min(PACKINGS.values()) == PACKINGS["entropy"]
    assert (
        pytest.approx(
            {
                "2bit": 2.0,
                "tq2_0": 2.0625,
                "tq1_0": 1.6875,
                "trit48": 5 / 3,
                "nibble9": 16 / 9,
                "five": 1.6,
                "entropy": math.log2(3),
            }
        )
        == PACKINGS
    )


@pytest.mark.parametrize("name", TERNARY)
@pytest.mark.parametrize("packing", PACKINGS)
def test_a_packing_sets_the_bits_of_ternary_weights(name: str, packing: str) -> None:
    assert get_scheme(name, packing).weight_bits == PACKINGS[packing]


@pytest.mark.parametrize("name", [name for name in SCHEMES if name not in TERNARY])
def test_a_packing_leaves_weights_that_are_not_ternary_alone(name: str) -> None:
    assert get_scheme(name, "tq1_0") == get_scheme(name)


def test_kv_bits_set_the_cache_alone() -> None:
    scheme = get_scheme("b1.58", kv_bits=8)
    assert (scheme.kv_bits, scheme.weight_bits) == (8.0, get_scheme("b1.58").weight_bits)


def test_names_are_found_in_any_case() -> None:
    assert get_scheme(" B1.58 ") is SCHEMES["b1.58"]


@pytest.mark.parametrize(
    ("name", "packing", "kv_bits", "expected"),
    [
        ("b1,58", None, None, "unknown scheme 'b1,58'; did you mean 'b1.58'? (known: fp32, "),
        ("", None, None, "unknown scheme ''"),
        ("a\nb", None, None, "unknown scheme "),
        ("b1.58", "tq1", None, "unknown packing 'tq1'; did you mean 'tq1_0'?"),
        ("fp16", "tq1", None, "unknown packing 'tq1'; did you mean 'tq1_0'?"),
        ("b1.58", None, 0, "KV cache bits: expected a number from 1 to 32, got 0"),
        ("b1.58", None, 64, "KV cache bits: "),
        ("b1.58", None, math.nan, "KV cache bits: "),
    ],
)
def test_what_is_unknown_is_refused(name: str, packing: str | None, kv_bits: float | None, expected: str) -> None:
    assert (refusal(lambda: get_scheme(name, packing, kv_bits)) or "").startswith(expected)
