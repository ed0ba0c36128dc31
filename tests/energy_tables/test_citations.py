"""Every number's source is in sources.csv, and a reference can be made of it."""

import csv
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from refusals import refusal

from bitsim.energy_tables import cite, sources
from bitsim.energy_tables.citations import DATA, KINDS
from bitsim.energy_tables.records import STATUSES

TABLES = sorted([*(set(DATA.glob("*.csv")) - {DATA / "sources.csv"}), *DATA.glob("published/*.csv")])
PROFILES = sorted(DATA.glob("hardware/*.toml"))


def sourced(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where, and the cells, of everything in a file that carries a source."""
    if path.suffix == ".toml":
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        yield from ((f"{path.name} {key}", value) for key, value in values.items() if isinstance(value, dict))
    else:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            yield from ((f"{path.name}:{reader.line_num}", row) for row in reader)


@pytest.mark.parametrize("path", [*TABLES, *PROFILES], ids=lambda path: path.name)
def test_every_source_key_is_known(path: Path) -> None:
    rows = list(sourced(path))
    assert rows
    for where, cells in rows:
        keys = cells["source"].split()
        assert keys, where
        assert set(keys) <= set(sources()), where
        assert cells["status"] in STATUSES, where
        assert cells["locator"].strip(), where


@pytest.mark.parametrize("path", [*TABLES, *PROFILES], ids=lambda path: path.name)
def test_derived_and_assumed_values_say_why(path: Path) -> None:
    assert [
        where for where, cells in sourced(path) if cells["status"] in ("derived", "assumed") and not cells["note"]
    ] == []


@pytest.mark.parametrize("key", sources())
def test_a_source_makes_a_reference(key: str) -> None:
    source = sources()[key]
    assert source.key == key
    assert source.kind in KINDS
    assert 1950 < source.year < 2100
    assert source.reference().startswith(f"{source.authors} ({source.year}). {source.title}. ")
    assert source.reference().isprintable()


def test_citations_keep_their_order_and_come_once() -> None:
    assert [source.key for source in cite(["ma2024era", "bitsim", "ma2024era"])] == ["ma2024era", "bitsim"]


def test_an_unknown_key_gets_a_suggestion() -> None:
    assert refusal(lambda: cite(["ma2024eta"])) == "unknown source 'ma2024eta'; did you mean 'ma2024era'?"
