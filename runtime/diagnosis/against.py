"""A model beside the one that it was made from: matrix by matrix, and what goes with them."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from ..checkpoints.checkpoint import LINEARS, NORMS, Checkpoint, Dense, Float32
from ..checkpoints.gguf_names import halves, neighbours
from ..checkpoints.quantize import absmean
from ..model.config import TextRules
from ..packing.codec import Ternary
from .codes import as_ternary
from .finding import ERROR, WARNING, Finding
from .trial import in_order

SAME_SCALE = 5e-3  # relative: rounding to bfloat16 and to half precision stays below
SAME_NORM = 1e-2
CLOSE = 0.2  # relative error of what was rounded to 4 bits and more stays below; of 2 bits not always
_TINY = 1e-30
AGREEING = 0.99  # share of ternary weights that are what absmean gives
_ROWS = 4096
_AGAIN = "convert the reference again (bitsim convert ORIGINAL NEW)"
_SHAPE = ("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocab", "tied_head", "activation")
_SHAPE_AFTER = ("sub_norms", "qk_norm", "qkv_bias", "output_bias")

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class _Differences:
    """Matrices that differ, by the way in which they do, each with what was seen."""

    seen: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, kind: str, layer: int, name: str, detail: str) -> None:
        self.seen[kind].append(f"layer {layer} {name}: {detail}")


def compare(ours: Checkpoint, theirs: Checkpoint, progress: Progress) -> Iterator[Finding]:
    """Compare a model with its original, which may lie in another format."""
    other_shape = list(_constants(ours, theirs))
    yield from other_shape
    yield from _texts(ours.text, theirs.text)
    if any(finding.check == "shape" for finding in other_shape):
        return
    differences = _Differences()
    _vocabulary(ours, theirs, differences)
    for layer in range(ours.config.spec.layers):
        progress(layer, ours.config.spec.layers)
        for name in NORMS:
            _norms(ours.norm(layer, name), theirs.norm(layer, name), layer, name, differences)
        for name in LINEARS:
            _matrices(ours, theirs, layer, name, differences)
    for kind, seen in differences.seen.items():
        some = f"{len(seen):,}, such as {seen[0]}"
        yield Finding(ERROR, kind, f"beside the reference: {_WHAT[kind]}", some, _AGAIN)


_WHAT = {
    "rotary-order": "rows of q or k lie in another order",
    "requantised": "weights were made ternary a second time: scales have shrunk to the share of weights that are not 0",
    "scale-sense": "scales are turned over",
    "scale": "scales differ",
    "weights": "matrices differ",
    "embedding": "embedding or head differ",
    "norms": "norms differ",
}


def _constants(ours: Checkpoint, theirs: Checkpoint) -> Iterator[Finding]:
    mine, other = ours.config, theirs.config
    for name in (*_SHAPE, *_SHAPE_AFTER):
        left, right = getattr(mine.spec, name), getattr(other.spec, name)
        if left != right:
            check = "activation" if name == "activation" else "shape"
            yield Finding(ERROR, check, f"beside the reference: {name} differs", f"{left}, reference: {right}", _AGAIN)
    if abs(mine.norm_eps / other.norm_eps - 1) > 1e-3:
        evidence = f"{mine.norm_eps:g}, reference: {other.norm_eps:g}"
        yield Finding(ERROR, "norm-eps", "beside the reference: the epsilon of norms differs", evidence, _AGAIN)
    if mine.rope != other.rope:
        evidence = f"{mine.rope}, reference: {other.rope}"
        yield Finding(ERROR, "rope", "beside the reference: the rotary embedding differs", evidence, _AGAIN)


def _texts(ours: TextRules, theirs: TextRules) -> Iterator[Finding]:
    if theirs.chat_template is not None and ours.chat_template != theirs.chat_template:
        state = "is missing" if ours.chat_template is None else "differs"
        evidence = f"the reference has one of {len(theirs.chat_template):,} characters"
        what = f"beside the reference: the chat template {state}"
        yield Finding(WARNING, "chat-template", what, evidence, "copy it from the reference")
    if theirs.eos and not set(theirs.eos) & set(ours.eos):
        evidence = f"{list(ours.eos)}, reference: {list(theirs.eos)}"
        what = "beside the reference: other tokens end an answer"
        yield Finding(WARNING, "end-of-text", what, evidence, "copy eos_token_id from the reference")


def _vocabulary(ours: Checkpoint, theirs: Checkpoint, differences: _Differences) -> None:
    pairs = [("embedding", ours.embedding(), theirs.embedding())]
    mine, other = ours.head(), theirs.head()
    if mine is not None and other is not None:
        pairs.append(("head", mine, other))
    for name, one, two in pairs:
        error = _relative_error(one, two)
        if error > CLOSE:
            differences.seen["embedding"].append(f"{name}: relative error {error:.1%}")


def _relative_error(one: Dense, two: Dense) -> float:
    """Return the size of the difference as a share of the size of the second, a few rows at a time."""
    apart = size = 0.0
    for start in range(0, len(one.bits), _ROWS):
        mine, other = (Dense(each.bits[start : start + _ROWS], each.brain).as_float32() for each in (one, two))
        apart += float(np.square(mine - other, dtype=np.float64).sum())
        size += float(np.square(other, dtype=np.float64).sum())
    return float(np.sqrt(apart / max(size, 1e-300)))


def _norms(one: Float32 | None, two: Float32 | None, layer: int, name: str, differences: _Differences) -> None:
    if one is None or two is None:
        return
    error = float(np.linalg.norm(one - two)) / max(float(np.linalg.norm(two)), 1e-30)
    if error > SAME_NORM:
        differences.add("norms", layer, name, f"relative error {error:.1%}")


def _matrices(ours: Checkpoint, theirs: Checkpoint, layer: int, name: str, differences: _Differences) -> None:
    mine, reference = ours.linear(layer, name), theirs.linear(layer, name)
    full = _full(reference.weights)
    factor, error = _fit(_full(mine.weights), full)
    if error > CLOSE and isinstance(mine.weights, Ternary) and isinstance(reference.weights, Dense):
        again = absmean(full)  # the reference is of full numbers, and ours was made ternary of it
        if float((again.weights == mine.weights.weights).mean()) > AGREEING:
            full = again.dequantised()
            factor, error = _fit(mine.weights.dequantised(), full)
    if error > CLOSE and name in "qk":
        heads = ours.config.spec.heads if name == "q" else ours.config.spec.kv_heads
        for order, moved in (("halves", halves), ("neighbours", neighbours)):
            turned = in_order(mine, lambda rows, moved=moved: moved(rows, heads))  # type: ignore[misc]
            if _fit(_full(turned.weights), full)[1] < CLOSE:
                differences.add("rotary-order", layer, name, f"as the reference in the order '{order}'")
                return
    if error > CLOSE:
        differences.add("weights", layer, name, f"relative error {error:.1%}")
    elif isinstance(mine.weights, Ternary) and error > SAME_SCALE:
        other = reference.weights.weights if isinstance(reference.weights, Ternary) else np.sign(full)
        apart = float((mine.weights.weights != other).mean())
        differences.add("weights", layer, name, f"{apart:.2%} of the ternary weights differ")
    elif abs(factor - 1) > (SAME_SCALE if error < SAME_SCALE else 0.1):
        differences.add(*_factor(factor, mine.weights, layer, name))


def _factor(factor: float, matrix: Ternary | Dense, layer: int, name: str) -> tuple[str, int, str, str]:
    """Return what a factor between two equal patterns means."""
    weights = as_ternary(matrix)
    if weights is not None:
        kept, scale = float((weights.weights != 0).mean()), float(np.median(weights.scales))
        if abs(factor / max(kept, _TINY) - 1) < SAME_SCALE:
            return "requantised", layer, name, f"{factor:.4f} times as large, and {kept:.2%} of the weights are not 0"
        if abs(factor / max(scale**2, _TINY) - 1) < 2 * SAME_SCALE:
            return (
                "scale-sense",
                layer,
                name,
                f"±{scale:.4g}, reference: ±{scale / max(factor, _TINY):.4g}, one over it",
            )
    return "scale", layer, name, f"{factor:.4f} times as large"


def _full(weights: Ternary | Dense) -> Float32:
    return weights.dequantised() if isinstance(weights, Ternary) else weights.as_float32()


def _fit(one: Float32, two: Float32) -> tuple[float, float]:
    """Return the factor that makes the second matrix the likest to the first, and the relative error that is left."""
    product, size = float(np.vdot(one, two)), float(np.vdot(two, two))
    factor = product / max(size, 1e-30)
    left = float(np.vdot(one, one)) - factor * product
    return factor, float(np.sqrt(max(left, 0.0) / max(float(np.vdot(one, one)), 1e-30)))
