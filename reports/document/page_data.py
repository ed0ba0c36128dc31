"""What the form of an HTML report computes with: shapes, schemes, machines and prices, as plain JSON.

`model.js` does the arithmetic. All else that an estimate rests on (the shape of a size, the engine of a machine, the
energy of an operation at each corner of its range) is worked out here, by the simulator's own functions.
"""

import math
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from bitsim.energy_tables import (
    CORNERS,
    BitsimError,
    HardwareProfile,
    energy_table,
    grid_rows,
    hardware_names,
    load_hardware,
    model_rows,
)
from bitsim.energy_tables.units import format_count, parse_count
from bitsim.simulator import SCHEMES, ModelSpec, Scheme, resolve_engine, spec_for_size
from bitsim.simulator.cost import Machine
from bitsim.simulator.estimate import DEFAULT_HARDWARE, MAX_DEVICES, devices_needed
from bitsim.simulator.sizes import SIZE_STEP
from bitsim.simulator.system import SPLITS, System, machine_of, shape_of, widths_of
from bitsim.simulator.workload import MAX_BATCH, MAX_CONTEXT

from .question import Question

Json = dict[str, Any]

LEAST_SIZE, MOST_SIZE = 1e8, 1e12  # parameters that the slider reaches: models people serve


def page_data(question: Question) -> Json:
    """Return everything that the form needs, ready for JSON; SI units.

    Raises:
        BitsimError: a machine of the question that can't be read.
    """
    models, start = _models(question)
    return {
        "sizes": sizes_data(),
        "models": models,
        "machine_fields": list(Machine._fields),
        "schemes": {
            name: {"title": scheme.title, "widths": widths_of(scheme)._asdict()} for name, scheme in SCHEMES.items()
        },
        "hardware": {name: hardware_data(name) for name in dict.fromkeys((*question.machines, *hardware_names()))},
        "splits": list(SPLITS),
        "regions": {
            name: {"carbon_kg_per_j": list(row.carbon_kg_per_j), "price_usd_per_j": row.price_usd_per_j}
            for name, row in grid_rows().items()
        },
        "limits": {"batch": MAX_BATCH, "context": MAX_CONTEXT, "devices": MAX_DEVICES},
        "start": start | _start(question),
    }


def sizes_data() -> Json:
    """Return the shapes of all sizes from 100M to 1T as columns, a value for each step of the size.

    A column with one and the same value in all rows is that value.
    """
    first, last = (round(math.log(size) / SIZE_STEP) for size in (LEAST_SIZE, MOST_SIZE))
    rows = [shape_data(spec_for_size(math.exp(step * SIZE_STEP))) for step in range(first, last + 1)]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return {
        "first": first,
        "count": len(rows),
        "step": SIZE_STEP,
        "least": LEAST_SIZE,
        "most": MOST_SIZE,
        "columns": {name: values[0] if len(set(values)) == 1 else values for name, values in columns.items()},
    }


def shape_data(spec: ModelSpec) -> Json:
    """Return a model as numbers: the fields of `Shape`, and 1 or 0 for a head that is the embedding."""
    fields = {name: _short(value) for name, value in shape_of(spec)._asdict().items()}
    return fields | {"tied_head": int(spec.tied_head)}


def hardware_data(name: str) -> Json:
    """Return a machine with every scheme on it.

    Args:
        name: of a profile, or a .toml file.

    Raises:
        BitsimError: no such machine, or the file is damaged.
    """
    profile = load_hardware(name)
    price = profile.get("price_usd_per_hour")
    return {
        "title": profile.title,
        "option": shlex.quote(name),
        "capacity_bytes": profile.value("capacity_bytes").mid,
        "on_chip_bytes": profile.value("on_chip_bytes").mid,
        "weights_on_chip": profile.weights_on_chip,
        "linked": profile.get("link_bytes_per_s") is not None,
        "price_usd_per_hour": None if price is None else list(price),
        "schemes": {scheme.name: _system_data(profile, scheme) for scheme in SCHEMES.values()},
    }


def _system_data(profile: HardwareProfile, scheme: Scheme) -> Json:
    """Return a scheme on one device with its default engine; "error" says why the machine can't run it."""
    engine = resolve_engine(None, profile, scheme.name)
    system = System(
        scheme=scheme, hardware=profile, engine=engine, table=energy_table(), node=profile.energy_node, devices=1
    )
    try:
        machines = [machine_of(system, corner) for corner in CORNERS]
    except BitsimError as error:
        return {"error": str(error)}
    return {
        "engine": engine.name,
        "note": engine.note,
        "workspace": [engine.workspace_bytes, engine.workspace_bytes_per_sqrt_hidden],
        "machine": [_range(values) for values in zip(*machines, strict=True)],
    }


def _range(values: Sequence[float]) -> float | list[float]:
    """Keep low, mid and high, or one value where they are the same."""
    return _short(values[0]) if len(set(values)) == 1 else [_short(value) for value in values]


def _short(value: float) -> float:
    """Write 4096 where Python would write 4096.0: the numbers of the page are one kind."""
    return int(value) if float(value).is_integer() and abs(value) < 2**53 else value


def _models(question: Question) -> tuple[list[Json], Json]:
    """Return the models that can be chosen besides a size, and what is chosen at the start."""
    option, text = _asked(question)
    presets = [ModelSpec.from_row(row) for row in model_rows().values()]
    models = [_model_data(spec, spec.name, "--model", spec.name) for spec in presets]
    if option == "--size" and LEAST_SIZE <= _nominal(text) <= MOST_SIZE:
        return models, {"model": None, "size": text}
    size = {"size": format_count(min(max(question.spec.parameters, LEAST_SIZE), MOST_SIZE))}
    for index, spec in enumerate(presets):
        if spec == question.spec:
            return models, {"model": index} | size
    return [_model_data(question.spec, question.spec.name, option, text), *models], {"model": 0} | size


def _model_data(spec: ModelSpec, title: str, option: str, text: str) -> Json:
    return {
        "title": title,
        "option": f"{option} {shlex.quote(text)}",
        "max_context": spec.max_context,
        "shape": shape_data(spec),
    }


def _asked(question: Question) -> tuple[str, str]:
    """Return the option that chose the model, as the command line has it."""
    for option, text in _options(question.command):
        if option in ("--size", "--model"):
            return option, text
    try:
        if spec_for_size(question.spec.name) == question.spec:
            return "--size", question.spec.name
    except BitsimError:  # no size: the name of a model
        pass
    return "--model", question.spec.name


def _options(command: str) -> Iterator[tuple[str, str]]:
    try:
        words = shlex.split(command)
    except ValueError:  # no command line that a shell would take
        return
    for word, following in zip(words, [*words[1:], ""], strict=True):
        option, equals, text = word.partition("=")
        yield (option, text) if equals else (word, following)


def _nominal(size: str) -> float:
    """Return the number of parameters that a size stands for, 0 where it is none."""
    try:
        return parse_count(size)
    except BitsimError:
        return 0.0


def _start(question: Question) -> Json:
    """Return what the form shows first: the question of the report."""
    work = question.workload
    needed = work.prompt_tokens + work.new_tokens
    hardware = question.machines[0] if question.machines else DEFAULT_HARDWARE
    others = [name for name in question.schemes if name != "fp16"]
    devices = 1 if question.machines else devices_needed(question.spec, load_hardware(hardware), work)
    return {
        "scheme": others[-1] if others else "b1.58",
        "hardware": hardware,
        "devices": devices,
        "split": SPLITS[0],
        "batch": work.batch,
        "prompt_tokens": work.prompt_tokens,
        "new_tokens": work.new_tokens,
        "context": work.context if work.context > needed else None,
        "region": question.region,
    }
