"""BitNet b1.58 (arXiv:2402.17764): energies of Figure 3, memory of Table 1 and Figure 2."""

import pytest

from bitsim.energy_tables import energy_table
from bitsim.energy_tables.published import (
    ArithmeticEnergy,
    MemoryPoint,
    Ratio,
    arithmetic_energies,
    memory_points,
    ratios,
)
from bitsim.simulator import estimate
from bitsim.simulator.paper_energy import paper_ratio_per_product

ENERGIES = [row for row in arithmetic_energies() if row.paper == "ma2024era"]
ENERGY_RATIOS = [row for row in ratios() if row.quantity == "energy_ratio"]
MEMORY = [row for row in memory_points() if row.paper == "ma2024era" and row.what == "total"]
MEMORY_RATIOS = [row for row in ratios() if row.quantity == "memory_ratio"]


def paper_total(model: str, scheme: str) -> float:
    paper = estimate(model, scheme, node="7nm", energy="paper", prompt_tokens=512).paper
    assert paper is not None
    return paper.total_j


def memory(model: str, scheme: str) -> float:
    return estimate(model, scheme, "a100-80gb", devices=2, prompt_tokens=0, new_tokens=128).dram_bytes.total


def test_the_rows_are_here() -> None:
    assert (len(ENERGIES), len(ENERGY_RATIOS), len(MEMORY), len(MEMORY_RATIOS)) == (6, 3, 8, 4)


@pytest.mark.parametrize("row", ENERGY_RATIOS, ids=lambda row: row.id)
def test_figure_3_ratios_come_out_to_their_printed_digits(row: Ratio) -> None:
    assert round(paper_total(row.model, "fp16") / paper_total(row.model, "b1.58"), row.digits) == row.value


@pytest.mark.parametrize("row", ENERGIES, ids=lambda row: row.id)
def test_figure_3_energies_come_out_as_drawn(row: ArithmeticEnergy) -> None:
    assert paper_total(row.model, row.scheme) == pytest.approx(row.value_j, rel=0.012)


def test_figure_3_ratio_of_one_product_needs_an_8_bit_accumulator() -> None:
    printed = next(row for row in ratios() if row.quantity == "energy_per_mac_ratio")
    assert round(paper_ratio_per_product(energy_table(), "7nm", "int8"), printed.digits) == printed.value == 71.4
    assert round(paper_ratio_per_product(energy_table(), "7nm", "int32"), 1) == 16.7


@pytest.mark.parametrize("row", MEMORY, ids=lambda row: row.id)
def test_memory_comes_out_as_printed_and_drawn(row: MemoryPoint) -> None:
    assert memory(row.model, row.scheme) == pytest.approx(row.value_bytes, rel=0.05)


@pytest.mark.parametrize("row", MEMORY_RATIOS, ids=lambda row: row.id)
def test_memory_ratios_come_out(row: Ratio) -> None:
    assert memory(row.model, "fp16") / memory(row.model, "b1.58") == pytest.approx(row.value, rel=0.06)
