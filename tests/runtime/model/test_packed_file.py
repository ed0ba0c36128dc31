"""The packed file: the same bits back, whichever kernel it was made for; damage of any kind is refused in one line."""

import dataclasses
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_checkpoint import MadeCheckpoint, small_spec
from refusals import refusal

from bitsim.energy_tables import BitsimError
from bitsim.runtime.checkpoints import write_safetensors
from bitsim.runtime.conversion import convert_to_packed
from bitsim.runtime.kernels import best
from bitsim.runtime.kernels.choice import available
from bitsim.runtime.loading import load, run_checkpoint
from bitsim.runtime.model import step as steps
from bitsim.runtime.model.assembly import Assembled, assemble
from bitsim.runtime.model.config import Rope
from bitsim.runtime.model.model import Model
from bitsim.runtime.model.packed_file import read_packed, write_packed

Array = np.ndarray[Any, np.dtype[Any]]

TEXT = np.arange(20)
MANY = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
ROPE = Rope(theta=1e4, scaling="yarn", factor=4.0, original_context=64, attention_factor=1.1)
SPEC = small_spec(sub_norms=True, qk_norm=True, hidden=50, ffn=70, heads=5, kv_heads=5, head_dim=10)
KINDS = {"k": "half", "up": "brain", "down": "rows"}


def made(**changes: Any) -> MadeCheckpoint:
    return MadeCheckpoint(SPEC, KINDS, rope=ROPE, biases="q o", inner_norms=("gate", "down"), **changes)


def states_of(model: Model) -> Array:
    """Return hidden states, or why there are none; ends the model."""
    try:
        return model.hidden_states(model.sequence(len(TEXT)), TEXT)
    finally:
        model.close()


@pytest.fixture(scope="module")
def right() -> Array:
    return states_of(run_checkpoint(made(), threads=1))


@pytest.fixture(scope="module")
def assembled() -> Assembled:
    return assemble(made(), best().packing)


@pytest.fixture(scope="module")
def content(assembled: Assembled, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("whole") / "model.safetensors"
    write_packed(assembled, {"bits": np.arange(12, dtype=np.uint8).reshape(3, 4)}, file)
    return file.read_bytes()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where files to be read lie, one after the other."""
    return tmp_path_factory.mktemp("packed") / "model.safetensors"


def test_the_same_arrays_come_back(assembled: Assembled, content: bytes, file: Path) -> None:
    file.write_bytes(content)
    again, screen = read_packed(file)
    assert (again.config, again.text, again.packing) == (assembled.config, assembled.text, assembled.packing)
    for name in ("matrices", "floats", "products", "norms"):
        np.testing.assert_array_equal(getattr(again, name), getattr(assembled, name))
    np.testing.assert_array_equal(again.embedding.bits, assembled.embedding.bits)
    assert again.head is None
    assert list(screen) == ["bits"]
    np.testing.assert_array_equal(screen["bits"], np.arange(12).reshape(3, 4))


@pytest.mark.parametrize("packing", sorted({kernel.packing for kernel in available()}))
def test_a_file_for_any_kernel_gives_the_same_bits(packing: str, right: Array, file: Path) -> None:
    write_packed(assemble(made(), packing), None, file)
    np.testing.assert_array_equal(states_of(load(file, threads=2)), right)


def test_converted_with_a_head_of_its_own_and_a_tokenizer(tmp_path: Path) -> None:
    checkpoint = MadeCheckpoint(small_spec(tied_head=False, hidden=50), "brain")
    checkpoint.text = dataclasses.replace(checkpoint.text, tokenizer=b'{"any": "bytes"}', eos=(2, 3))
    convert_to_packed(checkpoint, tmp_path / "model.safetensors")
    direct, loaded = run_checkpoint(checkpoint, threads=1), load(tmp_path / "model.safetensors", threads=1)
    assert loaded.text == checkpoint.text
    hidden = states_of(direct)
    np.testing.assert_array_equal(states_of(loaded), hidden)
    np.testing.assert_array_equal(loaded.head.logits(hidden), direct.head.logits(hidden))


def test_a_failure_leaves_what_was_there(assembled: Assembled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "model.safetensors"
    file.write_text("what was there")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write_safetensors.SafetensorsWriter, "finish", full)
    assert "No space left on device" in str(refusal(lambda: write_packed(assembled, None, file)))
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    assert file.read_text() == "what was there"
    absent = tmp_path / "absent" / "model.safetensors"
    assert refusal(lambda: write_packed(assembled, None, absent)) is not None


# Damage of tables: each with the right checksum, as a hostile file would have it.


def check_run(model: Assembled, file: Path) -> str | None:
    """Write and load a model and run a step; return how it is refused."""
    write_packed(model, None, file)
    return refusal(lambda: states_of(load(file, threads=1)))


INTERESTING = st.sampled_from([-(2**63), -1, 0, 1, 2, 3, 4, 16, 10**9, 2**31, 2**40, 2**63 - 1])
VALUES = INTERESTING | st.integers(-(2**63), 2**63 - 1) | st.integers(-200, 200)


@MANY
@given(data=st.data(), value=VALUES, near=st.booleans())
def test_products_that_lead_astray(
    assembled: Assembled, file: Path, data: st.DataObject, value: int, near: bool
) -> None:
    products = assembled.products.copy()
    place = tuple(data.draw(st.integers(0, size - 1)) for size in products.shape)
    products[place] = np.clip(int(products[place]) + value, -(2**63), 2**63 - 1) if near else value
    check_run(dataclasses.replace(assembled, products=products), file)


@MANY
@given(data=st.data(), value=INTERESTING | st.integers(-100, 100_000))
def test_norms_that_lead_astray(assembled: Assembled, file: Path, data: st.DataObject, value: int) -> None:
    norms = assembled.norms.copy()
    norms[tuple(data.draw(st.integers(0, size - 1)) for size in norms.shape)] = value
    check_run(dataclasses.replace(assembled, norms=norms), file)


FIELDS = {
    steps.KIND: (9, "expected 0 to 3, got 9"),
    steps.WEIGHT: (10**9, "from 1,000,000,000 on"),
    steps.SIZE: (64, "got 64 from"),
    steps.ROWS: (10, "units"),
    steps.COLUMNS: (48, "expected 50 columns"),
    steps.SCALE: (10**6, "among"),
    steps.BIAS: (-2, "got -2"),
    steps.FIRST_UNIT: (1, "expected multiples of"),
}


@pytest.mark.parametrize("field", list(FIELDS))
def test_what_a_wrong_product_is_told(assembled: Assembled, file: Path, field: int) -> None:
    value, message = FIELDS[field]
    products = assembled.products.copy()
    products[1, steps.ATTENTION_IN, field] = value
    found = str(check_run(dataclasses.replace(assembled, products=products), file))
    assert found.startswith(f"{file}: products, layer 1: ")
    assert message in found or field == steps.ROWS


@pytest.mark.parametrize("place", [-1, 10**7, 2**62])
def test_an_output_norm_outside(assembled: Assembled, file: Path, place: int) -> None:
    assert f"{file}: output_norm: " in str(check_run(dataclasses.replace(assembled, output_norm=place), file))


@pytest.mark.parametrize("field", ["matrices", "floats", "products", "norms"])
def test_arrays_cut_short(assembled: Assembled, file: Path, field: str) -> None:
    for end in (0, 1, len(getattr(assembled, field)) // 2):
        changed: Any = {field: getattr(assembled, field)[:end]}
        assert str(check_run(dataclasses.replace(assembled, **changed), file)).startswith(f"{file}: ")


# Damage of the file.


def with_metadata(content: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """Return a file with its header changed."""
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def config_with(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    """Return a change of one constant of the configuration: "rope.theta"."""

    def change(header: dict[str, Any]) -> None:
        config = json.loads(header["__metadata__"]["config"])
        inner = config
        *way, last = path.split(".")
        for name in way:
            inner = inner[name]
        inner[last] = value
        header["__metadata__"]["config"] = json.dumps(config)

    return change


def metadata_with(name: str, value: str | None) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        header["__metadata__"].pop(name)
        if value is not None:
            header["__metadata__"][name] = value

    return change


def refused(content: bytes, file: Path) -> str | None:
    file.write_bytes(content)
    return refusal(lambda: states_of(load(file, threads=1)))


def test_whole_it_runs(content: bytes, file: Path) -> None:
    """With a screen of nonsense for a head, only `exact` can be asked for."""
    file.write_bytes(content)
    states_of(load(file, threads=1, head="exact"))


CONSTANTS = [
    "norm_eps", "sliding_window", "rope", "spec", "rope.theta", "rope.factor", "rope.scaling", "rope.original_context",
    "rope.attention_factor", "rope.beta_fast", "rope.low_frequency", "spec.layers", "spec.hidden", "spec.heads",
    "spec.kv_heads", "spec.head_dim", "spec.ffn", "spec.vocab", "spec.max_context", "spec.activation", "spec.experts",
    "spec.tied_head", "spec.name", "spec.sources", "spec.gated_ffn", "spec.qk_norm", "rope.unknown", "spec.unknown",
]  # fmt: skip
NUMBERS = [-1, 0, 0.5, 1, 2.0, 3, 2**31, 2**70, float("nan"), float("inf")]
ABSURD: list[Any] = [*NUMBERS, None, "", "x", "2", [], {}, [1], True, "\n\x1b"]


@pytest.mark.parametrize("constant", CONSTANTS)
def test_absurd_constants(content: bytes, file: Path, constant: str) -> None:
    content = with_metadata(content, lambda header: header.pop("screen.bits"))
    for value in ABSURD:
        refused(with_metadata(content, config_with(constant, value)), file)


@pytest.mark.parametrize(
    ("constant", "value", "message"),
    [
        ("rope.theta", 0, "config: rope: theta: expected a number above 0 and at most 1e+12, got '0'"),
        ("sliding_window", -5, "config: small: sliding_window: expected a whole number from 1 to 1e+12, or none,"),
        ("norm_eps", float("nan"), "config: small: norm_eps: expected a number above 0 and at most 1e+12, got 'nan'"),
        ("spec.layers", 10**6, "config: small: layers: expected a whole number from 1 to 10,000, got 1000000"),
        ("spec.layers", 2.0, "config: spec: expected whole numbers, got others"),
        ("spec.layers", 3, "products: expected shape (3, 7, 10), got (2, 7, 10)"),
        ("spec.vocab", 301, "embedding: expected shape (301, 64), got (300, 64)"),
        ("spec.tied_head", False, "head: expected one, as the configuration says"),
    ],
)
def test_what_wrong_constants_are_told(content: bytes, file: Path, constant: str, value: object, message: str) -> None:
    found = refused(with_metadata(content, config_with(constant, value)), file)
    assert str(found).startswith(f"{file}: {message}")


METADATA = {
    "version": [("0", "version: expected 1, got '0': convert the model again"), (None, "version: expected 1, got")],
    "packing": [("tq3", "packing: expected one of"), ("hf", ""), ("nibble9", ""), (None, "packing")],
    "config": [("{", "config: expected a JSON dict"), ("{}", "config: 'spec'"), ("[]", "config"), (None, "config")],
    "text": [("{}", "text: expected what"), ('{"eos": 3}', "text"), ("3", "text: expected a JSON dict"), (None, "")],
    "output_norm": [("x", "output_norm: expected a whole number, got 'x'"), ("-1", "output"), (None, "output_norm")],
    "brain": [("[]", "brain: expected two flags, got 0"), ("{}", "brain: expected a JSON list"), (None, "")],
    "crc32": [("{}", "damaged"), ("[]", "crc32: expected a JSON dict"), (None, "crc32")],
}  # fmt: skip


@pytest.mark.parametrize("name", list(METADATA))
def test_wrong_metadata(content: bytes, file: Path, name: str) -> None:
    for value, message in METADATA[name]:
        found = refused(with_metadata(content, metadata_with(name, value)), file)
        assert message in str(found)
        assert found is not None


@pytest.mark.parametrize("rule", ["bos", "eos", "chat_template", "add_bos", "special", "more"])
def test_wrong_rules_of_text(content: bytes, file: Path, rule: str) -> None:
    def change(header: dict[str, Any]) -> None:
        rules = json.loads(header["__metadata__"]["text"])
        header["__metadata__"]["text"] = json.dumps(rules | {rule: {"a": [1]}})

    assert f"{file}: text: expected what" in str(refused(with_metadata(content, change), file))


@pytest.mark.parametrize("name", ["matrices", "floats", "products", "norms", "embedding"])
def test_missing_and_mistaken_tensors(content: bytes, file: Path, name: str) -> None:
    def with_entry(**changes: object) -> bytes:
        return with_metadata(content, lambda header: header[name].update(changes))

    gone = refused(with_metadata(content, lambda header: header.pop(name)), file)
    assert gone == f"{file}: '{name}' is missing"
    for kind in ("F64", "I8", "F16", "BF16", "nonsense"):
        assert refused(with_entry(dtype=kind), file)
    assert refused(with_entry(shape=[1]), file)
    assert refused(with_entry(data_offsets=[0, 8]), file)


def test_a_head_that_is_too_many(content: bytes, file: Path) -> None:
    def change(header: dict[str, Any]) -> None:
        header["head"] = header.pop("embedding")

    assert refused(with_metadata(content, change), file) == f"{file}: 'embedding' is missing"


def test_other_files_are_not_taken_for_ours(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    file = tmp_path / "model.safetensors"
    save_file({"a": np.ones(3)}, file, {"format": "pt"})
    assert refusal(lambda: read_packed(file)) == f"{file}: __metadata__: expected format 'bitsim', got 'pt'"
    assert refusal(lambda: load(file)) is not None
    assert refusal(lambda: load(tmp_path / "absent.safetensors")) is not None
    file.write_bytes(b"")
    assert refusal(lambda: load(file)) is not None


@MANY
@given(share=st.floats(0, 1, exclude_max=True))
def test_truncated_files(content: bytes, file: Path, share: float) -> None:
    assert refused(content[: int(share * len(content))], file) is not None


@MANY
@given(data=st.data())
def test_flipped_bits_in_the_header(content: bytes, file: Path, data: st.DataObject) -> None:
    """Where the change has no meaning, such as another name for the model, the file is read."""
    changed, length = bytearray(content), struct.unpack("<Q", content[:8])[0]
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, 7 + length))] ^= 1 << data.draw(st.integers(0, 7))
    refused(bytes(changed), file)


@pytest.mark.parametrize("name", ["matrices", "floats", "products", "norms", "screen.bits", "embedding"])
@MANY
@given(data=st.data())
def test_flipped_bits_in_a_tensor(content: bytes, file: Path, name: str, data: st.DataObject) -> None:
    """The embedding is left in the file and not summed up: other numbers, perhaps none at all, and no harm."""
    length = struct.unpack("<Q", content[:8])[0]
    begin, end = json.loads(content[8 : 8 + length])[name]["data_offsets"]
    changed = bytearray(content)
    changed[8 + length + data.draw(st.integers(begin, end - 1))] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(bytes(changed))
    found = refusal(lambda: states_of(load(file, threads=1, head="exact")))
    if name == "embedding":
        assert found is None
    else:
        assert str(found).startswith(f"{file}: {name}: damaged: ")


def test_numbers_that_are_none_do_no_harm(assembled: Assembled, file: Path) -> None:
    bits = np.full_like(assembled.embedding.bits, 0x7E00)
    embedding = dataclasses.replace(assembled.embedding, bits=bits)
    assert check_run(dataclasses.replace(assembled, embedding=embedding), file) is None


@pytest.mark.parametrize("option", ["head", "threads", "kv"])
def test_options_that_are_none(content: bytes, file: Path, option: str) -> None:
    file.write_bytes(content)
    wrong: dict[str, Any] = {"head": "screnned", "threads": 0, "kv": "f8"}
    with pytest.raises(BitsimError, match=option):
        load(file, **{"threads": 1, "head": "exact", option: wrong[option]}).sequence()
