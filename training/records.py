"""Records of runs: one JSON for each, and runs.csv, in which every finished run of a folder has a row."""

import csv
import io
import json
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bitsim.energy_tables import BitsimError
from bitsim.runtime import cpu
from bitsim.runtime.whole import whole_file

RECORD, RUNS, CURVE = "record.json", "runs.csv", "curve.csv"

# Columns of runs.csv: units in the names, what can't be known is empty or "unavailable".
COLUMNS = (
    "run",
    "scheme",
    "size",
    "recipe",
    "parameters",
    "non_embedding",
    "layers",
    "hidden",
    "heads",
    "ffn",
    "vocab",
    "context",
    "norms",
    "tokens",
    "steps",
    "batch_tokens",
    "learning_rate",
    "seed",
    "train_loss",
    "held_out_loss",
    "bits_per_byte",
    "tokens_per_s",
    "seconds",
    "peak_memory_bytes",
    "energy_j",
    "energy_source",
    "precision",
    "devices",
    "device",
    "data",
    "data_hash",
    "tokenizer_hash",
    "start",
    "teacher",
    "finished",
    "bitsim",
    "torch",
    "transformers",
)
CURVE_COLUMNS = ("step", "tokens", "loss", "held_out_loss", "learning_rate", "gradient_norm")


def versions() -> dict[str, str]:
    """Return the versions of what took part; of a package that is not installed, "none"."""
    names = {"bitsim": "bitsim-llm", "torch": "torch", "transformers": "transformers", "accelerate": "accelerate"}
    found = {"python": platform.python_version()}
    for key, distribution in names.items():
        try:
            found[key] = version(distribution)
        except PackageNotFoundError:
            found[key] = "none"
    return found


def machine() -> dict[str, Any]:
    """Return what the run was made on."""
    return {"cpu": cpu.name(), "cores": cpu.usable_cores(), "system": platform.system(), "arch": platform.machine()}


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write a finished run's record into its folder, and runs.csv of the folder above anew.

    Raises:
        BitsimError: the disk is full, or no permission.
    """
    with whole_file(folder / RECORD) as part:
        part.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    write_runs(folder.parent)


def write_runs(folder: Path) -> None:
    """Write runs.csv from the records of all finished runs in the folder: it holds nothing that they don't."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_row(record) for record in read_records(folder))
    with whole_file(folder / RUNS) as part:
        part.write_text(text.getvalue(), encoding="utf-8")


def read_records(folder: Path) -> list[dict[str, Any]]:
    """Return the records of a folder's finished runs, by name.

    Raises:
        BitsimError: a record is damaged; the file is named.
    """
    return [read_record(file) for file in sorted(folder.glob(f"*/{RECORD}"))]


def read_record(file: Path) -> dict[str, Any]:
    """Return a record.

    Raises:
        BitsimError: it is no record.
    """
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BitsimError(f"{file}: expected the record of a run ({error})") from None
    if not isinstance(record, dict) or not {"run", "scheme", "curve"} <= record.keys():
        raise BitsimError(f"{file}: expected the record of a run, with run, scheme and curve")
    return record


def write_curve(folder: Path, curve: Iterable[Mapping[str, Any]]) -> None:
    """Write the loss curve so far: one row for each step that was logged or evaluated."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CURVE_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(curve)
    with whole_file(folder / CURVE) as part:
        part.write_text(text.getvalue(), encoding="utf-8")


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    return {**record, **record.get("versions", {})}
