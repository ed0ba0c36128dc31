"""The tensors of a file as rows of a table: one by one, or by class."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .codes import Census, Codes
from .contents import Contents, Tensor
from .tensor_names import CLASSES

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class TensorRow:
    """A tensor and what its ternary weights are; those fields are None for other numbers.

    Attributes:
        entropy: bits a weight that the best code for single weights would take.
        scale_low, scale_high: range of its scales, as ones that multiply.
    """

    name: str
    tensor_class: str
    format: str
    shape: tuple[int, ...]
    weights: int
    bytes: int
    bits_per_weight: float | None
    zero_fraction: float | None
    entropy: float | None
    scale_low: float | None
    scale_high: float | None


@dataclass(frozen=True, slots=True)
class ClassRow:
    """All tensors of a class together; see `TensorRow`. Bytes of scales are counted, weights they are none.

    Zero fraction, entropy and scales are those of the ternary tensors of the class alone.
    """

    tensor_class: str
    tensors: int
    formats: str
    weights: int
    bytes: int
    bits_per_weight: float | None
    zero_fraction: float | None
    entropy: float | None
    scale_low: float | None
    scale_high: float | None


def tensor_rows(contents: Contents, progress: Progress = lambda done, of: None) -> list[TensorRow]:
    """Return a row for each tensor; ternary ones are read to be counted."""
    counted = _counted(contents.tensors, progress)
    return [
        TensorRow(
            tensor.name,
            tensor.tensor_class,
            tensor.kind,
            tensor.shape,
            tensor.weights,
            tensor.bytes,
            8 * tensor.bytes / tensor.weights if tensor.weights else None,
            *_ternary_fields([found] if found else []),
        )
        for tensor, found in counted
    ]


def class_rows(contents: Contents, progress: Progress = lambda done, of: None) -> list[ClassRow]:
    """Return a row for each class that the file has, and one for all together; ternary tensors are read."""
    counted = _counted(contents.tensors, progress)
    rows = [
        _class_row(name, [pair for pair in counted if pair[0].tensor_class == name])
        for name in CLASSES
        if any(tensor.tensor_class == name for tensor in contents.tensors)
    ]
    return [*rows, _class_row("all", counted)]


def _counted(tensors: Sequence[Tensor], progress: Progress) -> list[tuple[Tensor, Census | None]]:
    counted = []
    for done, tensor in enumerate(tensors):
        progress(done, len(tensors))
        counted.append((tensor, tensor.count()))
    return counted


def _class_row(name: str, counted: Sequence[tuple[Tensor, Census | None]]) -> ClassRow:
    weights, size = (sum(column) for column in zip(*((t.weights, t.bytes) for t, _ in counted), strict=True))
    formats = Counter(tensor.kind for tensor, _ in counted if not tensor.is_scale or tensor.tensor_class == "other")
    return ClassRow(
        name,
        sum(formats.values()),
        ", ".join(kind for kind, _ in formats.most_common()),
        weights,
        size,
        8 * size / weights if weights else None,
        *_ternary_fields([found for _, found in counted if found]),
    )


def _ternary_fields(found: Iterable[Census]) -> tuple[float | None, float | None, float | None, float | None]:
    """Return the share of zeros, entropy, and the range of scales."""
    found = list(found)
    codes = sum((each.codes for each in found), Codes())
    if not codes.total:
        return None, None, None, None
    lows = [each.scale_low for each in found if each.scale_low is not None]
    highs = [each.scale_high for each in found if each.scale_high is not None]
    return codes.zero_fraction, codes.entropy, min(lows, default=None), max(highs, default=None)
