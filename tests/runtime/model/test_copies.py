"""A copy of a sequence's beginning goes on as the sequence itself would; states of any tokens may be asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_checkpoint import MadeCheckpoint, small_spec
from refusals import refusal

from bitsim.runtime.loading import run_checkpoint
from bitsim.runtime.model.model import Model

TEXT = np.random.default_rng(2).integers(0, 300, 120)


@pytest.fixture(scope="module", params=["f16", "int8"])
def model(request: pytest.FixtureRequest) -> Model:
    return run_checkpoint(MadeCheckpoint(small_spec()), threads=2, kv=request.param)


@given(st.integers(1, 100), st.integers(0, 100), st.integers(1, 20), st.integers(0, 40))
def test_a_copy_goes_on_as_its_original(model: Model, length: int, kept: int, new: int, room: int) -> None:
    kept = min(kept, length)
    source, copy, plain = model.sequence(120), model.sequence(kept + new + room), model.sequence(120)
    model.step([(source, TEXT[:length])])
    copy.copy_from(source, kept)
    assert copy.length == kept
    going_on = (TEXT[kept : kept + new] + 5) % 300
    if kept:
        model.step([(plain, TEXT[:kept])])
    together = model.step([(copy, going_on), (source, TEXT[:1])])
    np.testing.assert_array_equal(together[0], model.step([(plain, going_on)])[0])
    assert source.length == length + 1


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 30)), min_size=1, max_size=5))
def test_states_of_the_last_tokens(model: Model, parts: list[tuple[int, int]]) -> None:
    """In the order of the tokens, as if each part were alone; none of a part that wants none."""
    counts = [count for count, _ in parts]
    last = [min(count, wanted) for count, wanted in parts]
    sequences = [model.sequence(32) for _ in parts]
    states = model.step([(each, TEXT[:count]) for each, count in zip(sequences, counts, strict=True)], last)
    whole = model.hidden_states(model.sequence(32), TEXT[:30])
    wanted = [row for count, some in zip(counts, last, strict=True) for row in range(count - some, count)]
    np.testing.assert_array_equal(states, whole[wanted])


def test_wrong_copies_are_refused(model: Model) -> None:
    short, long = model.sequence(16), model.sequence(64)
    model.step([(long, TEXT[:40])])
    assert "expected to copy from 0 to 16 tokens, got 17" in (refusal(lambda: short.copy_from(long, 17)) or "")
    assert "from 0 to 40 tokens, got 41" in (refusal(lambda: model.sequence(64).copy_from(long, 41)) or "")
    other = run_checkpoint(MadeCheckpoint(small_spec()), threads=1)
    assert "of the same model" in (refusal(lambda: other.sequence(16).copy_from(long, 3)) or "")
