"""`bitsim estimate`: the JSON contract, the formats and the screen."""

import csv
import io
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from bitsim.simulator import estimate
from bitsim.training.fit import fit_law
from bitsim.training.law_file import Origin, write_law
from bitsim.training.measured import Measured

Run = Callable[..., Result]

ENERGY = ("arithmetic_linear", "arithmetic_attention", "arithmetic_other", "dram", "on_chip", "static")


def loaded(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for item in value.values():
            yield from numbers(item)
    elif isinstance(value, list):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def test_json_has_the_keys_of_the_contract(bitsim: Run) -> None:
    found = loaded(bitsim("estimate", "--size", "70B", "--format", "json"))
    assert {"name", "parameters", "parameters_linear", "parameters_embedding", "layers", "hidden"} <= set(
        found["model"]
    )
    assert set(found["workload"]) == {"batch", "prompt_tokens", "new_tokens", "context"}
    assert [e["scheme"] for e in found["estimates"]] == ["fp16", "b1.58"]
    for one in found["estimates"]:
        assert {"scheme", "hardware", "engine", "node", "tokens_per_s", "loss", "cost", "sources"} <= set(one)
        assert {*ENERGY, "total", "per_new_token"} <= set(one["energy_j"])
        assert {"prefill", "per_new_token", "total"} <= set(one["latency_s"])
        assert set(one["bound"]) == {"prefill", "decode"}
        assert {"weights", "embedding_and_head", "kv_cache", "activations", "total"} <= set(one["dram_bytes"])
        assert {"prefill", "per_new_token"} <= set(one["traffic_bytes"])
        assert set(one["energy_j"]["total_range"]) == {"low", "mid", "high"}
    (ratio,) = found["ratios"]
    assert (ratio["of"], ratio["to"], ratio["hardware"]) == ("fp16", "b1.58", "a100-80gb")
    assert {"energy_total", "energy_arithmetic", "latency_per_new_token", "dram_total"} <= set(ratio)
    assert all(math.isfinite(number) for number in numbers(found))


def test_json_totals_are_the_sums_of_their_parts(bitsim: Run) -> None:
    for one in loaded(bitsim("estimate", "--model", "mixtral-8x7b", "--devices", "2", "--format", "json"))["estimates"]:
        energy, memory = one["energy_j"], one["dram_bytes"]
        assert energy["total"] == pytest.approx(sum(energy[name] for name in (*ENERGY, "link")), rel=1e-12)
        assert memory["total"] == pytest.approx(sum(v for k, v in memory.items() if k != "total"), rel=1e-12)


def test_json_is_what_the_python_interface_returns(bitsim: Run) -> None:
    args = ("--model", "bitnet-b1.58-2B-4T", "--hardware", "raspberry-pi-5", "--scheme", "b1.58", "--threads", "2")
    (one,) = loaded(bitsim("estimate", *args, "--format", "json"))["estimates"]
    result = estimate("bitnet-b1.58-2B-4T", "b1.58", "raspberry-pi-5", threads=2)
    assert one["tokens_per_s"] == result.tokens_per_s.mid
    assert one["energy_j"]["total"] == result.energy_j["total"].mid
    assert one["dram_bytes"]["total"] == result.dram_bytes.total


def test_default_hardware_is_as_many_as_fp16_needs(bitsim: Run) -> None:
    assert {e["devices"] for e in loaded(bitsim("estimate", "--size", "405B", "--format", "json"))["estimates"]} == {11}
    assert "as many as FP16 needs" in bitsim("estimate", "--size", "405B").stdout


def test_screen_has_ratios_ranges_bounds_what_is_left_out_and_sources(bitsim: Run) -> None:
    screen = bitsim("estimate", "--size", "70B").stdout
    for text in ("fp16 / b1.58", "range", "bound by", "Left out", "Sources: jouppi2021", "71.4x", "16.7x"):
        assert text in screen
    assert "\x1b" not in screen


@pytest.mark.parametrize("form", ["table", "json", "csv", "markdown"])
@pytest.mark.parametrize("extra", [(), ("--by-operation",), ("--serving",), ("--training", "--tokens", "2T")])
def test_every_format_of_every_mode(bitsim: Run, form: str, extra: tuple[str, ...]) -> None:
    result = bitsim("estimate", "--size", "7B", "--format", form, *extra)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    if form == "json":
        json.loads(result.stdout)
    elif form == "csv":
        rows = list(csv.DictReader(io.StringIO(result.stdout)))
        assert rows
        assert all(None not in row and None not in row.values() for row in rows)
    elif form == "markdown":
        assert len({line.count(" | ") for line in result.stdout.splitlines()}) == 1


def test_several_machines_each_get_their_ratio(bitsim: Run) -> None:
    args = ("--hardware", "m2-ultra", "--hardware", "i7-13700h")
    found = loaded(bitsim("estimate", "--size", "7B", *args, "--format", "json"))
    assert [(r["hardware"], r["to"]) for r in found["ratios"]] == [("m2-ultra", "b1.58"), ("i7-13700h", "b1.58")]


def test_own_hardware_energies_and_model(bitsim: Run, tmp_path: Path) -> None:
    from bitsim.energy_tables.citations import DATA

    machine = tmp_path / "mine.toml"
    text = (DATA / "hardware" / "raspberry-pi-5.toml").read_text(encoding="utf-8")
    machine.write_text(text.replace('name = "raspberry-pi-5"', 'name = "mine"'), encoding="utf-8")
    energies = tmp_path / "op.csv"
    energies.write_text(
        "node,operation,number_format,energy_pj_low,energy_pj,energy_pj_high,source,locator,status,note\n"
        "7nm,add,int32,,0.06,,mine,bench,seen,\n",
        encoding="utf-8",
    )
    config = tmp_path / "config.json"
    config.write_text(
        json.dumps(
            {
                "model_type": "llama",
                "hidden_size": 1024,
                "num_hidden_layers": 4,
                "num_attention_heads": 8,
                "intermediate_size": 2816,
                "vocab_size": 5000,
            }
        ),
        encoding="utf-8",
    )
    args = ("estimate", "--model", str(tmp_path), "--hardware", str(machine), "--scheme", "b1.58", "--format", "json")
    plain, doubled = (loaded(bitsim(*args, *extra)) for extra in ((), ("--energy-table", str(energies))))
    assert plain["estimates"][0]["hardware"] == "mine"
    assert plain["model"]["name"] == tmp_path.name
    linear = [found["estimates"][0]["energy_j"]["arithmetic_linear"] for found in (plain, doubled)]
    assert linear[1] == pytest.approx(2 * linear[0])


def test_training_and_loss_need_tokens(bitsim: Run) -> None:
    assert bitsim("estimate", "--size", "7B", "--training").exit_code == 2
    found = loaded(bitsim("estimate", "--size", "1B", "--tokens", "300B", "--format", "json"))["estimates"]
    assert found[0]["loss"]["law"] == "chinchilla-besiroglu"
    assert found[1]["loss"]["law"] == "chinchilla-besiroglu by trilm/floatlm"
    assert found[1]["loss"]["low"] < found[1]["loss"]["value"] < found[1]["loss"]["high"]
    assert found[0]["loss"]["value"] < found[1]["loss"]["value"]
    screen = bitsim("estimate", "--size", "1B", "--tokens", "300B").stdout
    assert "Loss: fp16 by chinchilla-besiroglu; b1.58 by chinchilla-besiroglu by trilm/floatlm" in screen


def test_the_loss_by_a_law_from_a_file(bitsim: Run, tmp_path: Path) -> None:
    sizes = np.tile(np.geomspace(3e5, 5e6, 6), 4)
    tokens = sizes * np.repeat([10, 40, 10, 40], 6)
    loss = (1.5 + 60 / sizes**0.3 + 90 / tokens**0.33) * np.repeat([1.0, 1.0, 1.05, 1.05], 6)
    loss *= 1 + 0.005 * np.random.default_rng(0).standard_normal(len(sizes))
    points = Measured.of(sizes, loss, tokens, ["fp16"] * 12 + ["b1.58"] * 12, "held_out_loss")
    fit = fit_law(replace(points, counts="non_embedding"), "chinchilla", resamples=30)
    law = tmp_path / "law.json"
    empty: dict[str, tuple[str, ...]] = dict.fromkeys(("data", "data_hash", "tokenizer_hash", "vocab"), ())
    write_law(law, fit, Origin("runs.csv", empty, {"bitsim": "0"}))
    asked = ("estimate", "--size", "5M", "--tokens", "50M", "--scheme", "fp16", "--scheme", "b1.58", "--format", "json")
    found = loaded(bitsim(*asked, "--law", str(law)))
    for each in found["estimates"]:
        low, value, high = fit.predict(found["model"]["parameters_linear"], 5e7, each["scheme"]).value
        assert each["loss"] == {"law": "law.json", "value": value, "low": low, "high": high}
    named = loaded(bitsim(*asked, "--law", "fp16=chinchilla"))["estimates"]
    assert [each["loss"]["law"] for each in named] == ["chinchilla", "chinchilla by trilm/floatlm"]


@pytest.mark.parametrize(
    ("law", "complaint"),
    [
        (("--law", "trilm"), "loss law trilm: expected a law that knows tokens"),
        (("--law", "chinchila"), "expected a file of bitsim fit-law or a published law, got 'chinchila'"),
        (("--law", "chinchilla", "--law", "kaplan"), "--law: expected one law of fp16, got two"),
    ],
)
def test_laws_that_say_nothing_are_refused(bitsim: Run, law: tuple[str, ...], complaint: str) -> None:
    result = bitsim("estimate", "--size", "7B", "--tokens", "1T", *law)
    assert result.exit_code in (1, 2)
    assert complaint in result.stderr


def test_a_law_without_tokens(bitsim: Run) -> None:
    result = bitsim("estimate", "--size", "7B", "--law", "chinchilla")
    assert result.exit_code == 2
    assert "it needs --tokens" in result.stderr


def test_own_process_node_reaches_the_screen(bitsim: Run, tmp_path: Path) -> None:
    from bitsim.energy_tables.citations import DATA

    header, *rows = (DATA / "op_energy.csv").read_text(encoding="utf-8").splitlines()
    own = tmp_path / "own.csv"
    own.write_text(
        "\n".join([header, *(r.replace("7nm", "5nm", 1) for r in rows if r.startswith("7nm"))]), encoding="utf-8"
    )
    screen = bitsim("estimate", "--size", "7B", "--node", "5nm", "--energy-table", str(own))
    assert screen.exit_code == 0, screen.output
    assert "one product at 5nm" in screen.stdout
    assert "unknown node '5nm'" in bitsim("estimate", "--size", "7B", "--node", "5nm").stderr
