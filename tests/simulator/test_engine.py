"""Engines: from a fit, a machine and a thread count to seconds per byte and per layer."""

import math
from itertools import pairwise

import pytest
from refusals import refusal

from bitsim.energy_tables import Interval, engine_fits, hardware_names, load_hardware
from bitsim.simulator import ENGINES, SCHEMES, estimate, resolve_engine

FITS = engine_fits()


@pytest.mark.parametrize("name", hardware_names())
def test_the_ideal_engine_reaches_the_peaks(name: str) -> None:
    hardware = load_hardware(name)
    engine = resolve_engine("ideal", hardware, "fp16")
    assert engine.s_per_byte == 1 / hardware.value("bandwidth_bytes_per_s").mid
    assert (engine.s_per_layer, engine.s_per_layer_element, engine.rate_fraction) == (0.0, 0.0, 1.0)
    assert engine.slowdown == Interval(1.0, 1.0, 1.9)


@pytest.mark.parametrize("fit", FITS, ids=lambda fit: f"{fit.engine} {fit.hardware} {fit.schemes[0]}")
@pytest.mark.parametrize("threads", [1, 2, None])
def test_a_fitted_engine_follows_the_formula(fit: object, threads: int | None) -> None:
    row = next(row for row in FITS if row is fit)
    hardware = load_hardware(row.hardware)
    engine = resolve_engine(row.engine, hardware, row.schemes[0], threads)
    used = (threads or hardware.cores) if hardware.kind == "cpu" else 1
    peak = hardware.value("bandwidth_bytes_per_s").mid
    assert (engine.fit, engine.threads) == ("fitted", used)
    assert engine.s_per_byte == pytest.approx(1 / (peak * row.bandwidth_fraction) + row.thread_s_per_byte / used)
    assert engine.s_per_layer == pytest.approx(row.sync_s_per_layer * (1 + math.log2(used)))
    assert engine.s_per_layer_element == row.work_s_per_layer_element
    assert engine.slowdown.mid == 1.0
    assert engine.slowdown.high == pytest.approx(1 + max(row.error, row.error_left_out or 0.0))


def test_more_threads_than_cores_count_as_the_cores() -> None:
    hardware = load_hardware("raspberry-pi-5")
    assert resolve_engine("t-mac", hardware, "b1.58", 64) == resolve_engine("t-mac", hardware, "b1.58", 4)


def test_threads_do_not_matter_on_a_gpu() -> None:
    hardware = load_hardware("a100-80gb")
    assert resolve_engine(None, hardware, "fp16", 64) == resolve_engine(None, hardware, "fp16")


@pytest.mark.parametrize("name", ["bitnet.cpp", "t-mac", "llama.cpp"])
def test_more_threads_stream_a_byte_no_slower(name: str) -> None:
    hardware = load_hardware("m2-ultra")
    engines = [resolve_engine(name, hardware, "b1.58", threads) for threads in range(1, 17)]
    assert all(more.s_per_byte <= fewer.s_per_byte for fewer, more in pairwise(engines))


@pytest.mark.parametrize(
    ("hardware", "scheme", "engine"),
    [
        ("a100-80gb", "fp16", "fastertransformer"),
        ("h100-sxm", "b1.58", "fastertransformer"),
        ("i7-13700h", "b1.58", "bitnet.cpp"),
        ("i7-13700h", "fp16", "llama.cpp"),
        ("raspberry-pi-5", "b1.58", "t-mac"),
        ("raspberry-pi-5", "w4a16", "t-mac"),
        ("m2", "fp16", "llama.cpp"),
        ("ryzen-7840u", "b1.58", "bitnet.cpp"),
        ("ternary-asic", "b1.58", "ideal"),
    ],
)
def test_the_default_is_what_people_would_use_there(hardware: str, scheme: str, engine: str) -> None:
    assert resolve_engine(None, load_hardware(hardware), scheme).name == engine


def test_a_fit_of_another_machine_is_transferred_with_a_range_and_a_note() -> None:
    engine = resolve_engine("bitnet.cpp", load_hardware("raspberry-pi-4"), "b1.58")
    assert engine.fit == "transferred"
    assert engine.slowdown == Interval(1 / 1.9, 1.0, 1.9)
    assert engine.note.startswith("transferred: bitnet.cpp was fitted on ")


def test_a_fit_of_another_scheme_on_this_machine_is_preferred_to_another_machine() -> None:
    engine = resolve_engine("t-mac", load_hardware("raspberry-pi-5"), "b1")
    assert engine.note == "transferred: t-mac was fitted for b1.58, w2a16, w4a16"


@pytest.mark.parametrize("hardware", hardware_names())
@pytest.mark.parametrize("engine", [*ENGINES, None])
def test_every_engine_on_every_machine_gives_a_speed_with_a_range(hardware: str, engine: str | None) -> None:
    for scheme in ("fp16", "b1.58"):
        result = estimate("1B", scheme, hardware, engine=engine)
        assert 0 < result.tokens_per_s.low <= result.tokens_per_s.mid <= result.tokens_per_s.high
        assert result.engine.fit in ("fitted", "transferred", "ideal")
        assert result.engine.note


@pytest.mark.parametrize("scheme", SCHEMES)
def test_names_are_found_in_any_case(scheme: str) -> None:
    hardware = load_hardware("m2-ultra")
    assert resolve_engine("LLAMA.cpp", hardware, scheme) == resolve_engine("llama.cpp", hardware, scheme)


@pytest.mark.parametrize(
    ("name", "threads", "expected"),
    [
        ("bitnetcpp", None, "unknown engine 'bitnetcpp'; did you mean 'bitnet.cpp'? (known: ideal, "),
        ("a\nb", None, "unknown engine "),
        (None, 0, "threads: expected 1 to 4096, got 0"),
        (None, -1, "threads: expected 1 to 4096, got -1"),
        (None, 4097, "threads: expected 1 to 4096, got 4097"),
        (None, math.nan, "threads: expected 1 to 4096, got nan"),
    ],
)
def test_what_is_unknown_is_refused(name: str | None, threads: int | None, expected: str) -> None:
    message = refusal(lambda: resolve_engine(name, load_hardware("m2-ultra"), "fp16", threads))
    assert (message or "").startswith(expected)


def test_the_workspace_is_never_negative() -> None:
    engine = resolve_engine("fastertransformer", load_hardware("a100-80gb"), "fp16")
    assert engine.workspace(1) == 0.0
    assert engine.workspace(8192) > 1e9
