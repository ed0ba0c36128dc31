"""Workloads: completed and checked."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refusal

from bitsim.simulator import make_workload
from bitsim.simulator.workload import MAX_BATCH, MAX_CONTEXT


def test_the_context_is_prompt_and_new_tokens_unless_longer() -> None:
    assert make_workload(1, 512, 128).context == 640
    assert make_workload(1, 512, 128, 1000).earlier_tokens == 360


@given(st.integers(0, 50), st.integers(1, 50), st.integers(0, 50))
def test_the_mean_past_is_the_mean_over_the_decode_steps(prompt: int, new: int, earlier: int) -> None:
    workload = make_workload(1, prompt, new, prompt + new + earlier)
    pasts = [earlier + prompt + step for step in range(new)]
    assert workload.mean_past == pytest.approx(sum(pasts) / new)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"batch": 0}, "batch: expected a whole number from 1 to 10,000,000, got 0"),
        ({"batch": MAX_BATCH + 1}, "batch: "),
        ({"batch": True}, "batch: "),
        ({"batch": 1.5}, "batch: "),
        pytest.param({"batch": 10**400}, "batch: ", id="batch of 401 digits"),
        ({"prompt_tokens": -1}, "prompt tokens: expected a whole number from 0 to 100,000,000, got -1"),
        ({"prompt_tokens": MAX_CONTEXT + 1}, "prompt tokens: "),
        ({"prompt_tokens": float("nan")}, "prompt tokens: "),
        pytest.param({"prompt_tokens": 10**5000}, "prompt tokens: ", id="prompt of 5001 digits"),
        ({"new_tokens": float("inf")}, "new tokens: "),
        ({"new_tokens": -1}, "new tokens: "),
        ({"prompt_tokens": 0, "new_tokens": 0}, "prompt tokens and new tokens: expected at least one of them above 0"),
        ({"context": 639}, "context: expected a whole number from 640 to 100,000,000, got 639"),
        ({"prompt_tokens": MAX_CONTEXT, "new_tokens": MAX_CONTEXT}, "prompt tokens and new tokens: expected at most"),
    ],
)
def test_what_is_out_of_range_is_refused(change: dict[str, Any], expected: str) -> None:
    assert (refusal(lambda: make_workload(**change)) or "").startswith(expected)
