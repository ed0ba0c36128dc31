"""config.json to ModelSpec: each family, and every way a file can be wrong."""

import itertools
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refusal
from shapes import config_of

from bitsim.energy_tables import model_rows
from bitsim.simulator import ModelSpec, resolve_model, resolve_size_or_model, spec_from_config
from bitsim.simulator.model_config import FAMILIES

ROWS = model_rows()
PRESETS = [name for name, row in ROWS.items() if row.architecture in FAMILIES]
LLAMA = config_of(ROWS["llama-2-7b"])
REQUIRED = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size", "vocab_size")


def written(folder: Path, content: str | bytes, name: str = "config.json") -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@pytest.mark.parametrize("name", PRESETS)
def test_a_presets_config_gives_the_preset(name: str) -> None:
    row = ROWS[name]
    preset = replace(ModelSpec.from_row(row), max_context=row.max_context or 2048, sources=())
    assert spec_from_config(config_of(row), "config.json", name) == preset


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_preset(family: str) -> None:
    assert family in {ROWS[name].architecture for name in PRESETS}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_silent_config_means_what_the_family_builds(family: str) -> None:
    row = next(ROWS[name] for name in PRESETS if ROWS[name].architecture == family)
    config = {**config_of(row), "num_attention_heads": 16, "hidden_size": 1024}
    for key in ("head_dim", "tie_word_embeddings", "attention_bias", "max_position_embeddings"):
        del config[key]
    config["num_key_value_heads"] = None
    spec = spec_from_config(config, "config.json")
    assert spec.kv_heads == 16
    assert spec.head_dim == {"gemma": 256, "gemma2": 256, "gemma3_text": 256, "qwen3": 128}.get(family, 64)
    assert spec.tied_head == family.startswith("gemma")
    assert (spec.qkv_bias, spec.output_bias) == (family == "qwen2", False)
    assert spec.max_context is None


@pytest.mark.parametrize("key", ["num_experts", "num_local_experts"])
def test_the_number_of_experts_goes_by_both_of_its_names(key: str) -> None:
    config = config_of(ROWS["qwen3-30b-a3b"])
    config[key] = config.pop("num_experts")  # transformers 5 writes num_local_experts
    assert spec_from_config(config, "config.json").experts == 128


def test_the_language_part_of_a_larger_config_is_read() -> None:
    outer = {"model_type": "gemma3", "text_config": config_of(ROWS["gemma-3-1b"])}
    assert spec_from_config(outer, "config.json").hidden == 1152


@pytest.mark.parametrize("family", ["llama", "gemma", "qwen3", "bitnet"])
def test_attention_bias_is_on_queries_keys_values_and_output(family: str) -> None:
    spec = spec_from_config({**LLAMA, "model_type": family, "attention_bias": True}, "config.json")
    assert (spec.qkv_bias, spec.output_bias) == (True, True)


@pytest.mark.parametrize("key", REQUIRED)
@pytest.mark.parametrize("value", [None, "many", 1.5, True, 0, -1, 2**60, 10**400, [], {}, [[1]]])
def test_a_wrong_key_is_named(key: str, value: Any) -> None:
    message = refusal(lambda: spec_from_config({**LLAMA, key: value}, "config.json"))
    assert (message or "").startswith(f"config.json: {key}: expected a whole number above 0, got ")


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_key_is_named(key: str) -> None:
    config = {name: value for name, value in LLAMA.items() if name != key}
    message = refusal(lambda: spec_from_config(config, "config.json"))
    assert message == f"config.json: {key}: expected a whole number above 0, got nothing"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"model_type": None}, "model_type: expected one of llama, mistral"),
        ({"model_type": "gpt2"}, "got 'gpt2'"),
        ({"model_type": ["llama"]}, "model_type: expected one of "),
        ({"model_type": "a\nb"}, "model_type: expected one of "),
        ({"model_type": "\ud800"}, "model_type: expected one of "),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings: expected true or false, got 'yes'"),
        ({"mlp_bias": True}, "mlp_bias: expected false"),
        ({"num_key_value_heads": 5}, "kv_heads: expected a divisor of heads (32), got 5"),
        ({"hidden_size": 10**9}, "hidden: expected a whole number from 1 to 1,000,000"),
        ({"num_hidden_layers": 10**9}, "layers: expected a whole number from 1 to 10,000"),
        ({"model_type": "mixtral"}, "num_local_experts: expected a whole number above 0, got nothing"),
    ],
)
def test_what_is_no_covered_model_is_refused(change: dict[str, Any], expected: str) -> None:
    assert expected in (refusal(lambda: spec_from_config({**LLAMA, **change}, "config.json")) or "")


def test_a_folder_gives_its_config_and_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    written(folder, json.dumps(LLAMA))
    assert resolve_model(str(folder)).name == "my-model"
    assert resolve_model(str(folder / "config.json")) == resolve_model(str(folder))


@pytest.mark.parametrize(
    "name", ["my-model", "./my-model", "../here/my-model", ".my-model", "7b-model", "./7b-model/config.json"]
)
def test_a_folder_is_found_however_its_path_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    here = tmp_path / "here"
    folder = here / name.removesuffix("/config.json")
    os.makedirs(folder)  # noqa: PTH103 - keeps the ../ that pathlib would also keep, without resolving it
    written(folder, json.dumps(LLAMA))
    monkeypatch.chdir(here)
    assert resolve_size_or_model(name).hidden == 4096


def test_a_preset_is_found_in_any_case() -> None:
    assert resolve_size_or_model(" LLAMA-2-7B ").name == "llama-2-7b"


@pytest.mark.parametrize("name", ["llama-2-7", "bitnet-b1.58-2B4T", "lama-3-8b"])
def test_a_near_miss_gets_a_suggestion(name: str) -> None:
    assert "; did you mean '" in (refusal(lambda: resolve_size_or_model(name)) or "")


@pytest.mark.parametrize(
    "name", ["", " ", "\0", "a\nb", "\ud800", "x" * 5000, "no.json", "no.csv", "70", "-5", "nan", "1e400", "70Q"]
)
def test_what_is_no_model_is_refused_in_one_line(name: str) -> None:
    assert refusal(lambda: resolve_size_or_model(name))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"model_type": "llama", ', ":1: expected JSON, got "),
        ("", ":1: expected JSON, got "),
        ("[1, 2]", ": expected a JSON object, got list"),
        ('"llama"', ": expected a JSON object, got str"),
        ("null", ": expected a JSON object, got NoneType"),
        ("[" * 100_000, ": expected JSON, got something nested too deep"),
        ('{"model_type": ' + "[" * 100_000, ": expected JSON, got something nested too deep"),
        ('{"hidden_size": 1' + "0" * 5000 + "}", "a number too long"),
        ('{"hidden_size": NaN}', "model_type: expected one of"),
        (json.dumps(LLAMA).encode("utf-16"), ": expected UTF-8 text, got byte 0xff at offset 0"),
        (b" " * (17 * 1024**2), "at most 16 MiB"),
        (json.dumps({**LLAMA, "hidden_size": 1e400}), "hidden_size: expected a whole number above 0, got 'inf'"),
    ],
    ids=[
        "truncated",
        "empty",
        "list",
        "text",
        "null",
        "deep",
        "deep key",
        "5001 digits",
        "nan",
        "utf-16",
        "17 MiB",
        "infinity",
    ],
)
def test_a_damaged_config_is_refused(tmp_path: Path, content: str | bytes, expected: str) -> None:
    path = written(tmp_path, content)
    message = refusal(lambda: resolve_model(path)) or ""
    assert message.startswith(path)
    assert expected in message


@pytest.mark.parametrize("depth", range(940, 1000, 3))
def test_nesting_just_below_what_json_can_take_is_refused(tmp_path: Path, depth: int) -> None:
    path = written(tmp_path, '{"model_type": ' + "[" * depth + "]" * depth + "}")
    assert refusal(lambda: resolve_model(path))


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    assert refusal(lambda: resolve_model(str(tmp_path))) == f"{tmp_path}/config.json: no such file"


def test_a_csv_of_models_must_hold_one(tmp_path: Path) -> None:
    header, first, second = Path(model_file()).read_text(encoding="utf-8").splitlines()[:3]
    one = written(tmp_path, f"{header}\n{first}\n", "one.csv")
    assert resolve_model(one).name == "bitnet-125M"
    two = written(tmp_path, f"{header}\n{first}\n{second}\n", "two.csv")
    assert refusal(lambda: resolve_model(two)) == f"{two}: expected one model, got 2"


def model_file() -> Path:
    from bitsim.energy_tables.citations import DATA

    return DATA / "models.csv"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = sorted({key for name in PRESETS for key in config_of(ROWS[name])} | {"text_config", "mlp_bias", "_name_or_path"})


@given(st.sampled_from(FAMILIES), st.dictionaries(st.sampled_from(KEYS), JSON | st.integers(1, 10**6)))
def test_any_values_of_the_known_keys_are_a_model_or_refused(family: str, changes: dict[str, Any]) -> None:
    config = {**LLAMA, **changes, "model_type": family}
    if refusal(lambda: spec_from_config(config, "config.json")) is None:
        assert spec_from_config(config, "config.json").parameters > 0


@pytest.fixture(scope="module")
def new_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bytes], str]:
    folder, number = tmp_path_factory.mktemp("configs"), itertools.count()
    return lambda content: written(folder, content, f"{next(number)}.json")


@given(
    content=st.binary()
    | st.text(st.characters(codec="utf-8")).map(str.encode)
    | JSON.map(lambda value: json.dumps(value).encode())
)
def test_any_content_is_refused_in_one_line(new_file: Callable[[bytes], str], content: bytes) -> None:
    path = new_file(content)
    assert refusal(lambda: resolve_model(path))


@given(st.text())
def test_any_text_is_a_model_or_refused_in_one_line(text: str) -> None:
    refusal(lambda: resolve_size_or_model(text))
