"""The closed forms against their slow twin, and floats against arrays."""

import math
from typing import Any

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import tiny_specs

from bitsim.simulator import SCHEMES, ModelSpec, Scheme
from bitsim.simulator.cost import Machine, PhaseCost, phase_cost
from bitsim.simulator.operations import Load, decode_load, prefill_load
from bitsim.simulator.system import shape_of, widths_of

ANY_SCHEME = st.sampled_from(list(SCHEMES.values()))
FLAGS = ("weights_on_chip", "tensor", "devices")


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    rates = {name: draw(st.floats(0.01, 10.0)) for name in Machine._fields if name not in FLAGS}
    rates["on_chip_bytes"] = draw(st.sampled_from([1.0, 300.0, 1e9]))
    switches = {name: float(draw(st.integers(0, 1))) for name in ("weights_on_chip", "tensor")}
    return Machine(**rates, **switches, devices=float(draw(st.integers(1, 3))))


def close(value: float) -> Any:
    return pytest.approx(value, rel=1e-9, abs=1e-300)


def compare(found: PhaseCost, twin: naive.Phase) -> None:
    names = [cost.operation.name for cost in found.operations]
    assert set(twin.tallies) <= set(names)
    for cost in found.operations:
        name = cost.operation.name
        tally = twin.tallies.get(name, naive.Tally())
        for measure in ("macs", "weight_bytes", "kv_bytes", "activation_bytes", "vector_ops"):
            assert getattr(cost.operation, measure) == close(getattr(tally, measure)), (name, measure)
        assert cost.dram_bytes == close(twin.dram_bytes.get(name, 0.0)), name
        assert cost.on_chip_bytes == close(twin.on_chip_bytes.get(name, 0.0)), name
        assert cost.latency_s == close(twin.latency_s.get(name, 0.0)), name
    for measure in ("arithmetic_j", "vector_j", "dram_j", "on_chip_j"):
        assert found.sum(measure) == close(getattr(twin, measure)), measure
    for measure in ("fixed_s", "link_bytes", "link_s", "static_j"):
        assert getattr(found, measure) == close(getattr(twin, measure)), measure
    assert found.latency_s == close(twin.total_s)


@given(tiny_specs(), ANY_SCHEME, machines(), st.integers(1, 3), st.integers(0, 6), st.integers(0, 6))
def test_prefill_equals_visiting_every_token_and_pair(
    spec: ModelSpec, scheme: Scheme, machine: Machine, batch: int, prompt: int, past: int
) -> None:
    load = prefill_load(float(batch), float(prompt), float(past))
    found = phase_cost(shape_of(spec), widths_of(scheme), load, machine, max, pow)
    compare(found, naive.phase(spec, scheme, machine, batch, prompt, past))


@given(tiny_specs(), ANY_SCHEME, machines(), st.integers(1, 3), st.integers(0, 9))
def test_a_decode_step_equals_visiting_every_pair(
    spec: ModelSpec, scheme: Scheme, machine: Machine, batch: int, past: int
) -> None:
    found = phase_cost(shape_of(spec), widths_of(scheme), decode_load(float(batch), float(past)), machine, max, pow)
    compare(found, naive.phase(spec, scheme, machine, batch, 1, past))


@given(tiny_specs(), ANY_SCHEME, machines(), st.integers(1, 3), st.integers(1, 5))
def test_reading_a_prompt_at_once_makes_the_products_of_reading_it_token_by_token(
    spec: ModelSpec, scheme: Scheme, machine: Machine, batch: int, prompt: int
) -> None:
    shape, widths = shape_of(spec), widths_of(scheme)

    def macs(load: Load) -> float:
        cost = phase_cost(shape, widths, load, machine, max, pow)
        return float(sum(c.operation.macs for c in cost.operations if c.operation.name != "head"))

    steps = sum(macs(decode_load(float(batch), float(past))) for past in range(prompt))
    assert macs(prefill_load(float(batch), float(prompt), 0.0)) == close(steps)


@settings(max_examples=30)
@given(
    st.lists(st.tuples(tiny_specs(), machines(), st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=5),
    ANY_SCHEME,
)
def test_arrays_give_the_bits_of_single_numbers(
    points: list[tuple[ModelSpec, Machine, int, int]], scheme: Scheme
) -> None:
    def stack(items: list[Any]) -> Any:
        columns = {name: np.array([float(getattr(item, name)) for item in items]) for name in items[0]._fields}
        return items[0]._replace(**columns)

    def power(base: Any, exponent: Any) -> Any:
        return np.array([math.pow(*pair) for pair in zip(base, exponent, strict=True)])

    parts = [
        (shape_of(spec), widths_of(scheme), prefill_load(float(batch), float(prompt), 2.0), machine)
        for spec, machine, batch, prompt in points
    ]
    shape, widths, load, machine = (stack([part[column] for part in parts]) for column in range(4))
    together = phase_cost(shape, widths, load, machine, np.maximum, power)
    for index, part in enumerate(parts):
        alone = phase_cost(*part, max, pow)
        for measure in ("fixed_s", "link_s", "link_bytes", "link_j", "latency_s", "static_j"):
            assert getattr(together, measure)[index] == getattr(alone, measure), measure
        for measure in ("dram_bytes", "on_chip_bytes", "latency_s", "arithmetic_j", "vector_j", "dram_j", "on_chip_j"):
            assert together.sum(measure)[index] == alone.sum(measure), measure
