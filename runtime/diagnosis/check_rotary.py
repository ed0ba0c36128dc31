"""In which order rows of q and k lie, told from the rows themselves.

A pair of rows of q is rotated together with the same pair of k, so training couples them: a row of q comes to
resemble both rows of that pair in k more than others. Hugging Face pairs row i with i + d/2, GGUF's architecture llama
row 2i with 2i + 1, and a converter that permutes where it should not, or the other way round, leaves the coupling at
other places.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..checkpoints.checkpoint import Float32, Linear
from ..checkpoints.gguf_names import INTERLEAVED, halves, neighbours
from ..packing.codec import Ternary
from .contents import Contents
from .finding import ERROR, NOTE, Finding

LEAST_HEADS = 16
SURE, LIKELY = 6.0, 3.0  # standard errors
_TINY = float(np.finfo(np.float32).tiny)
LEAST_RATIO = 1.25  # of the couplings at the two places
_TWICE = "as after one permutation too many"
ORDERS = ("as read", "halves", "neighbours")  # what would have to be done to the rows as they are read

Numbers = npt.NDArray[np.float64]


@dataclass(slots=True)
class _Couplings:
    """For each head, how much stronger rows of q and k are coupled at some places than anywhere."""

    partners: dict[str, list[float]] = field(default_factory=lambda: {order: [] for order in ORDERS})
    same: dict[str, list[float]] = field(default_factory=lambda: {order: [] for order in ORDERS})


class RotaryCheck:
    """Takes q and k of the layers one after the other, and then says in which order their rows are."""

    def __init__(self, contents: Contents, heads: int, head_dim: int) -> None:
        """Take what the model lies in, and the shape of its heads."""
        self._contents, self._heads, self._head_dim = contents, heads, head_dim
        everywhere = np.arange(head_dim)
        self._orders = {"as read": everywhere, "halves": halves(everywhere, 1), "neighbours": neighbours(everywhere, 1)}
        self._seen = _Couplings()

    def add(self, q: Linear, k: Linear, norm: Float32 | None) -> None:
        """Take a layer: its matrices, rows in the order of Hugging Face, and the norm before them."""
        rows_q, rows_k = (self._unit_rows(linear, norm) for linear in (q, k))
        group = len(rows_q) // len(rows_k)
        for head, mine in enumerate(rows_q):
            coupling = (mine @ rows_k[head // group].T) ** 2
            mean = coupling.mean()
            if mean == 0:
                continue
            half = self._head_dim // 2
            for order, places in self._orders.items():
                moved = coupling[np.ix_(places, places)]
                partners = (np.diag(moved, half).mean() + np.diag(moved, -half).mean()) / 2
                self._seen.partners[order].append(float(partners / mean))
                self._seen.same[order].append(float(np.diag(coupling[:, places]).mean() / mean))

    def _unit_rows(self, linear: Linear, norm: Float32 | None) -> Float32:
        """Return the rows of each head, made as long as 1: (heads, head_dim, columns)."""
        weights = linear.weights
        full = weights.dequantised() if isinstance(weights, Ternary) else weights.as_float32()
        before = linear.norm if linear.norm is not None else norm
        full = full / np.maximum(np.abs(full).max(axis=1, keepdims=True), _TINY)  # or squares of huge ones overflow
        full = full if before is None else full * (before / max(float(np.abs(before).max()), _TINY))
        unit: Float32 = full / np.maximum(np.linalg.norm(full, axis=1, keepdims=True), _TINY)
        return unit.reshape(-1, self._head_dim, unit.shape[1])

    def findings(self) -> Iterator[Finding]:
        """Say what is wrong, or that the rows do not tell."""
        heads = len(self._seen.same["as read"])
        apart = _better(self._seen.same) if heads >= LEAST_HEADS else None
        wrong = _better(self._seen.partners) if heads >= LEAST_HEADS else None
        if apart is not None:
            yield Finding(
                ERROR,
                "rotary-order",
                "rows of q and of k lie in different orders, so that queries and keys turn against each other",
                f"rows of q resemble those of k in the order '{apart}' of the head more than in their own: "
                f"{_compared(self._seen.same, apart)}",
                "convert the original again: q and k must be permuted alike, by heads and by key/value heads",
            )
        elif wrong is not None:
            yield Finding(
                ERROR,
                "rotary-order",
                self._story(wrong),
                "rows that are rotated together are coupled less than others: " + _compared(self._seen.partners, wrong),
                "convert the original again with a program that knows the order (bitsim convert ORIGINAL NEW)",
            )
        elif heads < LEAST_HEADS or not _confirmed(self._seen.partners):
            yield Finding(
                NOTE,
                "rotary-order",
                "the rows of q and k do not tell in which order they lie",
                f"{heads} heads; {_compared(self._seen.partners, 'halves')}",
                "to settle it: bitsim doctor FILE --run, or --against ORIGINAL",
            )

    def _story(self, order: str) -> str:
        architecture = self._contents.architecture
        if self._contents.form == "gguf" and architecture in INTERLEAVED:
            there = "half a head apart, as in Hugging Face" if order == "neighbours" else _TWICE
            return f"pairs of rows of q and k lie {there}; readers of '{architecture}' expect them side by side"
        there = "side by side" if order == "halves" else _TWICE
        return f"pairs of rows of q and k lie {there}; readers of '{architecture}' expect them half a head apart"


def _difference(couplings: dict[str, list[float]], one: str, other: str) -> tuple[float, float]:
    """Return how many standard errors coupling at one order is above that at another, and the ratio of the two."""
    mine, theirs = np.array(couplings[one]), np.array(couplings[other])
    apart = mine - theirs
    error = apart.std(ddof=1) / np.sqrt(len(apart))
    return float(apart.mean() / max(error, 1e-12)), float(mine.mean() / theirs.mean())


def _better(couplings: dict[str, list[float]]) -> str | None:
    """Return the order in which rows are coupled, surely, more than as they are read; None if there is none."""
    best = max(ORDERS, key=lambda order: float(np.mean(couplings[order])))
    if best == "as read":
        return None
    errors, ratio = _difference(couplings, best, "as read")
    return best if errors >= SURE and ratio >= LEAST_RATIO else None


def _confirmed(couplings: dict[str, list[float]]) -> bool:
    return all(_difference(couplings, "as read", order)[0] >= LIKELY for order in ORDERS[1:])


def _compared(couplings: dict[str, list[float]], order: str) -> str:
    heads = len(couplings[order])
    if heads < 2:
        return "too few to compare"
    errors, _ = _difference(couplings, order, "as read")
    mine, theirs = (float(np.mean(couplings[name])) for name in (order, "as read"))
    compared = f"{theirs:.2f} times the mean as read, {mine:.2f} times in the order '{order}'"
    return f"{compared} ({abs(errors):.0f} standard errors apart)"
