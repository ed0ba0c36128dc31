"""A model on this machine: the speeds that were measured, and what bitsim predicts.

The prediction is that of the profile that --hardware names, with the memory's speed as it was measured with as many
threads; without a name it is that of the CPU on which bitsim's own kernels were developed.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bitsim.energy_tables import BitsimError, HardwareProfile, Interval, Quantity, load_hardware
from bitsim.energy_tables.units import format_ratio
from bitsim.simulator import Estimate, Scheme, get_scheme

from ..document.question import Question
from ..plot_style import COLOURS, SMALL, empty_figure, literal, mark_style
from .asked import estimate_of
from .figure import Figure, Row, Rows
from .lines import log_frame, span
from .text import cut

_DEFAULT = "epyc-zen4-2core"
_LINE = 0.26  # inches, of a result
_PREDICTED = mark_style(COLOURS[0], "o") | {
    "markerfacecolor": "none",
    "markeredgecolor": COLOURS[0],
    "markeredgewidth": 1.2,
}
_MEASURED = mark_style(COLOURS[1], "D") | {"markersize": 6}
_PHASES = {"prefill": "reading the prompt", "decode": "new tokens"}
_BITS_PER_BYTE = 8.0
_TERNARY_BELOW = 8.0  # bits of a weight: bitsim runs ternary and 16-bit weights


def _rows(question: Question) -> list[Row]:
    if question.measured is None:
        raise BitsimError("--measured: expected the JSON of bitsim bench --model, got none")
    from ..document.sections.measured import read_measured

    found = read_measured(question.measured)
    scheme = _scheme(question, found["model"])
    return [_row(question, found["machine"], scheme, result) for result in found["results"]]


def _scheme(question: Question, model: Mapping[str, Any]) -> Scheme:
    """Return the scheme that was run, with the bits of a weight as it was packed."""
    bits = _BITS_PER_BYTE * _number(question, model, "weight_bytes") / question.spec.parameters_linear
    return replace(get_scheme("b1.58" if bits < _TERNARY_BELOW else "fp16"), weight_bits=bits)


def _row(question: Question, machine: Mapping[str, Any], scheme: Scheme, result: Mapping[str, Any]) -> Row:
    phase = result.get("phase")
    if phase not in _PHASES:
        raise BitsimError(f"{question.measured}: phase: expected prefill or decode, got '{str(phase)[:40]}'")
    names = ("batch", "threads", "tokens", "context", "tokens_per_s")
    batch, threads, tokens, context, speed = (_number(question, result, name) for name in names)
    each = round(tokens / batch)
    work = {"prompt_tokens": each, "new_tokens": 0} if phase == "prefill" else {
        "prompt_tokens": max(round(context) - each, 0), "new_tokens": each,
    }  # fmt: skip
    profile = _profile(question, machine, round(threads))
    options = {"engine": "bitsim", "threads": round(threads), "batch": round(batch), "context": round(context)}
    estimate = estimate_of(question, scheme, profile, None, **options, **work)
    predicted = _speed(estimate, phase)
    joules = result.get("energy_j_per_token")
    return {
        "phase": phase,
        "threads": round(threads),
        "sequences": round(batch),
        "context_tokens": round(context),
        "scheme": scheme.name,
        "hardware": profile.name,
        "measured_tokens_per_s": speed,
        "predicted_tokens_per_s": predicted.mid,
        "low_predicted_tokens_per_s": predicted.low,
        "high_predicted_tokens_per_s": predicted.high,
        "measured_over_predicted": speed / predicted.mid,
        "measured_energy_j_per_token": float(joules) if isinstance(joules, int | float) else None,
        "predicted_energy_j_per_token": _joules(estimate, phase),
    }


def _profile(question: Question, machine: Mapping[str, Any], threads: int) -> HardwareProfile:
    """Return the machine's profile, with the memory's speed as it was measured."""
    profile = load_hardware(question.machines[0] if question.machines else _DEFAULT)
    if not question.machines and threads > profile.cores:
        raise BitsimError(
            f"--hardware: expected the profile of a machine with {threads:,} cores or more ({question.measured})"
        )
    read = machine.get("read_bandwidth_bytes_per_s", {})
    if not isinstance(read, Mapping) or str(threads) not in read:
        raise BitsimError(f"{question.measured}: read_bandwidth_bytes_per_s: expected a number for {threads} threads")
    name = "bandwidth_bytes_per_s"
    known = profile.quantities[name]
    measured = Quantity(Interval.exact(_number(question, read, str(threads))), known.provenance)
    return replace(profile, quantities={**profile.quantities, name: measured})


def _speed(estimate: Estimate, phase: str) -> Interval:
    if phase == "decode":
        return estimate.tokens_per_s
    tokens = estimate.workload.batch * estimate.workload.prompt_tokens
    low, mid, high = estimate.prefill_s
    return Interval.spanning(tokens / high, tokens / mid, tokens / low)


def _joules(estimate: Estimate, phase: str) -> float:
    if phase == "decode":
        return estimate.token_energy_j["total"].mid
    return estimate.energy_j["total"].mid / (estimate.workload.batch * estimate.workload.prompt_tokens)


def _number(question: Question, cells: Mapping[str, Any], name: str) -> float:
    value = cells.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise BitsimError(f"{question.measured}: {name}: expected a number above 0, got '{str(value)[:40]}'")
    return float(value)


def _draw(rows: Rows) -> Any:
    figure = empty_figure(len(rows) * _LINE + 1.15)
    axes = figure.add_subplot()
    ends = ("low_predicted", "high_predicted", "predicted", "measured")
    log_frame(axes, span([row[f"{end}_tokens_per_s"] for row in rows for end in ends]), None)
    for index, row in enumerate(rows):
        low, mid, high = (row[f"{end}predicted_tokens_per_s"] for end in ("low_", "", "high_"))
        axes.plot([low, high], [index, index], color=COLOURS[0], linewidth=1.2, alpha=0.7, zorder=2)
        axes.plot([mid], [index], linestyle="none", zorder=3, **_PREDICTED)
        axes.plot(
            [row["measured_tokens_per_s"]], [index], linestyle="none", zorder=4, gid=f"v{index}",
            **_MEASURED,
        )  # fmt: skip
        axes.annotate(
            f"{row['measured_tokens_per_s']:,.3g}/s, {format_ratio(row['measured_over_predicted'])}", (1.0, index),
            xycoords=("axes fraction", "data"), xytext=(4, 0), textcoords="offset points", fontsize=SMALL, va="center",
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [_label(row) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("tokens/s; at the right: measured, and measured over predicted", fontsize=SMALL)
    _draw_key(figure, rows[0])
    return figure


def _draw_key(figure: Any, row: Mapping[str, Any]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle="none", label="measured", **_MEASURED),
        Line2D([], [], linewidth=1.2, label="predicted, with its range", **_PREDICTED),
    ]
    about = literal(f"{row['scheme']}; predicted for {cut(row['hardware'], 60)}, its memory as fast as measured")
    legend = figure.legend(
        handles=handles, loc="outside upper left", ncols=2, fontsize=SMALL, frameon=False, title=about,
        title_fontsize=SMALL,
    )  # fmt: skip
    legend.set_alignment("left")


def _label(row: Mapping[str, Any]) -> str:
    several = f", {row['sequences']:,} sequences" if row["sequences"] > 1 else ""
    threads = "1 thread" if row["threads"] == 1 else f"{row['threads']} threads"
    return f"{_PHASES[row['phase']]}, {threads}{several}"


def _hover(row: Mapping[str, Any]) -> str:
    low, mid, high = (row[f"{end}predicted_tokens_per_s"] for end in ("low_", "", "high_"))
    measured = f"measured {row['measured_tokens_per_s']:,.3g} tokens/s"
    return f"{_label(row)}: {measured}, predicted {mid:,.3g} ({low:,.3g} to {high:,.3g})"


MEASURED = Figure("measured", "Speeds measured on this machine beside the predicted ones", _rows, _draw, _hover)
