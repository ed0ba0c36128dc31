"""The same products by torch, to compare our kernels with: bfloat16 and int8 weights, unpacked."""

from collections.abc import Callable, Iterator, Sequence

import torch

from bitsim.runtime.measure import Case, Run, copies
from bitsim.runtime.threads import Team

Product = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class TorchContender:
    """torch's own product of activations and a weight matrix of one data type."""

    def __init__(self, name: str, dtype: torch.dtype, product: Product) -> None:
        """Take the name it goes by, and product(activations (tokens, columns), weights (rows, columns))."""
        self._name, self._dtype, self._product = name, dtype, product

    def cases(self, shape: tuple[int, int], tokens: int, teams: Sequence[Team]) -> Iterator[tuple[Case, Run]]:
        """Yield one token from memory and from cache, several from cache, as `KernelContender` does."""
        rows, columns = shape
        size = rows * columns * self._dtype.itemsize
        x = torch.randint(-127, 128, (tokens, columns)).to(self._dtype)
        for where in ("dram", "cache") if tokens == 1 else ("cache",):
            weights = torch.randint(-1, 2, (rows, columns)).to(self._dtype)
            matrices = [weights.clone() for _ in range(copies(size) if where == "dram" else 1)]
            for team in teams:
                case = Case(
                    self._name, str(self._dtype).removeprefix("torch."), shape, tokens, team.threads, where, size
                )
                yield case, self._runner(x, matrices, team.threads)

    def _runner(self, x: torch.Tensor, matrices: Sequence[torch.Tensor], threads: int) -> Run:
        place = 0

        def run(times: int) -> None:
            nonlocal place
            torch.set_num_threads(threads)
            with torch.inference_mode():
                for _ in range(times):
                    self._product(x, matrices[place])
                    place = (place + 1) % len(matrices)

        return run


def _bf16(x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return torch.mv(weights, x[0]) if len(x) == 1 else torch.nn.functional.linear(x, weights)


def _int8(x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """For one token the product of bfloat16 activations and int8 weights, which is quicker than int8 by int8."""
    if len(x) > 1:
        return torch._int_mm(x, weights.T)
    scales = torch.ones(len(weights), dtype=torch.bfloat16)
    return torch._weight_int8pack_mm(x.bfloat16(), weights, scales)


def contenders() -> list[TorchContender]:
    """Return torch's bfloat16 and int8 products, each the quickest that torch has for one token and for many."""
    return [TorchContender("torch bf16", torch.bfloat16, _bf16), TorchContender("torch int8", torch.int8, _int8)]
