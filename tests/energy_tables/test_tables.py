"""The shipped CSV tables load, their ranges are in order, and a user's own table is checked the same way."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refusal

from bitsim.energy_tables import (
    Interval,
    energy_table,
    engine_fits,
    facility_constants,
    grid_rows,
    hardware_names,
    law_constants,
    loss_laws,
    model_rows,
)
from bitsim.energy_tables.citations import DATA
from bitsim.energy_tables.published import (
    arithmetic_energies,
    decode_speeds,
    energies_per_token,
    memory_points,
    ratios,
    serving_points,
)

OP_HEADER = "node,operation,number_format,energy_pj_low,energy_pj,energy_pj_high,source,locator,status,note"
OP_ROW = "5nm,add,int8,0.004,0.005,0.006,mine,Table 1,seen,"
PUBLISHED = (arithmetic_energies, decode_speeds, energies_per_token, memory_points, ratios, serving_points)


def ranges() -> Iterator[tuple[str, Interval]]:
    table = energy_table()
    yield from ((" ".join(key), row.energy_j) for key, row in table.operations.items())
    yield from ((" ".join(key), row.energy_j) for key, row in table.memories.items())
    yield from ((region, row.carbon_kg_per_j) for region, row in grid_rows().items())
    yield from ((name, interval) for name, (interval, _) in facility_constants().items())


@pytest.mark.parametrize(("name", "interval"), [pytest.param(*pair, id=pair[0]) for pair in ranges()])
def test_ranges_of_shipped_rows_are_in_order_and_finite(name: str, interval: Interval) -> None:
    assert 0 <= interval.low <= interval.mid <= interval.high < 1e3
    assert interval.mid > 0


@pytest.mark.parametrize("load", PUBLISHED, ids=lambda load: load.__name__)
def test_published_rows_have_their_own_id(load: object) -> None:
    rows = load()  # type: ignore[operator]
    assert rows
    assert len({row.id for row in rows}) == len(rows)


def test_published_rows_name_known_models() -> None:
    names = {row.model for load in PUBLISHED for row in load()}
    assert names - {""} <= set(model_rows())


def test_every_table_of_the_folder_has_a_loader() -> None:
    assert {path.stem for path in DATA.glob("*.csv")} == {
        "datacentre",
        "engines",
        "grid",
        "law_constants",
        "loss_laws",
        "memory_energy",
        "models",
        "op_energy",
        "sources",
    }
    assert {path.stem for path in (DATA / "published").glob("*.csv")} == {
        "arithmetic_energy",
        "decode_speed",
        "energy_per_token",
        "memory",
        "ratios",
        "serving",
    }


def test_engine_fits_are_of_shipped_hardware_and_say_how_good_they_are() -> None:
    for fit in engine_fits():
        assert fit.hardware in hardware_names()
        assert 0 < fit.bandwidth_fraction <= 1
        assert fit.rate_fraction > 0  # of the peak of the scheme's own format: table lookup can pass that
        assert 0 <= fit.error < 0.1


def test_wider_numbers_cost_more_at_every_node() -> None:
    table = energy_table()
    for node in table.nodes:
        for operation in ("add", "multiply"):
            energies = [table.operation(node, operation, f"int{bits}").energy_j.mid for bits in (4, 8, 16, 32)]
            assert energies == sorted(set(energies))


def test_loss_laws_have_the_coefficients_of_their_form() -> None:
    for law in loss_laws().values():
        needed = {
            "chinchilla": (law.a, law.b, law.beta),
            "power": (law.a,),
            "kaplan": (law.n_c, law.d_c, law.beta),
        }
        assert all(needed[law.form]), law.law


def test_law_constants_come_once_and_belong_to_a_law() -> None:
    lines = (DATA / "law_constants.csv").read_text(encoding="utf-8").splitlines()[1:]
    keys = [tuple(line.split(",")[:2]) for line in lines]
    assert len(set(keys)) == len(keys)
    for law, constant in keys:
        assert law in loss_laws()
        assert law_constants(law)[constant].value > 0
    assert law_constants("trilm") == {}


def test_an_unknown_row_is_refused_by_name() -> None:
    table = energy_table()
    assert refusal(lambda: table.operation("7nm", "divide", "int8")) == "op_energy: no row for divide int8 at 7nm"
    assert "no row for 'ddr9'; known: " in (refusal(lambda: table.memory("ddr9", "7nm")) or "")


def test_sram_is_by_node_and_dram_is_not() -> None:
    table = energy_table()
    assert table.memory("sram-32kib", "45nm") != table.memory("sram-32kib", "7nm")
    assert table.memory("ddr4", "45nm") == table.memory("ddr4", "7nm")
    assert table.memory("sram-32kib", "3nm") == table.memory("sram-32kib", "7nm")


def test_a_users_rows_add_a_node_and_replace_a_value(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("\n".join([OP_HEADER, OP_ROW, OP_ROW.replace("5nm", "7nm")]), encoding="utf-8")
    table = energy_table(path)
    assert table.nodes == ["45nm", "5nm", "7nm"]
    for node in ("5nm", "7nm"):
        assert table.operation(node, "add", "int8").energy_j.mid == pytest.approx(5e-15)
    assert energy_table().operation("7nm", "add", "int8").energy_j.mid == pytest.approx(7e-15)


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("mine", "", "source"),
        ("Table 1", " ", "locator"),
        ("seen", "sen", "status"),
        ("add", "divide", "operation"),
        ("int8", "int7", "number_format"),
        ("5nm", "", "node"),
        ("0.005", "-1", "energy_pj"),
        ("0.005", "abc", "energy_pj"),
        ("0.005", "", "energy_pj"),
        ("0.005", "nan", "energy_pj"),
        ("0.006", "inf", "energy_pj_high"),
        ("0.004", "0.1", "energy_pj"),
    ],
)
def test_a_wrong_cell_of_a_users_energies_is_named(tmp_path: Path, old: str, new: str, field: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("\n".join([OP_HEADER, OP_ROW, OP_ROW.replace(old, new)]), encoding="utf-8")
    assert (refusal(lambda: energy_table(path)) or "").startswith(f"{path}:3: {field}: expected ")


MODEL_LINES = (DATA / "models.csv").read_text(encoding="utf-8").splitlines()
COLUMNS = MODEL_LINES[0].split(",")
MODEL = "tiny,llama,2,64,4,2,16,128,1000,true,true,silu,false,false,false,false,false,1,1,,,mine,config.json,seen,"


def model_file(tmp_path: Path, **cells: str) -> Path:
    values = dict(zip(COLUMNS, MODEL.split(","), strict=True)) | cells
    path = tmp_path / "mine.csv"
    path.write_text(f"{MODEL_LINES[0]}\n{','.join(values.values())}\n", encoding="utf-8")
    return path


def test_a_users_model_loads(tmp_path: Path) -> None:
    row = model_rows(model_file(tmp_path))["tiny"]
    assert (row.layers, row.tied_head, row.max_context) == (2, True, None)


@pytest.mark.parametrize(
    ("field", "cell"),
    [
        ("name", ""),
        ("layers", ""),
        ("layers", "0"),
        ("layers", "-3"),
        ("hidden", "6.5"),
        ("heads", "four"),
        ("ffn", "nan"),
        ("vocab", "inf"),
        ("tied_head", "maybe"),
        ("gated_ffn", "1"),
        ("max_context", "-1"),
        ("source", ""),
        ("locator", ""),
        ("status", "heard"),
    ],
)
def test_a_wrong_cell_of_a_users_model_is_named(tmp_path: Path, field: str, cell: str) -> None:
    path = model_file(tmp_path, **{field: cell})
    assert (refusal(lambda: model_rows(path)) or "").startswith(f"{path}:2: {field}: expected ")


def test_a_model_named_twice_is_refused(tmp_path: Path) -> None:
    path = model_file(tmp_path)
    path.write_text(path.read_text(encoding="utf-8") + MODEL + "\n", encoding="utf-8")
    assert "'tiny' comes twice" in (refusal(lambda: model_rows(path)) or "")


@pytest.mark.parametrize("what", ["energies", "models"])
def test_any_cells_are_read_or_refused_in_one_line(what: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder, number = tmp_path_factory.mktemp(what), itertools.count()
    header, row = (OP_HEADER, OP_ROW) if what == "energies" else (MODEL_LINES[0], MODEL)
    quoted = st.text(st.characters(codec="utf-8"), max_size=20).map(lambda text: '"' + text.replace('"', '""') + '"')

    @given(st.integers(0, row.count(",")), quoted | st.floats().map(str) | st.integers().map(str))
    def check(column: int, cell: str) -> None:
        cells = row.split(",")
        cells[column] = cell
        path = folder / f"{next(number)}.csv"
        path.write_text(f"{header}\n{','.join(cells)}\n", encoding="utf-8")
        refusal(lambda: energy_table(path) if what == "energies" else model_rows(path))

    check()
