"""Scales of ternary matrices: multiplied where they must divide, shrunk by a second quantisation, or out of line."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..checkpoints.checkpoint import Checkpoint, Float32, Linear
from .check_tensors import AGAIN
from .codes import as_ternary
from .contents import Contents
from .finding import ERROR, NOTE, WARNING, Finding
from .known import known_model

# Size of what comes out of a matrix, for inputs as large as its norm makes them. Trained and fresh models lie between
# 0.1 and 10 (SmolLM2 1 to 8, our ladder's twins 0.2 to 0.8, BitNet b1.58 2B4T's scale of 1.6 up to some 60).
GAIN_LOW, GAIN_HIGH = 0.02, 30.0
LEAST_CHANGE = 30.0  # of the gain, if scales are turned over: between 1.6 and 1/1.6 sizes tell nothing
OUT_OF_LINE = 30.0  # times the median of its class
LEAST_MATRICES, LEAST_SHARE, MOST_BY_CHANCE = 8, 0.95, 0.6
NORM_BEFORE = {"q": "attention_norm", "k": "attention_norm", "v": "attention_norm", "o": "attention_sub_norm"}
NORM_BEFORE |= {"gate": "ffn_norm", "up": "ffn_norm", "down": "ffn_sub_norm"}
# Largest relative rounding error of the format that a scale lies in. Scales that were computed in bfloat16 (2^-9) can
# be told from others only in finer ones.
_ROUNDING = {"F16": 2.0**-11, "TQ1_0": 2.0**-11, "TQ2_0": 2.0**-11, "F32": 2.0**-20, "I2_S": 2.0**-20}

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Matrix:
    name: str  # of the class
    layer: int
    scale: float
    nonzero: float
    gain: float


class ScaleCheck:
    """Takes the matrices of a model one after the other, and then says what their scales look like."""

    def __init__(self, contents: Contents) -> None:
        """Take what the model lies in, for the number format of its scales."""
        self._contents = contents
        self._seen: list[_Matrix] = []
        self._not_positive: list[str] = []

    def add(self, checkpoint: Checkpoint, layer: int, name: str, linear: Linear) -> None:
        """Take a matrix."""
        weights = as_ternary(linear.weights)
        if weights is None or not weights.weights.any():
            return
        blocks = weights.weights.reshape(len(weights.weights), weights.scales.shape[1], -1).any(axis=2)
        if not (np.broadcast_to(weights.scales, blocks.shape)[blocks] > 0).all():
            self._not_positive.append(f"layer {layer} {name}")
            return
        norm = linear.norm if linear.norm is not None else checkpoint.norm(layer, NORM_BEFORE[name])
        scale = float(np.median(weights.scales))
        used = weights.weights != 0
        inputs = used.mean(axis=0) @ _squares(norm, used.shape[1])
        self._seen.append(_Matrix(name, layer, scale, float(used.mean()), scale * float(np.sqrt(inputs))))

    def findings(self) -> Iterator[Finding]:
        """Say what is wrong."""
        if self._not_positive:
            what = "scales are 0 or below, and training makes them positive: the file is damaged"
            evidence = f"{len(self._not_positive):,} matrices, such as {self._not_positive[0]}"
            yield Finding(ERROR, "scale-sign", what, evidence, AGAIN)
        if not self._seen:
            return
        inverted = list(self._inverted())
        yield from inverted
        if not inverted:
            yield from self._second_hand()
            yield from self._out_of_line()

    def _inverted(self) -> Iterator[Finding]:
        """Compare how large outputs are with how large they would be with every scale turned over."""
        gain = float(np.median([each.gain for each in self._seen]))
        other = float(np.median([each.gain / each.scale**2 for each in self._seen]))
        wrong = not GAIN_LOW < gain < GAIN_HIGH and GAIN_LOW < other < GAIN_HIGH
        if wrong and max(gain / other, other / gain) > LEAST_CHANGE:
            low, mid, high = np.quantile([each.scale for each in self._seen], [0, 0.5, 1])
            yield Finding(
                ERROR,
                "scale-sense",
                "scales are turned over: they multiply where they should divide, or the other way round",
                f"{len(self._seen)} matrices are worth ±{mid:.3g} (from {low:.3g} to {high:.3g}) and make numbers "
                f"{gain:,.3g} times as large as they were; turned over, ±{1 / mid:.3g} and {other:.2g} times",
                self._mend_of_sense(),
            )

    def _mend_of_sense(self) -> str:
        rule = self._contents.quantisation
        if rule is None:
            return "convert the original again, with a program that reads linear_class (bitsim convert ORIGINAL NEW)"
        now, then = ("autobitlinear", "bitlinear") if rule.scale_multiplies else ("bitlinear", "autobitlinear")
        return (
            f'set "linear_class": "{then}" in quantization_config of config.json; it says {now}, stated or by default'
        )

    def _second_hand(self) -> Iterator[Finding]:
        """Look whether scales, divided by the share of weights that are not 0, are numbers of bfloat16 again.

        A scale is stored in bfloat16 with the model. Made ternary a second time by the mean size, a matrix of -s, 0, s
        becomes the same with s times that share, which is no such number but by chance.
        """
        fine = self._fine()
        if fine is None:
            return
        scales, kept, tolerance = fine
        as_they_are, turned = _brain_share(scales, tolerance), _brain_share(1 / scales, tolerance)
        mended = max(_brain_share(scales / kept, tolerance), _brain_share(kept / scales, tolerance))
        if mended >= LEAST_SHARE and max(as_they_are, turned) <= MOST_BY_CHANCE:
            yield Finding(
                ERROR,
                "requantised",
                "weights were made ternary a second time, by their mean size: every scale has shrunk to the share of "
                "weights that are not 0",
                f"{mended:.0%} of {len(scales)} scales, divided by that share (about {kept.mean():.1%}), are numbers "
                f"of bfloat16, in which models are stored; as they are, {as_they_are:.0%}",
                "convert the packed original again with a program that keeps its scales (bitsim convert ORIGINAL NEW)",
            )
        elif turned >= LEAST_SHARE and as_they_are <= MOST_BY_CHANCE:
            yield from self._divided(scales, turned, as_they_are)

    def _divided(self, scales: Numbers, turned: float, as_they_are: float) -> Iterator[Finding]:
        """Scales are one over numbers of bfloat16: right for `bitlinear`, whose scales divide, and for no other."""
        config = self._contents.config
        if config is None or not config.spec.sub_norms:
            return
        known, middle = known_model(config.spec), float(np.median(scales))
        evidence = (
            f"{turned:.0%} of {len(scales)} scales are one over a number of bfloat16, such as {middle:.4g} = "
            f"1/{1 / middle:.4g}; as they are, {as_they_are:.0%}"
        )
        if known is not None:
            what = f"scales are turned over: those of {known.name} multiply, and were divided by"
            yield Finding(ERROR, "scale-sense", what, evidence, self._mend_of_sense())
        else:
            what = "scales were divided by, which is right if the original says linear_class bitlinear, or nothing"
            mend = "to settle it: bitsim doctor FILE --run, or --against ORIGINAL"
            yield Finding(NOTE, "scale-sense", what, evidence, mend)

    def _fine(self) -> tuple[Numbers, Numbers, Numbers] | None:
        """Return the scales that lie in a finer format than bfloat16, shares of weights not 0, and tolerances."""
        formats = self._formats()
        tolerances = np.array([_ROUNDING.get(formats.get((each.layer, each.name), ""), 1.0) for each in self._seen])
        fine = tolerances < 2.0**-10
        if fine.sum() < LEAST_MATRICES:
            return None
        scales, kept = (np.array([getattr(each, name) for each in self._seen])[fine] for name in ("scale", "nonzero"))
        return scales, kept, 1.2 * tolerances[fine]

    def _formats(self) -> dict[tuple[int | None, str], str]:
        """Return the number format that the scale of each matrix lies in."""
        found = {}
        for tensor in self._contents.tensors:
            if tensor.is_scale or (tensor.layer, tensor.tensor_class) not in found:
                found[tensor.layer, tensor.tensor_class] = tensor.kind
        return found

    def _out_of_line(self) -> Iterator[Finding]:
        classes: dict[str, list[_Matrix]] = defaultdict(list)
        for each in self._seen:
            classes[each.name].append(each)
        for name, matrices in classes.items():
            middle = float(np.median([each.scale for each in matrices]))
            worst = max(matrices, key=lambda each: abs(np.log(each.scale / middle)))
            if abs(np.log(worst.scale / middle)) > np.log(OUT_OF_LINE):
                yield Finding(
                    WARNING,
                    "scale-out-of-line",
                    f"one of the scales of {name} is far from the others",
                    f"layer {worst.layer}: {worst.scale:.3g}; the median of {len(matrices)} layers is {middle:.3g}",
                    "compare with the original: bitsim doctor FILE --against ORIGINAL",
                )


def _squares(norm: Float32 | None, columns: int) -> Numbers:
    return np.ones(columns) if norm is None else norm.astype(np.float64) ** 2


def _brain_share(values: Numbers, tolerance: Numbers) -> float:
    """Return the share of numbers that bfloat16 holds, within a relative tolerance each."""
    mantissa, exponent = np.frexp(values)
    nearest = np.ldexp(np.round(mantissa * 256) / 256, exponent)
    return float((np.abs(nearest / values - 1) <= tolerance).mean())
