"""Questions for figures: usual ones, and ones that strain the layout."""

import csv
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bitsim.energy_tables.citations import DATA
from bitsim.reports.document.question import Question
from bitsim.simulator import make_workload, spec_for_size

LONG = "a-machine-whose-name-is-sixty-characters-long-or-thereabouts"
MACHINES = ("h100-sxm", "m2-ultra", "raspberry-pi-4", "raspberry-pi-5", "epyc-7v13", "rtx-4090", "ternary-asic")


@pytest.fixture
def question() -> Question:
    return Question(spec=spec_for_size("7B"), workload=make_workload(), command="bitsim plot")


@pytest.fixture
def long_machine(tmp_path: Path) -> str:
    """Return the file of a machine with a name of 60 characters."""
    text = (DATA / "hardware" / "a100-80gb.toml").read_text(encoding="utf-8")
    path = tmp_path / "long.toml"
    path.write_text(text.replace('name = "a100-80gb"', f'name = "{LONG}"'), encoding="utf-8")
    return str(path)


@pytest.fixture
def strained(long_machine: str) -> Question:
    """Return a question of eight machines and four schemes, with long names and markup in them."""
    return Question(
        spec=replace(spec_for_size("3B"), name="$x_1$ <b>#" + "x" * 190),
        schemes=("fp16", "w8a8", "w4a16", "b1.58"),
        machines=(long_machine, *MACHINES),
        workload=make_workload(batch=8, prompt_tokens=2048, new_tokens=256),
        command="bitsim plot",
    )


@pytest.fixture
def single() -> Question:
    """Return a question of one scheme, without a prompt."""
    spec = spec_for_size("3B")
    workload = make_workload(prompt_tokens=0)
    return Question(spec=spec, schemes=("b1.58",), machines=("raspberry-pi-5",), workload=workload, command="")


@pytest.fixture
def pair(question: Question) -> Question:
    """Return a question of two machines."""
    return replace(question, machines=("m2-ultra", "raspberry-pi-5"))


@pytest.fixture
def four(question: Question) -> Question:
    """Return a question of four schemes on one machine, for several sequences."""
    workload = make_workload(batch=4, prompt_tokens=1024)
    return replace(question, machines=("m2-ultra",), schemes=("fp16", "w8a8", "w4a16", "b1.58"), workload=workload)


@pytest.fixture
def ladder(tmp_path: Path) -> Path:
    """Return the runs.csv of ten runs, with their curves."""
    rows = []
    for scheme, factor in (("fp16", 9.0), ("b1.58", 12.0)):
        for step in range(5):
            size = 1e6 * 3.0**step
            loss = 1.8 + factor * size**-0.1 * (1.0 + 0.003 * (-1) ** step)
            name = f"{size / 1e6:g}M-{scheme}-0123abcd"
            _write_curve(tmp_path / name, 20.0 * size, loss)
            cells = (name, scheme, f"{size / 1e6:g}M", 1.5 * size, size, 20.0 * size, 0, loss, loss)
            rows.append(cells)
    path = tmp_path / "runs.csv"
    columns = ["run", "scheme", "size", "parameters", "non_embedding", "tokens", "seed", "train_loss", "held_out_loss"]
    _write(path, columns, rows)
    return path


def _write_curve(folder: Path, tokens: float, loss: float) -> None:
    folder.mkdir()
    rows = []
    for step in range(1, 41):
        value = loss + 4.0 * math.exp(-step / 4)
        rows.append((step, tokens * step / 40, value * 1.01, value if step % 10 == 0 else "", 1e-3, 0.5))
    _write(folder / "curve.csv", ["step", "tokens", "loss", "held_out_loss", "learning_rate", "gradient_norm"], rows)


def _write(path: Path, columns: list[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Path]:
    """Write what `bitsim bench --model bitnet-b1.58-2B-4T --format json` prints, with other numbers if asked."""

    def write(**changed: object) -> Path:
        result = {"batch": 1, "tokens_per_s": 20.0, "energy_j_per_token": "unavailable"}
        results = [
            result | {"phase": phase, "tokens": tokens, "context": context, "threads": threads} | changed
            for threads in (1, 2)
            for phase, tokens, context in (("prefill", 128, 128), ("decode", 32, 160))
        ]
        document = {
            "machine": {"cpu": "a CPU", "read_bandwidth_bytes_per_s": {"1": 28.4e9, "2": 35e9}},
            "model": {"name": "bitnet-b1.58-2B-4T", "weight_bytes": 522_000_000},
            "results": results,
        }
        path = tmp_path / "bench.json"
        path.write_text(json.dumps(document), encoding="utf-8")
        return path

    return write
