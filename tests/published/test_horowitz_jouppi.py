"""Energies (pJ): Horowitz 2014 (ISSCC, Figure 1.1.9) and Jouppi et al. 2021 (ISCA, Table 2), as printed."""

import pytest

from bitsim.energy_tables import energy_table

PRINTED = {  # (operation, number format): 45 nm, 7 nm
    ("add", "int8"): (0.03, 0.007),
    ("add", "int32"): (0.1, 0.03),
    ("add", "bf16"): (None, 0.11),
    ("add", "fp16"): (0.4, 0.16),
    ("add", "fp32"): (0.9, 0.38),
    ("multiply", "int8"): (0.2, 0.07),
    ("multiply", "int32"): (3.1, 1.48),
    ("multiply", "bf16"): (None, 0.21),
    ("multiply", "fp16"): (1.1, 0.34),
    ("multiply", "fp32"): (3.7, 1.31),
}
SRAM_PJ_PER_64_BITS = {"sram-8kib": (10, 7.5), "sram-32kib": (20, 8.5), "sram-1mib": (100, 14)}
CELLS = [
    (node, *key, values[column])
    for key, values in PRINTED.items()
    for column, node in enumerate(("45nm", "7nm"))
    if values[column] is not None
]


@pytest.mark.parametrize(("node", "operation", "number_format", "printed_pj"), CELLS)
def test_an_operation_costs_what_is_printed(node: str, operation: str, number_format: str, printed_pj: float) -> None:
    row = energy_table().operation(node, operation, number_format)
    assert row.energy_j.mid == pytest.approx(printed_pj * 1e-12)
    assert row.energy_j.is_exact
    assert "jouppi2021" in row.provenance.sources


def test_all_other_rows_are_marked_as_derived() -> None:
    printed = {(node, operation, number_format) for node, operation, number_format, _ in CELLS}
    others = {key: row for key, row in energy_table().operations.items() if key not in printed}
    assert {key[2] for key in others} == {"binary", "int4", "int16"}
    assert {row.provenance.status for row in others.values()} == {"derived"}


@pytest.mark.parametrize("memory", SRAM_PJ_PER_64_BITS)
@pytest.mark.parametrize(("column", "node"), [(0, "45nm"), (1, "7nm")])
def test_an_sram_access_costs_what_is_printed(memory: str, column: int, node: str) -> None:
    joules_per_64_bits = energy_table().memory(memory, node).energy_j.mid * 8
    assert joules_per_64_bits == pytest.approx(SRAM_PJ_PER_64_BITS[memory][column] * 1e-12)


def test_a_dram_access_costs_what_is_printed() -> None:
    assert energy_table().memory("ddr4", "7nm").energy_j.mid * 8 == pytest.approx(1300e-12)
