"""Files that are damaged, or made to harm: each is refused in one line, or read."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import refusal
from safetensors.numpy import save
from tokenizers import Tokenizer

from bitsim.runtime.checkpoints import LINEARS, NORMS, open_checkpoint

HIDDEN, FFN, VOCAB = 4, 6, 8
CONFIG = {
    "model_type": "bitnet",
    "hidden_act": "relu2",
    "hidden_size": HIDDEN,
    "intermediate_size": FFN,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "vocab_size": VOCAB,
    "tie_word_embeddings": True,
    "quantization_config": {
        "quant_method": "bitnet",
        "linear_class": "autobitlinear",
        "modules_to_not_convert": ["o_proj"],
    },
    "rope_scaling": {"type": "yarn", "factor": 2.0, "original_max_position_embeddings": 16},
    "eos_token_id": [1, 2],
}
TOKENIZER = {
    "version": "1.0",
    "added_tokens": [],
    "model": {"type": "BPE", "vocab": {letter: number for number, letter in enumerate("abcdefg")}, "merges": []},
}


def safetensors_bytes() -> bytes:
    random = np.random.default_rng(1)
    tensors: dict[str, np.ndarray[Any, Any]] = {
        "model.embed_tokens.weight": random.normal(size=(VOCAB, HIDDEN)).astype(np.float16),
        "model.norm.weight": np.ones(HIDDEN, np.float32),
    }
    block = "model.layers.0."
    norms = {"input_layernorm": HIDDEN, "post_attention_layernorm": HIDDEN, "self_attn.attn_sub_norm": HIDDEN}
    for name, width in (norms | {"mlp.ffn_sub_norm": FFN}).items():
        tensors[f"{block}{name}.weight"] = np.ones(width, np.float32)
    shapes = {f"self_attn.{name}_proj": (HIDDEN, HIDDEN) for name in "qkv"}
    shapes |= {"mlp.gate_proj": (FFN, HIDDEN), "mlp.up_proj": (FFN, HIDDEN), "mlp.down_proj": (HIDDEN, FFN)}
    for name, (rows, columns) in shapes.items():
        tensors[f"{block}{name}.weight"] = np.full((-(-rows // 4), columns), 0b01100001, np.uint8)
        tensors[f"{block}{name}.weight_scale"] = np.array([0.5], np.float32)
    tensors[f"{block}self_attn.o_proj.weight"] = np.ones((HIDDEN, HIDDEN), np.float32)
    return save(tensors)


def gguf_bytes(folder: Path) -> bytes:
    random, writer = np.random.default_rng(1), gguf.GGUFWriter(folder / "whole.gguf", "llama")
    writer.add_block_count(1)
    writer.add_context_length(16)
    writer.add_embedding_length(256)
    writer.add_feed_forward_length(256)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(["a", "b", "ab", "<|end|>"])
    writer.add_token_types([1, 1, 1, 3])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(3)
    writer.add_chat_template("{{ messages }}")
    writer.add_tensor("token_embd.weight", random.normal(size=(8, 256)).astype(np.float16))
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(256, np.float32))
    for name, kind in (("attn_q", "TQ1_0"), ("attn_k", "TQ2_0"), ("attn_v", "Q8_0"), ("attn_output", "Q4_0")):
        ggml = gguf.GGMLQuantizationType[kind]
        full = np.sign(random.normal(size=(256, 256))).astype(np.float32)
        writer.add_tensor(f"blk.0.{name}.weight", gguf.quants.quantize(full, ggml), raw_dtype=ggml)
    for name in ("ffn_gate", "ffn_up", "ffn_down"):
        writer.add_tensor(f"blk.0.{name}.weight", np.ones((256, 256), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return (folder / "whole.gguf").read_bytes()


def read_all(path: Path) -> None:
    """Open a checkpoint and read all its tensors."""
    checkpoint = open_checkpoint(path)
    checkpoint.embedding()
    checkpoint.head()
    checkpoint.output_norm()
    for layer in range(checkpoint.config.spec.layers):
        for name in NORMS:
            checkpoint.norm(layer, name)
        for name in LINEARS:
            checkpoint.linear(layer, name)


Folder = Callable[[dict[str, bytes]], Path]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Return a function that writes a sound Hugging Face folder but for the files it is given."""
    place = tmp_path_factory.mktemp("folder")
    sound = {
        "config.json": json.dumps(CONFIG).encode(),
        "model.safetensors": safetensors_bytes(),
        "tokenizer.json": json.dumps(TOKENIZER).encode(),
        "tokenizer_config.json": b'{"bos_token": "a", "eos_token": {"content": "b"}, "chat_template": "x"}',
        "generation_config.json": b'{"eos_token_id": 3}',
    }

    def write(changes: dict[str, bytes]) -> Path:
        for name, content in (sound | changes).items():
            (place / name).write_bytes(content)
        return place

    return write


@pytest.fixture(scope="module")
def whole_gguf(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    place = tmp_path_factory.mktemp("gguf")
    return place / "m.gguf", gguf_bytes(place)


def damage(draw: st.DataObject, content: bytes, reach: int) -> bytes:
    """Flip bits among the first bytes, cut, or repeat a part."""
    changed = bytearray(content)
    for _ in range(draw.draw(st.integers(0, 4))):
        place = draw.draw(st.integers(0, min(reach, len(changed)) - 1))
        changed[place] ^= draw.draw(st.integers(1, 255))
    if draw.draw(st.booleans()):
        begin = draw.draw(st.integers(0, reach))
        changed[begin:begin] = draw.draw(st.binary(max_size=12))
    end = len(changed) if draw.draw(st.booleans()) else draw.draw(st.integers(0, len(changed)))
    return bytes(changed[:end])


FUZZ = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(data=st.data(), name=st.sampled_from(["config.json", "model.safetensors", "tokenizer.json"]))
def test_damaged_folders(folder: Folder, data: st.DataObject, name: str) -> None:
    place = folder({})
    content = (place / name).read_bytes()
    folder({name: damage(data, content, len(content))})
    refusal(lambda: read_all(place))


@FUZZ
@given(data=st.data())
def test_damaged_gguf_files(whole_gguf: tuple[Path, bytes], data: st.DataObject) -> None:
    file, content = whole_gguf
    directory = content.index(b"blk.0.ffn_down.weight") + 64
    file.write_bytes(damage(data, content, data.draw(st.sampled_from([directory, len(content)]))))
    refusal(lambda: read_all(file))


NUMBERS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just([]), st.just({}))


@FUZZ
@given(key=st.sampled_from([*CONFIG, "head_dim", "rms_norm_eps", "rope_theta", "weight_bits"]), value=NUMBERS)
def test_absurd_configs(folder: Folder, key: str, value: object) -> None:
    place = folder({"config.json": json.dumps(CONFIG | {key: value}).encode()})
    refusal(lambda: read_all(place))


def test_the_sound_ones_are_read(folder: Folder, whole_gguf: tuple[Path, bytes]) -> None:
    place = folder({})
    read_all(place)
    text = open_checkpoint(place).text
    assert (text.bos, text.eos, text.add_bos, text.chat_template) == (0, (3, 1), False, "x")
    whole_gguf[0].write_bytes(whole_gguf[1])
    read_all(whole_gguf[0])
    text = open_checkpoint(whole_gguf[0]).text
    assert (text.bos, text.eos, text.add_bos, text.chat_template) == (3, (3,), False, "{{ messages }}")


def with_header(header: object) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(64)


def entry(begin: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "model.safetensors: the file is empty"),
        (b"1234567", "expected at least 8 bytes, got 7"),
        (b"\xff" * 8 + b"{}", "header: expected at most 2 bytes, got 18,446,744,073,709,551,615"),
        (b"\x02" + bytes(7) + b"[]", "header: expected a JSON object, got list"),
        (b"\x04" + bytes(7) + b"{]{]", "header: not JSON"),
        (with_header({"a": 3}), "a: expected an object, got int"),
        (with_header({"a": entry(0, 4, [1], "F31")}), "a: dtype: expected one of BOOL, U8, "),
        (with_header({"a": entry(0, 4, [-1])}), "a: shape: expected at most 8 whole numbers, got '[-1]'"),
        (with_header({"a": entry(0, 8, [1])}), "a: expected 4 bytes for F32 [1], got 8"),
        (with_header({"a": entry(0, 128, [32])}), "a: data_offsets: expected to lie within 64 bytes, got 0 to 128"),
        (with_header({"a": entry(8, 4, [1])}), "a: data_offsets: expected to lie within 64 bytes, got 8 to 4"),
        (with_header({"a": entry(0, 8, [2]), "b": entry(4, 12, [2])}), "b: data_offsets: overlaps with a"),
        (with_header({"a": entry(0, 4, [2**62, 2**62, 0, 4])}), "a: expected 0 bytes for F32"),
        (with_header({"__metadata__": 3}), "__metadata__: expected an object of texts"),
        (
            with_header({}).replace(b"{}", b'{"a":1,"a":2}').replace(b"\x02", b"\x0d", 1),
            "header: not JSON: a name is there",
        ),
    ],
)
def test_safetensors_that_are_refused(folder: Folder, content: bytes, message: str) -> None:
    place = folder({"model.safetensors": content})
    assert message in (refusal(lambda: open_checkpoint(place)) or "")


GGUF_HEAD = b"GGUF" + struct.pack("<I", 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"GGU", "it does not begin with GGUF"),
        (b"PK\x03\x04", "it does not begin with GGUF"),
        (b"GGUF\x03", "version: expected 4 bytes, got 1: truncated, or damaged"),
        (b"GGUF" + struct.pack("<I", 1), "version: expected 2 or 3, got 1"),
        (b"GGUF" + struct.pack(">I", 3), "version: expected 2 or 3, got a big-endian file"),
        (GGUF_HEAD + struct.pack("<QQ", 2**60, 0), "tensor count: expected at most 0, got 1,152,921,504,606,846,976"),
        (GGUF_HEAD + struct.pack("<QQ", 0, 2**60), "metadata count: expected at most 0, got 1,152,921,504,606,846,976"),
        (
            GGUF_HEAD + struct.pack("<QQQ", 0, 1, 2**50) + bytes(64),
            "length of a metadata key: expected at most 64, got",
        ),
        (
            GGUF_HEAD + struct.pack("<QQQ1sIIQ", 0, 1, 1, b"k", 9, 0, 2**60) + bytes(9),
            "length of k: expected at most 9, got 1,152,921,504,606,846,976",
        ),
        (GGUF_HEAD + struct.pack("<QQQ1sIIQ", 0, 1, 1, b"k", 9, 9, 1) + bytes(9), "k: expected a type from 0 to 12"),
        (GGUF_HEAD + struct.pack("<QQQ1sI", 0, 1, 1, b"\xff", 4) + bytes(9), "a metadata key: expected UTF-8 text"),
        (GGUF_HEAD + struct.pack("<QQ", 0, 0), "general.architecture: expected one of llama, "),
    ],
)
def test_gguf_files_that_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "m.gguf").write_bytes(content)
    assert message in (refusal(lambda: open_checkpoint(tmp_path / "m.gguf")) or "")


def test_tensors_of_a_gguf_file_that_are_refused(whole_gguf: tuple[Path, bytes]) -> None:
    file, content = whole_gguf
    name = b"blk.0.attn_q.weight"
    shape = content.index(name) + len(name)

    def refused(place: int, form: str, value: int) -> str:
        changed = bytearray(content)
        struct.pack_into(form, changed, shape + place, value)
        file.write_bytes(changed)
        return refusal(lambda: open_checkpoint(file)) or ""

    assert "attn_q.weight: shape: expected one to four numbers above 0, got (0, 256)" not in refused(4, "<Q", 256)
    assert "attn_q.weight: shape: expected one to four numbers above 0" in refused(4, "<Q", 0)
    assert "attn_q.weight: columns: expected a multiple of 256 for TQ1_0, got 255" in refused(4, "<Q", 255)
    assert "attn_q.weight: expected shape (256, 256), got (256, 512)" in refused(4, "<Q", 512) or "overlaps" in refused(
        4, "<Q", 512
    )
    assert "attn_q.weight: type: expected one that GGUF has, got 99" in refused(20, "<I", 99)
    assert "overlaps with" in refused(24, "<Q", 32)
    assert "the file ends at" in refused(24, "<Q", 2**63)
    assert "the file ends at" in refused(12, "<Q", 2**60)


def added(number: int) -> dict[str, object]:
    return {"id": number, "content": "z", "special": True} | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)


@pytest.mark.parametrize(
    "change",
    [
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False}},
        {"added_tokens": [added(2**32)]},
        {"model": {"type": "Unigram", "unk_id": 7, "vocab": [["a", 0.0]]}},
        {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]}},
        {
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "x", "type_id": 0}}],
                "pair": [],
                "special_tokens": {},
            }
        },
    ],
    ids=lambda change: next(iter(change)),
)
def test_tokenizers_that_are_refused(folder: Folder, change: dict[str, object]) -> None:
    """Some of these end in a panic of the package's Rust."""
    place = folder({"tokenizer.json": json.dumps(TOKENIZER | change).encode()})
    assert "tokenizer.json: not a tokenizer: " in (refusal(lambda: open_checkpoint(place)) or "")


def test_padding_and_truncation_of_a_tokenizer_are_left_out(folder: Folder) -> None:
    pad = {"direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "a"}
    cut = {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0}
    change = {"padding": pad | {"strategy": {"Fixed": 10**12}}, "truncation": cut}
    text = open_checkpoint(folder({"tokenizer.json": json.dumps(TOKENIZER | change).encode()})).text
    assert text.tokenizer is not None
    assert Tokenizer.from_str(text.tokenizer.decode()).encode("abc").ids == [0, 1, 2]


def test_places_that_hold_no_model(tmp_path: Path, folder: Folder) -> None:
    assert "expected a file" in (refusal(lambda: open_checkpoint(tmp_path / "nothing")) or "")
    assert "config.json: No such file" in (refusal(lambda: open_checkpoint(tmp_path)) or "")
    place = folder({"tokenizer.json": json.dumps(TOKENIZER).replace('"g": 6', '"g": 8').encode()})
    message = refusal(lambda: open_checkpoint(place)) or ""
    assert "tokenizer.json: expected tokens below 8 (rows of the embedding), got 8" in message
    place = folder({"config.json": b"[" * 100_000})
    assert "config.json: not JSON" in (refusal(lambda: open_checkpoint(place)) or "")
    folder({})
