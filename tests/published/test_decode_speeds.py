"""Decode speeds of bitnet.cpp (arXiv:2410.16144), T-MAC (arXiv:2407.00088) and llama.cpp: fitted and left out."""

import contextlib
import csv
import io

import numpy as np
import pytest

from bitsim.energy_tables import load_hardware
from bitsim.energy_tables.citations import DATA
from bitsim.energy_tables.published import DecodeSpeed, decode_speeds
from bitsim.energy_tables.tables import ENGINE_COLUMNS
from bitsim.simulator import calibrate, estimate

TABLES = [
    ("bitnet.cpp", "m2-ultra", "b1.58"),
    ("bitnet.cpp", "i7-13700h", "b1.58"),
    ("t-mac", "raspberry-pi-5", None),
    ("t-mac", "m2-ultra", None),
    ("llama.cpp", "m2-ultra", "fp16"),
    ("llama.cpp", "i7-13700h", "fp16"),
]
# What the fits are made of, as opposed to where they come from.
NUMBERS = [name for name in ENGINE_COLUMNS if name not in ("source", "locator", "status", "note")]


def rows_of(software: str, hardware: str, scheme: str | None) -> list[DecodeSpeed]:
    return [
        row
        for row in decode_speeds()
        if (row.software, row.hardware) == (software, hardware)
        and row.fit
        and row.phase == "decode"
        and scheme in (None, row.scheme)
    ]


def simulated(row: DecodeSpeed) -> float:
    result = estimate(
        row.model, row.scheme, row.hardware, engine=row.software, threads=row.threads, prompt_tokens=0, new_tokens=128
    )
    assert result.engine.fit == "fitted"
    return result.tokens_per_s.mid


@pytest.mark.parametrize(("software", "hardware", "scheme"), TABLES)
def test_fitted_speeds_are_within_10_percent_on_average(software: str, hardware: str, scheme: str | None) -> None:
    rows = rows_of(software, hardware, scheme)
    assert len(rows) >= 4
    assert np.mean([abs(simulated(row) / row.tokens_per_s - 1) for row in rows]) <= 0.10


def test_speeds_of_models_left_out_of_the_fit_are_within_10_percent_on_average() -> None:
    errors = []
    for (software, hardware, schemes), rows in calibrate.groups().items():
        if any(table[:2] == (software, hardware) and table[2] in (None, *schemes) for table in TABLES):
            peak_s_per_byte = 1 / load_hardware(hardware).value("bandwidth_bytes_per_s").mid
            points = [calibrate.point_of(row) for row in rows if row.phase == "decode"]
            left_out = calibrate.left_out_errors(points, peak_s_per_byte)
            errors += [] if left_out is None else list(left_out)
    assert len(errors) >= 60
    assert np.mean(np.abs(errors)) <= 0.10


def test_the_shipped_fits_are_what_calibrate_prints() -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        calibrate.main()
    now = list(csv.DictReader(io.StringIO(printed.getvalue())))
    shipped = list(csv.DictReader(io.StringIO((DATA / "engines.csv").read_text(encoding="utf-8"))))
    assert [row["engine"] + row["hardware"] for row in now] == [row["engine"] + row["hardware"] for row in shipped]
    for new, old in zip(now, shipped, strict=True):
        for name in NUMBERS:
            same = new[name] == old[name] or float(new[name]) == pytest.approx(float(old[name]), rel=1e-3, abs=1e-14)
            assert same, (old["engine"], old["hardware"], old["schemes"], name, old[name], new[name])
