"""BitNet b1.58 2B4T (arXiv:2504.12285), Table 1: energy of a pass over 512 tokens, memory without embeddings."""

import pytest

from bitsim.energy_tables.published import ArithmeticEnergy, MemoryPoint, arithmetic_energies, memory_points
from bitsim.simulator import estimate, get_scheme, resolve_model

ENERGIES = [row for row in arithmetic_energies() if row.paper == "ma2025bitnet2b4t"]
MEMORY = [row for row in memory_points() if row.what == "non_embedding" and row.scheme in ("fp16", "b1.58")]


def test_the_six_models_are_here() -> None:
    assert len(ENERGIES) == len(MEMORY) == 6


@pytest.mark.parametrize("row", ENERGIES, ids=lambda row: row.id)
def test_an_energy_comes_out_to_its_printed_digits(row: ArithmeticEnergy) -> None:
    assert row.digits is not None
    result = estimate(row.model, row.scheme, node=row.node, energy="paper", prompt_tokens=512)
    assert round(result.energy_j["total"].mid, row.digits) == row.value_j


@pytest.mark.parametrize("row", MEMORY, ids=lambda row: row.id)
def test_non_embedding_memory_is_the_linear_weights(row: MemoryPoint) -> None:
    packing = "entropy" if row.scheme == "b1.58" else None  # the card counts 1.58 bits; two bits would be 0.52 GB
    bits = get_scheme(row.scheme, packing).weight_bits
    assert resolve_model(row.model).parameters_linear * bits / 8 == pytest.approx(row.value_bytes, rel=0.03, abs=0.05e9)
