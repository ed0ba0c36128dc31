"""Packed layouts: bytes that others wrote, bytes of every shape and back, and bytes that are no code."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitsim.energy_tables import BitsimError
from bitsim.runtime.packing import CODECS
from bitsim.simulator import PACKINGS

UNITS = {"i2_s": 128, "i2_s-arm": 64, "tq1_0": 256, "tq2_0": 256}  # columns come in multiples; 1 for the others
NAMES = list(CODECS)


def counting(columns: int) -> np.ndarray[Any, np.dtype[np.int8]]:
    """One row of -1, 0, 1, -1, 0, 1, ..."""
    return ((np.arange(columns) % 3) - 1).astype(np.int8).reshape(1, -1)


@st.composite
def matrices(draw: st.DrawFn, unit: int) -> np.ndarray[Any, np.dtype[np.int8]]:
    rows = draw(st.integers(1, 70))
    columns = unit * draw(st.integers(1, 3 if unit > 1 else 70))
    probabilities = draw(st.sampled_from([(1, 1, 1), (1, 8, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1)]))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    shares = np.array(probabilities) / sum(probabilities)
    return generator.choice(np.array([-1, 0, 1], np.int8), size=(rows, columns), p=shares)


def test_hugging_face_bytes_of_an_8_by_3_matrix() -> None:
    rows = [(-1, 0, 1), (0, 0, 1), (1, 1, -1), (-1, -1, 0), (0, 1, 0), (1, 0, -1), (-1, 1, 1), (0, -1, -1)]
    assert CODECS["hf"].pack(np.array(rows, np.int8)).tolist() == [[24, 169, 146], [97, 17, 6]]


def test_i2_s_first_bytes() -> None:
    assert CODECS["i2_s"].pack(counting(128))[:6].tolist() == [36, 73, 146] * 2
    packed = CODECS["i2_s"].pack(counting(256), scale=0.5)
    assert packed.size == 256 // 4 + 32
    assert packed[64:68].view("<f4").tolist() == [0.5]
    assert not packed[68:].any()


def test_i2_s_of_arm_takes_blocks_of_64() -> None:
    weights = counting(64)
    first = CODECS["i2_s-arm"].pack(weights)[0]
    codes = weights[0] + 1
    assert first == codes[0] << 6 | codes[16] << 4 | codes[32] << 2 | codes[48]


@pytest.mark.parametrize(("name", "first", "size"), [("tq2_0", [24, 97, 134], 66), ("tq1_0", [69, 108, 207], 54)])
def test_tq_first_bytes_and_scale(name: str, first: list[int], size: int) -> None:
    packed = CODECS[name].pack(counting(256), scale=0.5)[0]
    assert packed.size == size
    assert packed[:6].tolist() == first * 2
    assert packed[-2:].tolist() == [0, 56]


@pytest.mark.parametrize("name", ["tq1_0", "tq2_0"])
@given(data=st.data())
def test_tq_is_what_the_gguf_package_writes_and_reads(name: str, data: st.DataObject) -> None:
    gguf = pytest.importorskip("gguf", reason="the gguf package is not installed")
    weights = data.draw(matrices(256))
    weights[:, ::256] = 1  # gguf takes the largest weight of a block as its scale: it must not be all zero
    kind = gguf.GGMLQuantizationType[name.upper()]
    theirs = gguf.quants.quantize(weights.astype(np.float32) * np.float32(0.5), kind)
    assert np.array_equal(CODECS[name].pack(weights, scale=0.5), theirs)
    ours = CODECS[name].unpack(theirs, *weights.shape)
    assert np.array_equal(ours.weights, weights)
    assert np.array_equal(ours.dequantised(), gguf.quants.dequantize(theirs, kind))


@given(matrices(1))
def test_hugging_face_is_what_transformers_writes_and_reads(weights: np.ndarray[Any, np.dtype[np.int8]]) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    bitnet = pytest.importorskip("transformers.integrations.bitnet", reason="transformers is not installed")
    if len(weights) % 4:
        weights = np.resize(weights, (4 * len(weights), weights.shape[1]))
    theirs = bitnet.pack_weights(torch.from_numpy(weights.copy())).numpy()
    assert np.array_equal(CODECS["hf"].pack(weights), theirs)
    back = bitnet.unpack_weights(torch.from_numpy(theirs), dtype=torch.int8).numpy()
    assert np.array_equal(CODECS["hf"].unpack(theirs, *weights.shape).weights, back)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_every_matrix_comes_back(name: str, data: st.DataObject) -> None:
    weights = data.draw(matrices(UNITS.get(name, 1)))
    packed = CODECS[name].pack(weights, scale=0.25)
    assert packed.dtype == np.uint8
    assert packed.size == CODECS[name].packed_bytes(*weights.shape)
    back = CODECS[name].unpack(packed, *weights.shape)
    assert np.array_equal(back.weights, weights)
    stores_scale = name.startswith(("i2_s", "tq"))
    assert set(np.unique(back.scales)) == {np.float32(0.25 if stores_scale else 1.0)}
    assert np.array_equal(back.dequantised(), weights * np.float32(back.scales[0, 0]))


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_any_bytes_are_a_matrix_that_packs_to_them_or_are_refused(name: str, data: st.DataObject) -> None:
    codec, rows, columns = CODECS[name], 32, max(UNITS.get(name, 1), 9)
    size = codec.packed_bytes(rows, columns)
    packed = codec.pack(np.zeros((rows, columns), np.int8)).reshape(-1).copy()
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, size - 1), st.integers(0, 255)), max_size=4)):
        packed[place] = value
    try:
        weights = codec.unpack(packed, rows, columns).weights
    except BitsimError as error:
        message = str(error)
    else:
        assert set(np.unique(weights)) <= {-1, 0, 1}
        again = codec.unpack(codec.pack(weights), rows, columns).weights
        assert np.array_equal(weights, again)
        return
    assert "holds no ternary code" in message


@pytest.mark.parametrize(
    ("name", "columns", "place", "value", "said"),
    [
        ("hf", 9, 5, 0b11, "hf: byte 5: 0x03"),
        ("hf", 9, 5, 0b11000000, "hf: byte 5: 0xc0"),
        ("i2_s", 128, 31, 0xFF, "i2_s: byte 31: 0xff"),
        ("tq2_0", 256, 63, 0b00110000, "tq2_0: byte 63: 0x30"),
        ("tq1_0", 256, 47, 1, "tq1_0: byte 47: 0x01"),
        ("tq1_0", 256, 48, 2, "tq1_0: byte 48: 0x02"),  # a code of five digits where only four are
        ("trit48", 48, 2 * (32 * 2 + 1), 0x1F, "trit48: word 65: 0x"),
        ("nibble9", 36, 33, 0x0F, "nibble9: byte 33: 0x0f"),
        ("dot16", 16, 7, 0x7F, "dot16: byte 7: 0x7f"),
    ],
)
def test_bytes_that_are_no_code_are_refused_with_their_place(
    name: str, columns: int, place: int, value: int, said: str
) -> None:
    packed = CODECS[name].pack(np.zeros((4, columns), np.int8)).reshape(-1).copy()
    packed[place] = value
    with pytest.raises(BitsimError, match=said):
        CODECS[name].unpack(packed, 4, columns)


@pytest.mark.parametrize("name", NAMES)
def test_wrong_weights_shapes_and_sizes_are_refused(name: str) -> None:
    codec, columns = CODECS[name], 2 * UNITS.get(name, 1)
    with pytest.raises(BitsimError, match=r"row 1, column 0: expected -1, 0 or 1, got 2"):
        codec.pack(np.array([[0] * columns, [2] * columns], np.int8))
    with pytest.raises(BitsimError, match="expected a matrix"):
        codec.pack(np.zeros(columns, np.int8))
    with pytest.raises(BitsimError, match="expected a matrix"):
        codec.pack(np.zeros((0, columns), np.int8))
    with pytest.raises(BitsimError, match="bytes, got"):
        codec.unpack(np.zeros(1, np.uint8), 4, columns)
    if UNITS.get(name, 1) > 1:
        with pytest.raises(BitsimError, match="multiple of"):
            codec.packed_bytes(4, columns + 1)


@pytest.mark.parametrize(
    ("packing", "name"),
    [
        ("tq1_0", "tq1_0"),
        ("tq2_0", "tq2_0"),
        ("2bit", "hf"),
        ("2bit", "dot16"),
        ("trit48", "trit48"),
        ("nibble9", "nibble9"),
    ],
)
def test_the_simulator_counts_the_bytes_that_are_packed(packing: str, name: str) -> None:
    rows, columns = 4 * 32, 256 * 9  # whole blocks of every layout
    assert CODECS[name].packed_bytes(rows, columns) * 8 == pytest.approx(PACKINGS[packing] * rows * columns)


def test_i2_s_is_two_bits_and_a_tail() -> None:
    assert CODECS["i2_s"].packed_bytes(2560, 6912) == 2560 * 6912 * PACKINGS["2bit"] / 8 + 32
