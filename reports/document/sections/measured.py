"""The section on a model as it runs on this machine: what was measured, beside what was predicted."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.records import read_text
from bitsim.energy_tables.units import format_ratio
from bitsim.simulator import ModelSpec, make_workload, resolve_model

from ..parts import Cell, Drawing, Headline, Number, Section
from ..question import Question
from . import cells
from .case import drawing

_DESCRIPTIONS = (".json", ".csv")  # of shapes, without weights
_FIELDS = ("machine", "model", "results")
_PHASES = {"prefill": "prompt", "decode": "new tokens"}

Row = Mapping[str, Any]  # of the figure "measured"


def read_measured(path: Path) -> dict[str, Any]:
    """Read what `bitsim bench --model --format json` printed.

    Raises:
        BitsimError: no such file, or not of that form; the field is named.
    """
    try:
        found = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise BitsimError(f"{path}: expected the JSON of bitsim bench --model, got something else ({error})") from None
    missing = [name for name in _FIELDS if not isinstance(found, dict) or not found.get(name)]
    if missing:
        raise BitsimError(f"{path}: {missing[0]}: expected the JSON of bitsim bench --model, it is missing")
    if not isinstance(found["results"], list) or not all(isinstance(row, dict) for row in found["results"]):
        raise BitsimError(f"{path}: results: expected a list of what was measured")
    return dict(found)


def model_of(path: Path) -> ModelSpec:
    """Return the shape of the model that was measured.

    Raises:
        BitsimError: the model's name is no preset, and no file or folder of a model that is here.
    """
    name = str(read_measured(path)["model"].get("name", ""))
    try:
        return _shape_in(name) or resolve_model(name)
    except BitsimError as error:
        raise BitsimError(
            f"{path}: model.name: expected a shape that is known here; name it with --model ({error})"
        ) from None


def _shape_in(name: str) -> ModelSpec | None:
    """Return the shape of the model in a file, of weights that bitsim bench can run; None where it is no such file."""
    place = Path(name)
    try:
        if not place.is_file() or place.suffix in _DESCRIPTIONS:
            return None
    except (OSError, ValueError):  # a name too long for a path, or with a NUL byte
        return None
    from bitsim.runtime.checkpoints import open_checkpoint

    spec = open_checkpoint(place).config.spec
    return replace(spec, name=place.stem)


def subtitle(question: Question) -> str:
    """Return the machine and the model in a line."""
    assert question.measured is not None
    found = read_measured(question.measured)
    machine, model = found["machine"], found["model"]
    kernel = f", {machine['kernel']} kernel" if machine.get("kernel") else ""
    name = Path(str(model.get("name", question.spec.name))).name
    return f"{machine.get('cpu', 'a machine without a name')}{kernel}; {name}"


def picture(question: Question) -> Drawing:
    """Return the speeds as they were measured and as they were predicted.

    Raises:
        BitsimError: a field of the file is missing or wrong.
    """
    return drawing(
        question,
        "measured",
        "Speeds as they were measured, beside the predicted ones with their ranges.",
        "Measured and predicted tokens per second, one line for each phase and number of threads.",
    )


def headline(question: Question, rows: Sequence[Row]) -> tuple[Headline, ...]:
    """Return five numbers: new tokens, prompt, how far the prediction is off, memory, energy."""
    assert question.measured is not None
    results = read_measured(question.measured)["results"]
    found = [_fastest(rows, phase, label) for phase, label in (("decode", "New tokens"), ("prefill", "Prompt"))]
    ratios = [float(row["measured_over_predicted"]) for row in rows]
    mean = sum(abs(ratio - 1.0) for ratio in ratios) / len(ratios)
    inside = sum(
        row["low_predicted_tokens_per_s"] <= row["measured_tokens_per_s"] <= row["high_predicted_tokens_per_s"]
        for row in rows
    )
    off = f"measured over predicted: {format_ratio(min(ratios))} to {format_ratio(max(ratios))}"
    peaks = [row["peak_rss_bytes"] for row in results if isinstance(row.get("peak_rss_bytes"), int | float)]
    peak = cells.si(max(peaks), "B").text if peaks else "not measured"
    decode = [row for row in rows if row["phase"] == "decode"] or rows
    joules = [row["measured_energy_j_per_token"] for row in decode if row["measured_energy_j_per_token"] is not None]
    energy = cells.si(min(joules), "J").text if joules else "not measured"
    guess = cells.si(min(float(row["predicted_energy_j_per_token"]) for row in decode), "J").text
    return (
        *found,
        Headline("Mean error", f"{mean:.0%}", f"{off}; {inside} of {len(rows)} inside the predicted range"),
        Headline("Memory in use", peak, "at most, of the whole process"),
        Headline(
            "Energy of a token", energy, f"the least of all lines; predicted {guess}, with all that the machine draws"
        ),
    )


def _fastest(rows: Sequence[Row], phase: str, label: str) -> Headline:
    ones = [row for row in rows if row["phase"] == phase]
    if not ones:
        return Headline(label, "not measured", "")
    best = max(ones, key=lambda row: float(row["measured_tokens_per_s"]))
    threads = f"{best['threads']} thread{'' if best['threads'] == 1 else 's'}"
    return Headline(label, cells.speed(best["measured_tokens_per_s"]).text, f"{threads}; predicted {_predicted(best)}")


def _predicted(row: Row) -> str:
    ends = ("predicted_tokens_per_s", "low_predicted_tokens_per_s", "high_predicted_tokens_per_s")
    mid, low, high = (cells.speed(row[end]) for end in ends)
    return cells.with_range(mid, low, high)


def as_run(question: Question, rows: Sequence[Row]) -> Question:
    """Return the question about what was run alone: its tokens, its scheme, the machine that the prediction is of."""
    assert question.measured is not None
    machine = question.machines[0] if question.machines else str(rows[0]["hardware"])
    results = read_measured(question.measured)["results"]
    sequences = int(rows[0]["sequences"])
    tokens = {result["phase"]: round(result["tokens"] / sequences) for result in reversed(results)}
    work = make_workload(sequences, tokens.get("prefill", 0), tokens.get("decode", 0))
    return replace(question, machines=(machine,), schemes=(str(rows[0]["scheme"]),), workload=work)


def section(question: Question, figure: Drawing, draw: bool = True) -> Section:
    """Return what was measured, line by line, beside what was predicted.

    Args:
        question: with what was measured.
        figure: `picture`.
        draw: whether the section holds the figure; the first page may.
    """
    assert question.measured is not None
    rows = figure.rows
    results = read_measured(question.measured)["results"]
    with_joules = any(row["measured_energy_j_per_token"] is not None for row in rows)
    lines: list[list[Cell]] = []
    for row, result in zip(rows, results, strict=True):
        line: list[Cell] = [
            _PHASES[str(row["phase"])],
            *(cells.count(_float(row[name])) for name in ("threads", "sequences", "context_tokens")),
            _rate(row["measured_tokens_per_s"]),
            _rate(row["predicted_tokens_per_s"]),
            cells.span(*(_rate(row[f"{end}_predicted_tokens_per_s"]) for end in ("low", "high"))),
            cells.ratio(_float(row["measured_over_predicted"])),
            _share(result),
        ]
        if with_joules:
            line.append(_joules(row["measured_energy_j_per_token"]))
        line.append(_joules(row["predicted_energy_j_per_token"]))
        lines.append(line)
    columns = ["phase", "threads", "sequences", "context", "measured", "predicted", "range", "ratio"]
    columns += ["of memory", *(["a token"] if with_joules else []), "predicted, a token"]
    name = str(rows[0]["hardware"])
    text = (
        f"Predictions are of bitsim's own software on the profile {name}, with the memory's speed as it was measured "
        "here; another machine is named with --hardware. Speeds are in tokens a second of all sequences together; "
        "the ratio is measured over predicted; of memory: the share of its speed that the bytes of a token take up.",
    )
    notes = () if with_joules else ("No energy was measured: the machine shows no counter to this process.",)
    table = cells.table(columns, lines, "Predicted beside measured.")
    return Section("measured", "Measured on this machine", text, (table,), (figure,) if draw else (), notes)


def _rate(value: float | str | None) -> Number:
    """Return tokens per second, without the unit."""
    number = _float(value)
    return Number(number, f"{number:,.3g}" if number < 1000 else f"{number:,.0f}")


def _float(value: float | str | None) -> float:
    return float(value or 0.0)


def _joules(value: float | str | None) -> Cell:
    return "" if value is None else cells.si(float(value), "J")


def _share(result: Row) -> Cell:
    """Tell which share of the memory's speed the bytes of a token take up."""
    share = result.get("fraction_of_read_bandwidth")
    return Number(share, f"{share:.0%}") if isinstance(share, int | float) else ""
