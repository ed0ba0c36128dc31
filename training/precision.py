"""The data type that the products of a training step are computed in: as asked, or the quicker one of this machine."""

import time
from functools import cache

import torch

from bitsim.energy_tables import BitsimError

_ROWS, _WIDTH, _ROUNDS = 1024, 256, 5  # a product of a small model, some milliseconds in all
_KINDS = (torch.float32, torch.bfloat16)
_WORTH = 1.2  # times as quick, for the step has conversions besides


def precision_of(asked: str, scheme: str) -> str:
    """Return the precision of the products: as asked, or bf16, which keeps float32's range, where it is quicker.

    Args:
        asked: "bf16", "fp16", "fp32", or "auto" for the quicker one.
        scheme: of the model; "fp32" is trained in nothing less.

    Raises:
        BitsimError: this machine has none of the kind.
    """
    if asked != "auto":
        if asked == "fp16" and not torch.cuda.is_available():
            raise BitsimError("precision: fp16 needs a GPU; on a CPU expected bf16 or fp32")
        return asked
    if scheme == "fp32":
        return "fp32"
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return "bf16" if _bf16_is_quicker() else "fp32"


@cache
def _bf16_is_quicker() -> bool:
    """Whether this CPU multiplies matrices quicker in bfloat16 than in float32, by products of both in turn.

    Its features don't tell. AMX makes bfloat16 several times as quick; a Xeon that has AVX-512's dot product of
    bfloat16 without AMX makes 83 GFLOP/s a core with it, and 157 in float32 (3072 x 224 by 224 x 224, torch 2.13).
    """
    pairs = [(torch.ones(_ROWS, _WIDTH, dtype=kind), torch.ones(_WIDTH, _WIDTH, dtype=kind)) for kind in _KINDS]
    rounds = [[_seconds(*pair) for pair in pairs] for _ in range(_ROUNDS)]
    full, half = (min(times) for times in zip(*rounds, strict=True))
    return bool(full > _WORTH * half)


def _seconds(left: torch.Tensor, right: torch.Tensor) -> float:
    begin = time.perf_counter()
    torch.mm(left, right)
    return time.perf_counter() - begin
