"""estimate(): sums, ranges, growth and refusals of the whole answer."""

import itertools
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from refusals import refusal

from bitsim.energy_tables import Interval, cite, hardware_names
from bitsim.energy_tables.citations import DATA
from bitsim.simulator import SCHEMES, Estimate, ModelSpec, estimate, resolve_model, spec_for_size
from bitsim.simulator.cost import ENERGY_PARTS
from bitsim.simulator.model_spec import LIMITS

MACHINES = ("raspberry-pi-5", "m2-ultra", "a100-80gb", "ternary-asic")
SETTINGS = st.fixed_dictionaries(
    {
        "scheme": st.sampled_from(["fp16", "b1.58", "w8a8", "w4a4", "xnor"]),
        "hardware": st.sampled_from(MACHINES),
        "batch": st.integers(1, 64),
        "prompt_tokens": st.integers(0, 3000),
        "new_tokens": st.integers(1, 3000),
        "devices": st.integers(1, 8),
        "split": st.sampled_from(["pipeline", "tensor"]),
    }
)
SIZES = st.floats(5.0, 13.0).map(lambda exponent: 10.0**exponent)
SMALL = ModelSpec(
    name="small",
    architecture="llama",
    layers=4,
    hidden=256,
    heads=12,
    kv_heads=2,
    head_dim=32,
    ffn=512,
    vocab=1000,
    experts=8,
)
RASPBERRY = (DATA / "hardware" / "raspberry-pi-5.toml").read_text(encoding="utf-8")


def intervals(result: Estimate) -> Iterator[tuple[str, Interval]]:
    for holder in fields(result):
        value = getattr(result, holder.name)
        if isinstance(value, Interval):
            yield holder.name, value
        elif isinstance(value, dict):
            yield from ((f"{holder.name} {key}", v) for key, v in value.items() if isinstance(v, Interval))


def energies_and_times(result: Estimate) -> dict[str, float]:
    kept = ("energy_j total", "token_energy_j total", "prefill_s", "per_new_token_s", "latency_s")
    return {
        f"{name} {corner}": getattr(v, corner)
        for name, v in intervals(result)
        if name in kept
        for corner in ("low", "mid", "high")
    }


def falls(before: Estimate, after: Estimate, *, but: str = "none") -> dict[str, tuple[float, float]]:
    """Energies and times that became less, rounding aside."""
    old, new = energies_and_times(before), energies_and_times(after)
    assert len(old) >= 12
    return {
        name: (old[name], new[name]) for name in old if not name.startswith(but) and new[name] < old[name] * (1 - 1e-9)
    }


@given(SIZES, SETTINGS)
def test_ranges_are_in_order_and_the_total_is_the_sum_of_its_parts(size: float, setting: dict[str, Any]) -> None:
    result = estimate(spec_for_size(size), **setting)
    for name, interval in intervals(result):
        assert 0 <= interval.low <= interval.mid <= interval.high < float("inf"), name
    for energy in (result.energy_j, result.token_energy_j):
        assert set(energy) == {*ENERGY_PARTS, "total"}
        assert energy["total"].mid == pytest.approx(sum(energy[part].mid for part in ENERGY_PARTS))
    assert result.token_energy_j["total"].mid > 0
    assert result.dram_bytes.total == pytest.approx(
        sum(getattr(result.dram_bytes, f.name) for f in fields(result.dram_bytes))
    )


@given(SIZES, SETTINGS)
def test_the_table_of_operations_adds_up_to_the_estimate(size: float, setting: dict[str, Any]) -> None:
    result = estimate(spec_for_size(size), **setting)
    sums = result.to_frame().groupby("phase").sum(numeric_only=True)
    steps = setting["new_tokens"]

    def total(column: str) -> float:
        return float(sums.loc["prefill", column] + steps * sums.loc["decode", column])

    parts = result.energy_j
    arithmetic = sum(parts[name].mid for name in ENERGY_PARTS if name.startswith("arithmetic"))
    assert total("arithmetic_j") == pytest.approx(arithmetic)
    assert total("dram_j") == pytest.approx(parts["dram"].mid)
    assert total("on_chip_j") == pytest.approx(parts["on_chip"].mid + parts["link"].mid)
    assert sums.loc["prefill", "latency_s"] == pytest.approx(result.prefill_s.mid)
    assert sums.loc["decode", "latency_s"] == pytest.approx(result.per_new_token_s.mid)
    assert sums.loc["prefill", "dram_bytes"] == pytest.approx(result.traffic_bytes["prefill"])
    assert sums.loc["decode", "dram_bytes"] == pytest.approx(result.traffic_bytes["per_step"])


@given(SIZES, SETTINGS)
def test_time_speed_and_static_power_go_together(size: float, setting: dict[str, Any]) -> None:
    result = estimate(spec_for_size(size), **setting)
    steps = setting["new_tokens"]
    assert result.latency_s.mid == pytest.approx(result.prefill_s.mid + steps * result.per_new_token_s.mid)
    assert result.tokens_per_s.mid == pytest.approx(setting["batch"] / result.per_new_token_s.mid)
    busy, idle, peak = (result.hardware.value(name).mid for name in ("busy_w", "idle_w", "peak_w"))
    working = setting["devices"] if setting["split"] == "tensor" else 1
    waiting = setting["devices"] - working
    static, seconds = result.energy_j["static"].mid, result.latency_s.mid
    assert static <= (busy * working + idle * waiting) * seconds * (1 + 1e-9)
    dynamic = result.energy_j["total"].mid - static
    if static > 0:
        assert static + dynamic <= (peak * working + idle * waiting) * seconds * (1 + 1e-9)


@given(SIZES, SETTINGS, st.sampled_from(["batch", "prompt_tokens", "new_tokens"]), st.integers(1, 100))
def test_more_work_never_takes_less_energy_or_time(size: float, setting: dict[str, Any], grows: str, more: int) -> None:
    spec = spec_for_size(size)
    before, after = estimate(spec, **setting), estimate(spec, **{**setting, grows: setting[grows] + more})
    # A larger batch shares the reading of the weights: its energy per token may fall.
    assert falls(before, after, but="token_energy_j" if grows == "batch" else "none") == {}


@given(SIZES, SETTINGS, st.integers(0, 5000), st.integers(1, 5000))
def test_a_longer_context_never_takes_less_energy_or_time(
    size: float, setting: dict[str, Any], earlier: int, more: int
) -> None:
    spec, needed = spec_for_size(size), setting["prompt_tokens"] + setting["new_tokens"]
    before = estimate(spec, **setting, context=needed + earlier)
    assert falls(before, estimate(spec, **setting, context=needed + earlier + more)) == {}


@given(SIZES, st.floats(1.0, 1.1) | st.floats(1.0, 1e8), SETTINGS)
@example(
    1.3596e10,
    1.0025,
    {
        "scheme": "b1.58",
        "hardware": "ternary-asic",
        "batch": 1,
        "prompt_tokens": 512,
        "new_tokens": 128,
        "devices": 1,
        "split": "pipeline",
    },
)
def test_a_larger_size_never_takes_less_energy_or_time(size: float, factor: float, setting: dict[str, Any]) -> None:
    small, large = spec_for_size(size), spec_for_size(min(size * factor, 1e13))
    assert falls(estimate(small, **setting), estimate(large, **setting)) == {}


@pytest.mark.parametrize("hardware", [*MACHINES, None])
@pytest.mark.parametrize("scheme", ["fp16", "b1.58"])
def test_a_fine_grid_of_sizes_never_takes_less_energy_or_time(scheme: str, hardware: str | None) -> None:
    found = [estimate(spec_for_size(10 ** (5 + step / 25)), scheme, hardware) for step in range(201)]
    assert [fallen for small, large in itertools.pairwise(found) if (fallen := falls(small, large))] == []


@given(st.sampled_from([name for name in LIMITS if name != "kv_heads"]), st.integers(2, 4), SETTINGS)
def test_a_larger_field_of_the_shape_never_takes_less_energy_or_time(
    field: str, factor: int, setting: dict[str, Any]
) -> None:
    larger = replace(SMALL, **{field: getattr(SMALL, field) * factor})
    assert falls(estimate(SMALL, **setting), estimate(larger, **setting)) == {}


@given(st.sampled_from([1, 2, 3, 4, 6, 12]), st.sampled_from([1, 2, 3, 4, 6, 12]), SETTINGS)
def test_more_key_heads_never_take_less_energy_or_time(few: int, many: int, setting: dict[str, Any]) -> None:
    assume(few < many)
    before, after = (estimate(replace(SMALL, kv_heads=count), **setting) for count in (few, many))
    assert falls(before, after) == {}


@pytest.mark.parametrize("option", ["gated_ffn", "sub_norms", "post_norms", "qk_norm", "qkv_bias", "output_bias"])
@pytest.mark.parametrize("hardware", MACHINES)
def test_an_option_of_the_shape_never_takes_less_energy_or_time(option: str, hardware: str) -> None:
    with_it: dict[str, Any] = {option: True}
    without: dict[str, Any] = {option: False}
    before, after = (estimate(replace(SMALL, **change), "b1.58", hardware) for change in (without, with_it))
    assert falls(before, after) == {}


@pytest.mark.parametrize(
    ("scheme", "hardware"),
    [pair for pair in itertools.product(SCHEMES, hardware_names()) if pair != ("fp32", "ternary-asic")],
)
def test_every_scheme_runs_on_every_machine_and_cites_known_sources(scheme: str, hardware: str) -> None:
    result = estimate("1B", scheme, hardware)
    assert result.token_energy_j["total"].low > 0
    assert result.tokens_per_s.low > 0
    assert len(cite(result.sources)) == len(result.sources) > 2


def test_a_format_that_the_machine_cannot_compute_is_refused_with_what_it_can() -> None:
    message = refusal(lambda: estimate("1B", "fp32", "ternary-asic")) or ""
    assert message.startswith("ternary-asic: has no fp32_flops_per_s")
    assert "ternary_ops_per_s" in message


@pytest.mark.parametrize("hardware", hardware_names())
def test_ternary_takes_less_of_everything_than_fp16(hardware: str) -> None:
    ternary, fp16 = (estimate("7B", scheme, hardware, engine="ideal") for scheme in ("b1.58", "fp16"))
    assert ternary.energy_j["total"].mid < fp16.energy_j["total"].mid
    assert ternary.per_new_token_s.mid < fp16.per_new_token_s.mid
    assert ternary.dram_bytes.total < fp16.dram_bytes.total


def test_skipping_zeros_saves_a_third_of_the_ternary_additions_and_nothing_of_fp16() -> None:
    for scheme, share in (("b1.58", 2 / 3), ("fp16", 1.0)):
        all_of_them, skipped = (estimate("7B", scheme, skip_zeros=skip).energy_j for skip in (False, True))
        assert skipped["arithmetic_linear"].mid == pytest.approx(share * all_of_them["arithmetic_linear"].mid)
        assert skipped["dram"] == all_of_them["dram"]


def test_without_a_machine_there_are_as_many_a100_as_fp16_needs() -> None:
    assert [estimate(size, "b1.58").devices for size in ("7B", "70B", "405B")] == [1, 2, 11]
    assert {estimate(size).hardware.name for size in ("7B", "70B")} == {"a100-80gb"}
    assert estimate("70B", hardware="a100-80gb").devices == 1


def test_what_does_not_fit_says_so() -> None:
    result = estimate("70B", "fp16", "raspberry-pi-5")
    assert not result.fits
    assert result.largest_context == 0
    assert result.notes[0].startswith("does not fit: 1")
    assert estimate("1B", "b1.58", "raspberry-pi-5").fits


def test_the_largest_context_fits_and_is_long() -> None:
    result = estimate("7B", "b1.58", "a100-80gb")
    longest = estimate("7B", "b1.58", "a100-80gb", context=result.largest_context)
    assert result.largest_context > 10_000
    assert longest.dram_bytes.total <= longest.capacity_bytes * (1 + 1e-12)


def test_stretched_results_say_so() -> None:
    notes = " ".join(estimate("llama-2-7b", "b1.58", "raspberry-pi-4", context=10_000, tokens=1e12).notes)
    assert "beyond the 4,096 positions" in notes
    assert "transferred: " in notes
    assert "extrapolated" in notes
    assert "12.7B of 46.7B parameters active" in " ".join(estimate("mixtral-8x7b").notes)
    assert "3 devices would hold them" in " ".join(estimate("13B", "b1.58", "ternary-asic").notes)


def test_weights_on_chip_leave_dram_to_the_rest() -> None:
    one, two = (estimate("7B", "b1.58", "ternary-asic", devices=devices) for devices in (1, 2))
    assert one.traffic_bytes["per_new_token"] > 1.6e9
    assert two.traffic_bytes["per_new_token"] < 0.7e9
    assert two.per_new_token_s.mid < one.per_new_token_s.mid


def test_a_tensor_split_is_faster_and_a_pipeline_is_not() -> None:
    one = estimate("70B", "fp16", "h100-sxm", engine="ideal")
    tensor, pipeline = (
        estimate("70B", "fp16", "h100-sxm", engine="ideal", devices=4, split=s) for s in ("tensor", "pipeline")
    )
    assert tensor.per_new_token_s.mid < one.per_new_token_s.mid < pipeline.per_new_token_s.mid


def test_the_papers_mode_counts_arithmetic_alone() -> None:
    result = estimate("bitnet-b1.58-70B", "b1.58", energy="paper")
    assert result.paper is not None
    assert {part for part in ENERGY_PARTS if result.energy_j[part].mid} == {"arithmetic_linear", "arithmetic_attention"}
    assert result.energy_j["total"].mid == pytest.approx(result.paper.total_j)
    assert result.energy_per_new_token_j is None


@pytest.mark.parametrize("mode", ["full", "paper"])
@pytest.mark.parametrize("prompt", [0, 512])
def test_it_is_shown_in_one_line(mode: str, prompt: int) -> None:
    text = repr(estimate("7B", hardware="m2", energy=mode, prompt_tokens=prompt))
    assert text.startswith("<Estimate 7.00B b1.58 on 1 x m2 (bitnet.cpp): ")
    assert text.isprintable()


def test_a_prompt_alone_and_new_tokens_alone_are_workloads() -> None:
    read, written = estimate("7B", new_tokens=0), estimate("7B", prompt_tokens=0)
    assert read.latency_s.mid == pytest.approx(read.prefill_s.mid)
    assert written.prefill_s.mid == 0.0
    assert written.bound["prefill"] == "none"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"model": "llama-2-7"}, "unknown model 'llama-2-7'; did you mean 'llama-2-7b'?"),
        ({"scheme": "b1,58"}, "unknown scheme 'b1,58'; did you mean 'b1.58'?"),
        ({"hardware": "rasberry-pi-5"}, "unknown hardware 'rasberry-pi-5'; did you mean 'raspberry-pi-5'?"),
        ({"engine": "bitnetcpp"}, "unknown engine 'bitnetcpp'; did you mean 'bitnet.cpp'?"),
        ({"node": "7nn"}, "unknown node '7nn'; did you mean '7nm'?"),
        ({"energy": "papers"}, "unknown energy 'papers'; did you mean 'paper'?"),
        ({"split": "tensors"}, "unknown split 'tensors'; did you mean 'tensor'?"),
        ({"region": "wrld"}, "unknown region 'wrld'; did you mean 'world'?"),
        ({"batch": 0}, "batch: expected a whole number from 1"),
        ({"prompt_tokens": -1}, "prompt tokens: expected a whole number from 0"),
        ({"new_tokens": 0.5}, "new tokens: expected a whole number from 0"),
        ({"context": 10}, "context: expected a whole number from 640"),
        ({"devices": 0}, "devices: expected "),
        ({"devices": 1.5}, "devices: expected "),
        ({"devices": 10**7}, "devices: expected "),
        ({"threads": 0}, "threads: expected "),
        ({"threads": 1.5, "hardware": "m2"}, "threads: expected "),
        ({"extra_energy_table": Path("no.csv")}, "no.csv: no such file"),
        ({"hardware": "no.toml"}, "no.toml: no such file"),
    ],
)
def test_what_is_unknown_or_out_of_range_is_refused(change: dict[str, Any], expected: str) -> None:
    message = refusal(lambda: estimate(**{"model": "7B", **change})) or ""
    assert message.startswith(expected)


def test_a_users_energies_change_the_estimate(tmp_path: Path) -> None:
    header = "node,operation,number_format,energy_pj_low,energy_pj,energy_pj_high,source,locator,status,note"
    path = tmp_path / "mine.csv"
    path.write_text(f"{header}\n7nm,add,int32,,0.06,,mine,here,assumed,\n", encoding="utf-8")
    ours, mine = (estimate("7B", "b1.58", extra_energy_table=extra).energy_j for extra in (None, path))
    assert mine["arithmetic_linear"].mid == pytest.approx(2 * ours["arithmetic_linear"].mid)


@pytest.mark.parametrize("row", ["7nm,add,fp16,,5,,mine,here,assumed,", "7nm,multiply,fp32,,0.001,,mine,here,assumed,"])
def test_a_users_energies_may_be_far_from_ours(tmp_path: Path, row: str) -> None:
    header = "node,operation,number_format,energy_pj_low,energy_pj,energy_pj_high,source,locator,status,note"
    path = tmp_path / "mine.csv"
    path.write_text(f"{header}\n{row}\n", encoding="utf-8")
    assert refusal(lambda: estimate("7B", "fp16", extra_energy_table=path)) is None


def test_a_new_node_without_all_its_rows_is_refused(tmp_path: Path) -> None:
    header = "node,operation,number_format,energy_pj_low,energy_pj,energy_pj_high,source,locator,status,note"
    path = tmp_path / "mine.csv"
    path.write_text(f"{header}\n5nm,add,int8,,0.005,,mine,here,assumed,\n", encoding="utf-8")
    message = refusal(lambda: estimate("7B", node="5nm", extra_energy_table=path)) or ""
    assert message.startswith("op_energy: no row for ")


@settings(max_examples=60)
@given(
    st.sampled_from(
        [
            "bandwidth_bytes_per_s",
            "capacity_bytes",
            "on_chip_bytes",
            "fp16_flops_per_s",
            "int8_ops_per_s",
            "link_bytes_per_s",
        ]
    ),
    st.floats(0, exclude_min=True, allow_infinity=False),
    st.booleans(),
    st.sampled_from([1, 1000]),
)
@example("bandwidth_bytes_per_s", 5e-324, False, 1)
@example("capacity_bytes", 1.7e308, False, 1000)
@example("on_chip_bytes", 5e-324, True, 1)
def test_a_machine_of_any_finite_values_is_estimated_or_refused(
    tmp_path_factory: pytest.TempPathFactory, field: str, value: float, on_chip: bool, devices: int
) -> None:
    new = f'{field} = {{ mid = {value!r}, source = "mine", locator = "here", status = "assumed" }}'
    lines = [new if line.startswith(f"{field} = ") else line for line in RASPBERRY.splitlines()]
    path = tmp_path_factory.mktemp("machine") / "mine.toml"
    path.write_text(
        "\n".join(lines).replace("weights_on_chip = false", f"weights_on_chip = {str(on_chip).lower()}"),
        encoding="utf-8",
    )
    refusal(lambda: estimate("1B", "b1.58", str(path), devices=devices))


@pytest.mark.parametrize(
    ("line", "named"),
    [('memory = "lpdr4x"', "lpdr4x"), ('on_chip_memory = "sram-2mib"', "sram-2mib")],
)
def test_a_memory_that_has_no_row_is_refused_by_name(tmp_path: Path, line: str, named: str) -> None:
    path = tmp_path / "mine.toml"
    key = line.split(" = ", maxsplit=1)[0]
    path.write_text(
        "\n".join(line if old.startswith(f"{key} = ") else old for old in RASPBERRY.splitlines()), encoding="utf-8"
    )
    assert named in (refusal(lambda: estimate("1B", hardware=str(path))) or "")


def test_a_spec_and_its_name_give_the_same() -> None:
    assert estimate(resolve_model("llama-2-7b")).energy_j == estimate("llama-2-7b").energy_j
