"""What products are computed in: as asked, or what this machine is quicker with."""

from collections.abc import Callable

import pytest
import torch

from bitsim.energy_tables import BitsimError
from bitsim.training import precision
from bitsim.training.precision import precision_of

on_a_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU's precisions are known, not measured")


def takes(full: float, half: float) -> Callable[[torch.Tensor, torch.Tensor], float]:
    """A clock by which a product takes this long in float32 and in bfloat16, and now and then ten times as long."""
    calls = iter(range(10**6))

    def seconds(left: torch.Tensor, right: torch.Tensor) -> float:
        assert left.dtype == right.dtype
        one = {torch.float32: full, torch.bfloat16: half}[left.dtype]
        return one * 10 if next(calls) % 5 == 0 else one

    return seconds


@on_a_cpu
@pytest.mark.parametrize(
    ("full", "half", "expected"),
    [(1.0, 0.2, "bf16"), (1.0, 0.6, "bf16"), (1.0, 0.95, "fp32"), (1.0, 1.9, "fp32"), (1.0, 50.0, "fp32")],
)
def test_the_quicker_one_is_taken(full: float, half: float, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_seconds", takes(full, half))
    precision._bf16_is_quicker.cache_clear()
    try:
        assert [precision_of("auto", scheme) for scheme in ("fp16", "b1.58")] == [expected, expected]
        assert precision_of("auto", "fp32") == "fp32"
    finally:
        precision._bf16_is_quicker.cache_clear()


@on_a_cpu
def test_a_product_of_each_kind_is_really_timed() -> None:
    left, right = torch.ones(8, 8), torch.ones(8, 8)
    assert precision._seconds(left, right) > 0
    assert precision_of("auto", "b1.58") in ("bf16", "fp32")


@pytest.mark.parametrize("asked", ["bf16", "fp32"])
def test_what_is_asked_is_taken(asked: str) -> None:
    assert precision_of(asked, "b1.58") == asked


@on_a_cpu
def test_fp16_wants_a_gpu() -> None:
    with pytest.raises(BitsimError, match="precision: fp16 needs a GPU; on a CPU expected bf16 or fp32"):
        precision_of("fp16", "fp16")
