"""Every way to multiply by two-bit codes against plain int64 products."""

import numpy as np
import numpy.typing as npt
import pytest

from bitsim.runtime.compile import compiled
from bitsim.runtime.entry import call_at
from bitsim.runtime.heads import quarter_choice, quarter_codes
from bitsim.runtime.heads.quarter_kernel import TOGETHER, QuarterKernel
from bitsim.runtime.kernels.kernel import Activations, Int16, Int32, Packed

KERNELS = {kernel.name: kernel for kernel in quarter_choice.available()}
SHAPES = [(1, 1), (3, 9), (63, 8), (64, 36), (65, 37), (300, 100), (257, 1000), (70, 5000)]


@compiled
def prepare_all(prepare: int, x: Activations, tables: Int16, threads: int) -> None:
    for thread in range(threads):
        call_at(prepare, x, tables, thread, threads)


@compiled
def product_of(
    product: int, codes: Packed, tables: Int16, shape: tuple[int, int], sums: Int32, blocks: tuple[int, int]
) -> None:
    groups, tokens = shape
    call_at(product, codes, tables, groups, tokens, sums, blocks[0], blocks[1])


def multiply(kernel: QuarterKernel, levels: npt.NDArray[np.int8], x: npt.NDArray[np.int8]) -> npt.NDArray[np.int32]:
    rows, columns = levels.shape
    codes = quarter_codes.pack(levels).reshape(-1)
    groups, blocks = quarter_codes.column_groups(columns), quarter_codes.row_blocks(rows)
    full = np.zeros((len(x), groups * quarter_codes.COLUMNS), np.int8)
    full[:, :columns] = x
    tables = np.empty(len(x) * kernel.table_elements(groups), np.int16)
    prepare_all(kernel.prepare.address, full, tables, 3)
    parts = []
    for first in range(0, blocks, TOGETHER):
        count = min(TOGETHER, blocks - first)
        part = np.full(len(x) * count * quarter_codes.ROWS, 7, np.int32)
        product_of(kernel.product.address, codes, tables, (groups, len(x)), part, (first, count))
        parts.append(part.reshape(len(x), -1))
    return np.concatenate(parts, axis=1)[:, :rows]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_codes_come_back(shape: tuple[int, int]) -> None:
    levels = (2 * np.random.default_rng(0).integers(0, 4, shape) - 3).astype(np.int8)
    codes = quarter_codes.pack(levels)
    assert codes.size == quarter_codes.packed_bytes(*shape)
    assert np.array_equal(quarter_codes.unpack(codes, *shape), levels)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("tokens", [1, 3, 4, 9])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_odd_shapes(name: str, tokens: int, shape: tuple[int, int]) -> None:
    random = np.random.default_rng(shape[0])
    levels = (2 * random.integers(0, 4, shape) - 3).astype(np.int8)
    x = random.integers(-128, 128, (tokens, shape[1])).astype(np.int8)
    assert np.array_equal(multiply(KERNELS[name], levels, x), x.astype(np.int64) @ levels.T.astype(np.int64))


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("x", [-128, 127])
@pytest.mark.parametrize("level", [-3, -1, 1, 3])
def test_sums_as_large_as_they_get(name: str, x: int, level: int) -> None:
    levels = np.full((70, 10_000), level, np.int8)
    assert (multiply(KERNELS[name], levels, np.full((1, 10_000), x, np.int8)) == 10_000 * x * level).all()
