"""The model run on a short text, as it is and with one thing changed at a time: what is right foretells best."""

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bitsim.energy_tables import BitsimError

from ..checkpoints.changed import Changed
from ..checkpoints.checkpoint import Checkpoint, Dense, Float32, Linear
from ..checkpoints.gguf_names import halves, neighbours
from ..generation.evaluate import Window, log_likelihoods
from ..generation.tokenizer import Tokenizer
from ..heads.head import Ids
from ..loading import run_checkpoint
from ..model.config import TextRules
from ..packing import CODECS, Ternary
from .codes import as_ternary
from .contents import Contents
from .finding import ERROR, WARNING, Finding
from .trial_text import TEXT

LEAST_NATS, SURE = 0.1, 5.0  # a token, and standard errors: what a change must gain to be called right
KNOWS_SOMETHING = 1.0  # nats a token better than chance
LEAST_TOKENS = 32
_AGAIN = "convert the original again with a program that knows the family (bitsim convert ORIGINAL NEW)"

Losses = npt.NDArray[np.float64]
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Trial:
    """How well a model foretold the text: `losses` in nats, one a token."""

    name: str
    losses: Losses

    @property
    def mean(self) -> float:
        """Nats a token."""
        return float(self.losses.mean())


@dataclass(frozen=True, slots=True)
class Change:
    """What is tried: `name` says what it does, `what` is wrong with the file if it helps."""

    check: str
    name: str
    what: str
    mend: str
    apply: Callable[[Checkpoint], Checkpoint]


Trials = list[tuple[Trial, Change | None]]  # the first is the model as it is


def trial_tokens(rules: TextRules, context: int) -> Ids | None:
    """Return the tokens of the text, as many as a model takes; None without a tokenizer, or for too few."""
    if rules.tokenizer is None:
        return None
    tokens = Tokenizer(rules).encode(TEXT, bos=True)[:context]
    return tokens if len(tokens) >= LEAST_TOKENS else None


def run_trials(contents: Contents, checkpoint: Checkpoint, tokens: Ids, tell: Tell) -> Trials:
    """Run the model as it is, and with each change that may be the right one.

    Raises:
        BitsimError: as it is, it can't be run; a change with which it can't be run is left out.
    """
    tell("running the model as it is")
    trials: Trials = [(Trial("as it is", losses(checkpoint, tokens)), None)]
    for change in _changes(contents, checkpoint):
        tell(f"running the model {change.name}")
        with suppress(BitsimError):  # numbers become too large
            trials.append((Trial(change.name, losses(change.apply(checkpoint), tokens)), change))
    return trials


def losses(checkpoint: Checkpoint, tokens: Ids) -> Losses:
    """Return -ln p of each token but the first."""
    model = run_checkpoint(checkpoint)
    try:
        return -log_likelihoods(model, tokens, Window(0, 1, len(tokens)))
    finally:
        model.close()


def judge(trials: Trials, vocab: int) -> Iterator[Finding]:
    """Say which change, if any, makes the model foretell the text surely better."""
    base, chance = trials[0][0], math.log(vocab)
    best, change = min(trials, key=lambda pair: pair[0].mean)
    if change is not None and best.mean < chance - KNOWS_SOMETHING and _surely_better(best, base):
        yield Finding(
            ERROR,
            change.check,
            change.what,
            f"{len(base.losses)} tokens of English: {base.mean:.3f} nats each as it is, {best.mean:.3f} {change.name}",
            change.mend,
        )
    elif base.mean > chance - KNOWS_SOMETHING:
        yield Finding(
            WARNING,
            "no-language",
            "the model foretells English text no better than chance, and no single change that was tried helps",
            f"{base.mean:.3f} nats a token; all {vocab:,} tokens equally likely: {chance:.3f}",
            "compare with the original: bitsim doctor FILE --against ORIGINAL",
        )


def settled(trials: Trials, vocab: int) -> set[str]:
    """Return the checks that the trials answer with: as it is, it is right."""
    base = trials[0][0]
    if base.mean > math.log(vocab) - KNOWS_SOMETHING:
        return set()
    checks = {change.check for _, change in trials if change}
    return {
        check
        for check in checks
        if all(_surely_better(base, trial) for trial, change in trials if change and change.check == check)
    }


def _surely_better(one: Trial, other: Trial) -> bool:
    apart = other.losses - one.losses
    error = max(float(apart.std(ddof=1)) / math.sqrt(len(apart)), 1e-12)
    return float(apart.mean()) > LEAST_NATS and float(apart.mean()) / error > SURE


def _changes(contents: Contents, checkpoint: Checkpoint) -> Iterator[Change]:
    spec = checkpoint.config.spec
    if spec.sub_norms or spec.activation == "relu2":
        other = "silu" if spec.activation == "relu2" else "relu2"
        config = replace(checkpoint.config, spec=replace(spec, activation=other))
        what = f"the feed-forward computes {spec.activation}, and was trained with {other}"
        key = "hidden_act" if contents.form == "hf" else "hidden_activation"
        mend = f'set "{key}": "{other}" in config.json' if contents.form == "hf" else f"{_AGAIN}, and writes {key}"
        yield Change("activation", f"with {other}", what, mend, lambda base: Changed(base, config=config))
    for order, moved in (("halves", halves), ("neighbours", neighbours)):
        yield Change(
            "rotary-order",
            f"with rows of q and k in the order '{order}'",
            "rows of q and k lie in another order than readers of this architecture expect",
            _AGAIN,
            lambda base, moved=moved: Changed(base, _reorder(spec.heads, spec.kv_heads, moved)),  # type: ignore[misc]
        )
    if any(as_ternary(checkpoint.linear(0, name).weights) for name in ("q", "up")):
        yield from _changes_of_scales(contents)


def _changes_of_scales(contents: Contents) -> Iterator[Change]:
    yield Change(
        "scale-sense",
        "with scales turned over",
        "scales are turned over: they multiply where they should divide, or the other way round",
        'exchange "bitlinear" and "autobitlinear" as linear_class in config.json' if contents.form == "hf" else _AGAIN,
        lambda base: Changed(base, _rescaled(_turned_over)),
    )
    yield Change(
        "requantised",
        "with scales divided by the share of weights that are not 0",
        "weights were made ternary a second time: every scale has shrunk to the share of weights that are not 0",
        _AGAIN,
        lambda base: Changed(base, _rescaled(_as_before)),
    )
    if any(tensor.kind == "I2_S" for tensor in contents.tensors):
        yield Change(
            "i2_s-layout",
            "with I2_S in the order of ARM",
            "the file was made for bitnet.cpp on ARM, whose I2_S has another order than that of x86",
            "convert the original on an x86 machine, or to another format: bitsim convert ORIGINAL NEW --to tq2_0",
            lambda base: Changed(base, _of_arm),
        )


def _reorder(
    heads: int, kv_heads: int, moved: Callable[[npt.NDArray[np.generic], int], npt.NDArray[np.generic]]
) -> Callable[[str, Linear], Linear]:
    def change(name: str, linear: Linear) -> Linear:
        if name not in "qk":
            return linear
        count = heads if name == "q" else kv_heads
        return in_order(linear, lambda rows: moved(rows, count))

    return change


def in_order(linear: Linear, moved: Callable[[npt.NDArray[np.generic]], npt.NDArray[np.generic]]) -> Linear:
    """Return a matrix with its rows, and what goes with them, in another order."""
    weights, bias = linear.weights, None if linear.bias is None else moved(linear.bias).astype(np.float32)
    if isinstance(weights, Dense):
        return replace(linear, weights=Dense(moved(weights.bits).astype(np.uint16), weights.brain), bias=bias)
    scales = weights.scales if len(weights.scales) == 1 else moved(weights.scales).astype(np.float32)
    return replace(linear, weights=Ternary(moved(weights.weights).astype(np.int8), scales), bias=bias)


def _rescaled(scales: Callable[[Ternary], Float32]) -> Callable[[str, Linear], Linear]:
    def change(name: str, linear: Linear) -> Linear:
        weights = as_ternary(linear.weights)
        if weights is None:
            return linear
        with np.errstate(over="ignore"):  # a damaged scale; the run shows it
            return replace(linear, weights=Ternary(weights.weights, scales(weights)))

    return change


def _turned_over(weights: Ternary) -> Float32:
    """Return one over each scale; a block without weights may have 0."""
    return np.divide(np.float32(1), weights.scales, out=weights.scales.copy(), where=weights.scales != 0)


def _as_before(weights: Ternary) -> Float32:
    """Return the scales that were there before a second quantisation by the mean size."""
    return weights.scales / np.float32(max(float((weights.weights != 0).mean()), 1e-6))


def _of_arm(name: str, linear: Linear) -> Linear:
    weights = linear.weights
    if not isinstance(weights, Ternary) or weights.weights.shape[1] % 128:
        return linear
    packed = CODECS["i2_s"].pack(weights.weights)
    return replace(
        linear, weights=Ternary(CODECS["i2_s-arm"].unpack(packed, *weights.weights.shape).weights, weights.scales)
    )
