"""What a report says: the estimate's own numbers, and a line for everything that is missing."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bitsim.energy_tables import BitsimError, cite, grid_rows
from bitsim.energy_tables.units import format_ratio, format_si
from bitsim.reports.document.contents import gather
from bitsim.reports.document.origin import made_with, references, tables_hash
from bitsim.reports.document.parts import Number, Report, Section, Table
from bitsim.reports.document.question import Question
from bitsim.reports.document.sections import cells
from bitsim.reports.document.sections.measured import model_of, read_measured
from bitsim.reports.document.sections.runs import fit_of, largest, read_rows
from bitsim.runtime.checkpoints.random_weights import RandomCheckpoint
from bitsim.runtime.checkpoints.write_gguf import write_gguf
from bitsim.simulator import estimate, make_workload, spec_for_size
from bitsim.simulator.paper_energy import paper_energy, paper_ratio_per_product
from bitsim.simulator.validation import validate
from bitsim.training import fit
from bitsim.training.fit import fit_law
from bitsim.training.fitted import Fit
from bitsim.training.measured import Measured

EIGHT = (
    "a100-80gb", "h100-sxm", "mi300x", "m2-ultra", "raspberry-pi-5", "i7-13700h", "ternary-asic", "rtx-4090",
)  # fmt: skip
ORDER = [
    "question", "model", "energy", "latency", "memory", "sizes", "loss", "training-cost", "running-cost", "devices",
    "accuracy", "assumptions",
]  # fmt: skip
RUNS_HEADER = "scheme,non_embedding,parameters,tokens,seed,held_out_loss,data_hash\n"


def question(size: str = "70B", **changed: Any) -> Question:
    asked: dict[str, Any] = {
        "spec": spec_for_size(size),
        "workload": make_workload(),
        "command": f"bitsim report --size {size}",
    }
    return Question(**(asked | changed))


@pytest.fixture(scope="module")
def seventy() -> Report:
    return gather(question())


@pytest.fixture
def no_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)


def section(report: Report, key: str) -> Section:
    return next(each for each in report.sections if each.key == key)


def table_with(found: Section, column: str) -> Table:
    return next(table for table in found.tables if column in table.columns)


def runs_file(folder: Path) -> Path:
    """Write the runs of two laws: e + a N^-alpha."""
    lines = [
        f"{scheme},{size},{2 * size},{20 * size},0,{e + a * size**-0.3:.5f},ab\n"
        for scheme, e, a in (("fp16", 1.6, 65.0), ("b1.58", 1.7, 80.0))
        for size in (300_000, 600_000, 1_000_000, 1_800_000, 3_000_000, 5_000_000)
    ]
    path = folder / "runs.csv"
    path.write_text(RUNS_HEADER + "".join(lines), encoding="utf-8")
    return path


def bench(folder: Path, change: Callable[[dict[str, Any]], None] = lambda whole: None) -> Path:
    """Write what bitsim bench --model prints."""
    row = {
        "tokens": 128, "context": 640, "batch": 1, "seconds_to_first_token": 0.5, "peak_rss_bytes": 4e8,
        "bytes_per_token": 1e8, "fraction_of_read_bandwidth": 0.4, "energy_j_per_token": "unavailable",
    }  # fmt: skip
    whole: dict[str, Any] = {
        "machine": {"cpu": "a CPU", "isa": [], "kernel": "k", "read_bandwidth_bytes_per_s": {"1": 1e10, "2": 1.7e10}},
        "model": {"name": "bitnet.cpp-125M", "kv": "f16", "head": "ExactHead", "weight_bytes": 2.4e7},
        "results": [
            row | {"phase": phase, "threads": threads, "tokens_per_s": 50.0 * threads}
            for threads in (1, 2)
            for phase in ("prefill", "decode")
        ],
    }
    for each in whole["results"]:
        if each["phase"] == "prefill":
            each |= {"tokens": 512, "context": 512}
    change(whole)
    path = folder / "bench.json"
    path.write_text(json.dumps(whole), encoding="utf-8")
    return path


def test_the_sections_are_in_order_and_what_is_missing_has_a_line(seventy: Report) -> None:
    assert [each.key for each in seventy.sections] == ORDER
    assert len(seventy.left_out) == 2
    assert "runs" in seventy.left_out[0]
    assert "measured" in seventy.left_out[1]
    assert all(each.drawings or each.key in ("question", "model", "training-cost", "devices", "assumptions")
               for each in seventy.sections)  # fmt: skip
    assert all(drawing.rows for each in seventy.sections for drawing in each.drawings)


def test_the_five_numbers_are_those_of_the_estimate(seventy: Report) -> None:
    base, other = (estimate("70B", scheme) for scheme in ("fp16", "b1.58"))
    memory, speed, energy, rent, loss = seventy.headline
    assert memory.value.startswith(format_ratio(base.dram_bytes.total / other.dram_bytes.total))
    assert format_si(other.dram_bytes.total, "B") in memory.explanation
    assert speed.value.startswith(format_ratio(other.tokens_per_s.mid / base.tokens_per_s.mid))
    low = other.tokens_per_s.low / base.tokens_per_s.high
    assert format_ratio(low) in speed.value
    joules = [each.token_energy_j["total"] for each in (base, other)]
    assert energy.value.startswith(format_ratio(joules[0].mid / joules[1].mid))
    assert format_si(joules[1].high, "J") in energy.explanation
    assert "$" in rent.explanation
    assert loss.value.startswith("+0.0")


def test_the_first_page_says_how_far_the_headline_shrinks(seventy: Report) -> None:
    base, other = (estimate("70B", scheme) for scheme in ("fp16", "b1.58"))
    found = section(seventy, "question")
    values = [cell.value for cell, _ in found.tables[0].rows if isinstance(cell, Number)]
    passes = [paper_energy(each.model, each.scheme, each.table, "7nm", 512).total_j for each in (base, other)]
    assert values[0] == paper_ratio_per_product(base.table, "7nm", "int8")
    assert values[2] == passes[0] / passes[1]
    assert values[-1] == base.token_energy_j["total"].mid / other.token_energy_j["total"].mid
    assert values[0] == max(values)
    assert format_ratio(values[0]) in found.text[1]
    assert format_ratio(values[-1]) in found.text[1]


def test_tables_hold_the_numbers_behind_their_text(seventy: Report) -> None:
    for each in seventy.sections:
        for table in each.tables:
            assert all(len(row) == len(table.columns) for row in table.rows), table.caption
            values = [cell.value for row in table.rows for cell in row if isinstance(cell, Number)]
            assert all(math.isfinite(value) for value in values)
    joules = table_with(section(seventy, "energy"), "new token")
    for row, scheme in zip(joules.rows, ("fp16", "b1.58"), strict=True):
        energy = estimate("70B", scheme).token_energy_j
        numbers = [cell.value for cell in row if isinstance(cell, Number)]
        assert numbers[-2] == energy["total"].mid
        assert sum(numbers[:-2]) == pytest.approx(energy["total"].mid)


def test_energy_is_told_at_both_nodes_in_the_papers_sense_and_in_full(seventy: Report) -> None:
    rows = {(row[0], row[1]): row for row in table_with(section(seventy, "energy"), "node").rows}
    assert {node for node, _ in rows} == {"7nm", "45nm"}
    for node in ("7nm", "45nm"):
        paper = estimate("70B", "fp16", energy="paper", node=node)
        assert rows[node, "the papers' pass over 512 tokens"][2].value == paper.energy_j["total"].mid  # type: ignore[union-attr]
        full = estimate("70B", "b1.58", node=node)
        assert rows[node, "this workload: everything"][3].value == full.energy_j["total"].mid  # type: ignore[union-attr]


def test_every_grid_and_every_machine_has_a_line(seventy: Report) -> None:
    assert len(table_with(section(seventy, "running-cost"), "grid").rows) == len(grid_rows())
    machines = {row[0] for row in table_with(section(seventy, "devices"), "what it is").rows}
    assert {"raspberry-pi-5", "a100-80gb", "ternary-asic"} <= machines


def test_sources_are_references_in_full(seventy: Report) -> None:
    found = dict(seventy.sources)
    assert list(found) == sorted(found, key=str.casefold)
    assert found["ma2024era"] == cite(["ma2024era"])[0].reference()
    assert {"kaushal2024spectra", "kaplan2020", "ember2025", "horowitz2014"} <= found.keys()
    assert references(["my-own"]) == (("my-own", "A source of a file that was given."),)


def test_eight_machines_and_many_schemes() -> None:
    asked = question("7B", machines=EIGHT, schemes=("fp16", "w4a16", "b1.58"), workload=make_workload(2, 100, 20, 4000))
    found = gather(asked)
    rows = table_with(section(found, "energy"), "new token").rows
    assert len(rows) == len(EIGHT) * 3
    assert [row[0] for row in rows if row[0]] == list(EIGHT)
    assert {row["hardware"] for row in found.lead.rows} == {EIGHT[0]}
    assert "7 other machines" in found.subtitle


def test_one_scheme_has_no_ratios() -> None:
    found = gather(question("7B", schemes=("w4a16",)))
    assert found.title.endswith("costs in w4a16")
    assert len(found.headline) == 5
    assert section(found, "question").tables == ()
    lines = " ".join(found.left_out)
    assert "no law is known of w4a16" in lines
    assert "Training cost" in lines
    assert "loss" not in [each.key for each in found.sections]


def test_a_machine_without_a_price_is_compared_by_carbon() -> None:
    found = gather(question("1B", machines=("raspberry-pi-4",)))
    labels = [each.label for each in found.headline]
    assert labels[3] in ("CO2e of a million new tokens", "Rent for a million new tokens")
    assert len(labels) == 5


def test_runs_add_ladder_and_fits(tmp_path: Path) -> None:
    found = gather(question("7B", runs=runs_file(tmp_path)))
    keys = [each.key for each in found.sections]
    assert keys[keys.index("loss") + 1] == "ladder"
    assert "fits" in keys
    assert any(line.startswith("Curves: ") for line in found.left_out)
    coefficients = {(row[0], row[1]): row[2] for row in section(found, "fits").tables[0].rows}
    assert coefficients["fp16", "e"].value == pytest.approx(1.6, rel=0.02)  # type: ignore[union-attr]


def test_a_report_of_runs_alone(tmp_path: Path) -> None:
    path = runs_file(tmp_path)
    found = gather(question(spec=largest(read_rows(path)), runs=path, about="runs"))
    assert [each.key for each in found.sections] == ["ladder", "fits"]
    assert found.headline[0].value == "12"
    assert found.headline[3].value == f"{1.6 + 65.0 * 5e6**-0.3:.3f}"
    assert dict(found.made_with)["runs.csv, SHA-256"]


def test_the_largest_run_gives_the_shape() -> None:
    row = {"layers": "5", "hidden": "96", "heads": "6", "ffn": "288", "vocab": "4096", "size": "1M"}
    small = row | {"layers": "2", "non_embedding": "1e5"}
    spec = largest([small, row | {"non_embedding": "599040"}])
    assert (spec.layers, spec.hidden, spec.ffn, spec.parameters_linear) == (5, 96, 288, 599040 - 599040 % 5)


def test_runs_are_fitted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = []

    def counted(points: Measured, form: str) -> Fit:
        fitted.append(form)
        return fit_law(points, form, resamples=20)

    monkeypatch.setattr(fit, "fit_law", counted)
    path = runs_file(tmp_path)
    gather(question(spec=largest(read_rows(path)), runs=path, about="runs"))
    assert len(fitted) == 1
    path.write_text(f"{path.read_text(encoding='utf-8')}fp16,9000000,18000000,180000000,0,2.1,ab\n", encoding="utf-8")
    fit_of(path)
    assert len(fitted) == 2  # what the file says now


def test_the_accuracy_says_how_many_agree(seventy: Report) -> None:
    rows = {(row[0], row[1]): row[-1] for row in table_with(section(seventy, "accuracy"), "agree").rows}
    for fitted in (False, True):
        members = [each for each in validate("energy") if each.fitted == fitted and each.within is not None]
        if members:
            cell = rows[members[0].group, "yes" if fitted else "no"]
            assert isinstance(cell, Number)
            assert cell.text == f"{sum(bool(each.within) for each in members)} of {len(members)}"
    assert "" in rows.values()  # published without what it would take to judge


def test_a_model_in_a_file_has_been_measured(tmp_path: Path) -> None:
    spec = replace(
        spec_for_size("1M"), name="made", layers=2, hidden=64, heads=4, kv_heads=2, head_dim=16, ffn=128, vocab=96
    )
    file = tmp_path / "tiny.gguf"
    write_gguf(RandomCheckpoint(spec, ternary=False), file)
    path = bench(tmp_path, lambda whole: whole["model"].update(name=str(file), weight_bytes=2e4))
    found = model_of(path)
    assert (found.name, found.layers, found.kv_heads, found.ffn) == ("tiny", 2, 2, 128)
    made = gather(question(spec=found, measured=path, about="measured"))
    assert made.subtitle.endswith("; tiny.gguf")
    assert "512 prompt + 128 new tokens" in section(made, "model").text[0]  # those of the measurement


def test_a_report_of_what_was_measured(tmp_path: Path) -> None:
    path = bench(tmp_path)
    found = gather(question(spec=model_of(path), measured=path, about="measured"))
    assert found.sections[0].key == "measured"
    rows = found.sections[0].tables[0].rows
    assert len(rows) == 4
    assert found.headline[0].value == "100 /s"
    assert found.lead.name == "measured"
    beside = gather(question("1B", measured=path))
    assert [each.key for each in beside.sections][1] == "measured"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda whole: whole.pop("results"), "results: expected"),
        (lambda whole: whole.update(results=[3]), "results: expected a list"),
        (lambda whole: whole["model"].update(name="/no/such/folder"), "model.name: expected"),
    ],
)
def test_a_damaged_measurement(tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str) -> None:
    path = bench(tmp_path, change)
    with pytest.raises(BitsimError, match=said):
        model_of(path)


def test_no_json_at_all(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    path.write_text("phase,threads\n", encoding="utf-8")
    with pytest.raises(BitsimError, match="expected the JSON of bitsim bench"):
        read_measured(path)


@pytest.mark.usefixtures("no_date")
def test_it_says_how_to_make_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = runs_file(tmp_path)
    made = dict(made_with(question(runs=path, laws=("b1.58=law.csv", "kaplan"))))
    assert made["tables, SHA-256"] == tables_hash()
    assert "date" not in made
    assert made["command"] == "bitsim report --size 70B"
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert dict(made_with(question(runs=path)))["runs.csv, SHA-256"] != made["runs.csv, SHA-256"]
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert dict(made_with(question()))["date"] == "2023-11-14 22:13:20 UTC"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(BitsimError, match="SOURCE_DATE_EPOCH: expected seconds"):
        made_with(question())
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    with pytest.raises(BitsimError, match=r"gone\.csv"):
        made_with(replace(question(), runs=tmp_path / "gone.csv"))


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (cells.duration(90.0), "90.0 s"),
        (cells.duration(9.2 * 365.25 * 86400), "9.2 years"),
        (cells.grams(4.45), "4.45 kg"),
        (cells.grams(470e3), "470 t"),
        (cells.kwh(3.6e6), "1.00 kWh"),
        (cells.dollars(0.0123), "$0.012"),
        (cells.dollars(1819233.4), "$1,819,233"),
        (cells.speed(46.23), "46.2 /s"),
    ],
)
def test_numbers_as_they_are_shown(cell: Number, text: str) -> None:
    assert cell.text == text


def test_losses_on_other_data_are_not_compared() -> None:
    found = gather(question("1B", schemes=("fp16", "b1")))
    assert found.headline[4].label == "Time to the first token"
    columns = [table.columns for table in section(found, "loss").tables]
    row = section(found, "loss").tables[0].rows[1]
    assert columns[0][-1] == "against fp16"
    assert (row[1], row[-1]) == ("bitnet-b1", "")
