"""Figures: their numbers are those of `estimate`, every number is in the picture, no text is cut or lies on another."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bitsim.energy_tables import BitsimError, grid_rows
from bitsim.reports.document.question import Question
from bitsim.reports.figures import FIGURES, Figure
from bitsim.reports.plot_style import save_figure
from bitsim.simulator import estimate, make_workload, resolve_model, spec_for_size
from bitsim.simulator.paper_energy import paper_energy
from bitsim.simulator.validation import validate

NEEDS_FILES = ("curves", "measured")
OF_ESTIMATES = tuple(name for name in FIGURES if name not in (*NEEDS_FILES, "validation"))
FEW = 10.0  # pixels by which two boxes of text may overlap: their corners are empty


def rows_of(name: str, question: Question) -> list[dict[str, Any]]:
    return FIGURES[name].rows(question)


def svg_of(figure: Figure, rows: list[dict[str, Any]], folder: Path) -> str:
    path = folder / "figure.svg"
    save_figure(path, figure.draw(rows))
    return path.read_text(encoding="utf-8")


def ids_in(svg: str) -> set[int]:
    return {int(found) for found in re.findall(r'id="v(\d+)"', svg)}


def texts_of(drawn: Any) -> list[tuple[str, Any, bool]]:
    """Return every text that is shown, its box, and whether it stands askew."""
    from matplotlib.text import Text

    drawn.draw_without_rendering()
    found = []
    for text in drawn.findobj(Text):
        shown = text.get_visible() and text.get_text().strip()
        ticks = [axis for axes in drawn.axes for axis in (axes.xaxis, axes.yaxis)]
        used = {id(label) for axis in ticks for label in axis.get_ticklabels() if axis.axes.axison}
        all_ticks = {id(label) for axis in ticks for tick in axis.majorTicks for label in (tick.label1, tick.label2)}
        if shown and (id(text) not in all_ticks or id(text) in used):
            found.append((text.get_text(), Text.get_window_extent(text), text.get_rotation() % 90 != 0))
    return found


def check_texts(drawn: Any) -> None:
    width, height = drawn.get_size_inches() * drawn.dpi
    texts = texts_of(drawn)
    for text, box, _ in texts:
        inside = -1 < box.x0 < box.x1 < width + 1 and -1 < box.y0 < box.y1 < height + 1
        assert inside, f"cut: {text}"
    for index, (text, box, turned) in enumerate(texts):
        for other, taken, also in texts[index + 1 :]:
            if turned and also:
                continue  # side by side along two roofs: only their boxes meet
            wide = min(box.x1, taken.x1) - max(box.x0, taken.x0)
            high = min(box.y1, taken.y1) - max(box.y0, taken.y0)
            assert min(wide, high) < FEW, f"'{text}' lies on '{other}'"


def test_there_are_twelve_figures_with_names_and_titles() -> None:
    assert len(FIGURES) == 12
    for name, figure in FIGURES.items():
        assert figure.name == name
        assert figure.title.strip()
        assert "\n" not in figure.title


@pytest.mark.parametrize("name", OF_ESTIMATES)
def test_rows_are_alike_have_plain_cells_and_say_something(name: str, question: Question) -> None:
    rows = rows_of(name, question)
    assert rows
    for row in rows:
        assert list(row) == list(rows[0])
        assert all(cell is None or isinstance(cell, int | float | str) for cell in row.values())
        assert all(math.isfinite(cell) for cell in row.values() if isinstance(cell, float))
        assert "\n" not in FIGURES[name].hover(row)


@pytest.mark.parametrize("name", OF_ESTIMATES)
def test_the_picture_holds_the_rows_by_name_and_is_the_same_each_time(
    name: str, question: Question, tmp_path: Path
) -> None:
    rows = rows_of(name, question)
    svg = svg_of(FIGURES[name], rows, tmp_path)
    found = ids_in(svg)
    assert found <= set(range(len(rows)))
    assert found
    assert svg == svg_of(FIGURES[name], rows, tmp_path)
    assert len(re.findall(r'id="v\d+"', svg)) == len(found) or name in ("sizes", "energy-nodes")


@pytest.mark.parametrize("name", OF_ESTIMATES)
@pytest.mark.parametrize(
    "kind", ["question", pytest.param("strained", marks=pytest.mark.slow), "single", "pair", "four"]
)
def test_no_text_is_cut_or_lies_on_another(name: str, kind: str, request: pytest.FixtureRequest) -> None:
    check_texts(FIGURES[name].draw(rows_of(name, request.getfixturevalue(kind))))


def test_validation_shows_every_number(question: Question, tmp_path: Path) -> None:
    rows = rows_of("validation", question)
    assert [row["id"] for row in rows] == [check.id for check in validate()]
    assert ids_in(svg_of(FIGURES["validation"], rows, tmp_path)) == set(range(len(rows)))
    check_texts(FIGURES["validation"].draw(rows))


def test_parts_sum_to_the_totals_of_estimate(question: Question) -> None:
    asked = replace(question, machines=("a100-80gb",))
    for scheme in asked.schemes:
        result = estimate(asked.spec, scheme, "a100-80gb")
        totals = {
            ("energy-parts", "energy_j_per_new_token", ""): result.token_energy_j["total"].mid,
            ("latency-parts", "latency_s", "prefill"): result.prefill_s.mid,
            ("latency-parts", "latency_s", "decode"): result.per_new_token_s.mid,
            ("memory-parts", "dram_bytes", ""): result.dram_bytes.total,
        }
        for (name, value, phase), total in totals.items():
            rows = [r for r in rows_of(name, asked) if r["scheme"] == scheme and r.get("phase", "") == phase]
            assert [row[value] for row in rows if row["part"] == "total"] == [total]
            assert sum(row[value] for row in rows if row["part"] != "total") == pytest.approx(total, rel=1e-12)


def test_the_papers_numbers_are_the_first_steps_of_energy_nodes(question: Question) -> None:
    rows = rows_of("energy-nodes", question)
    for scheme in question.schemes:
        result = estimate(question.spec, scheme, "a100-80gb", node="45nm", new_tokens=0)
        paper = paper_energy(question.spec, result.scheme, result.table, "45nm", 512)
        found = [row["energy_j"] for row in rows if (row["scheme"], row["node"]) == (scheme, "45nm")]
        assert found[:2] == [paper.linear_j, paper.total_j]
        assert found[-1] == result.energy_j["total"].mid
    assert all(row["first_scheme_over_this"] == 1.0 for row in rows if row["scheme"] == question.schemes[0])


def test_operations_lie_under_the_roofs(strained: Question) -> None:
    rows = rows_of("roofline", strained)
    for row in rows:
        if row["kind"] == "operation":
            own = [r for r in rows if (r["hardware"], r["scheme"]) == (row["hardware"], row["scheme"])]
            slope = max(r["bytes_per_s"] for r in own if r["kind"] == "memory roof")
            top = max(r["products_per_s"] for r in own if r["kind"] == "compute roof")
            assert row["products_per_s"] <= min(slope * row["products_per_byte"], top) * (1 + 1e-9)
            reached = row["products_per_s"] / (slope * row["products_per_byte"])
            assert (row["bound_by"] == "memory") == (reached > 1 - 1e-9) or reached == pytest.approx(1.0)


def test_roofs_name_the_units_that_serve_a_scheme() -> None:
    asked = Question(
        spec=spec_for_size("7B"), machines=("ternary-asic", "h100-sxm"), workload=make_workload(), command=""
    )
    names = {(r["hardware"], r["scheme"], r["name"]) for r in rows_of("roofline", asked) if r["kind"] == "compute roof"}
    assert ("ternary-asic", "b1.58", "ternary additions") in names
    assert ("h100-sxm", "b1.58", "ternary additions on INT8 units") in names
    assert ("h100-sxm", "b1.58", "FP16 products") in names  # of its attention and its head
    assert ("h100-sxm", "fp16", "FP16 products") in names


def test_memory_against_context_is_that_of_estimate(question: Question) -> None:
    rows = rows_of("memory-context", question)
    asked = [row for row in rows if row["asked"] == "yes"]
    assert [row["dram_bytes"] for row in asked] == [
        estimate(question.spec, s).dram_bytes.total for s in question.schemes
    ]
    assert [row["dram_bytes"] for row in rows if row["kind"] == "capacity"] == [estimate(question.spec).capacity_bytes]


def test_sizes_hold_the_model_asked_about_and_reach_beyond_it(question: Question) -> None:
    small = replace(question, spec=spec_for_size("350M"))
    rows = rows_of("sizes", small)
    assert min(row["parameters"] for row in rows) == pytest.approx(350e6, rel=0.02)
    assert max(row["parameters"] for row in rows) == pytest.approx(1e11, rel=0.02)
    asked = [row["tokens_per_s"] for row in rows if row["model"]]
    assert asked == [estimate(small.spec, scheme).tokens_per_s.mid for scheme in small.schemes]


def test_carbon_of_a_region_is_that_of_estimate(question: Question) -> None:
    rows = rows_of("cost-regions", question)
    for region in grid_rows():
        cost = estimate(question.spec, "b1.58", region=region).cost["kg_co2e_per_million_tokens"]
        row = next(row for row in rows if (row["region"], row["scheme"]) == (region, "b1.58"))
        assert row["kg_co2e_per_million_tokens"] == pytest.approx(cost.mid, rel=1e-12)
        assert row["high_kg_co2e_per_million_tokens"] == pytest.approx(cost.high, rel=1e-12)


def test_the_loss_asked_about_is_that_of_estimate(question: Question) -> None:
    asked = replace(question, tokens=2e12)
    rows = [row for row in rows_of("loss-law", asked) if row["asked"] == "yes"]
    for row in rows:
        loss = estimate(asked.spec, row["scheme"], tokens=2e12).loss
        assert loss is not None
        assert (row["low_nats_per_token"], row["loss_nats_per_token"]) == (loss.low, loss.value)
    assert [row["scheme"] for row in rows] == ["fp16", "b1.58"]


def test_a_scheme_without_a_law_is_left_out_and_none_at_all_is_said(question: Question) -> None:
    some = rows_of("loss-law", replace(question, schemes=("fp16", "w4a16")))
    assert {row["scheme"] for row in some} == {"fp16"}
    with pytest.raises(BitsimError, match=r"--law: .*w4a16"):
        rows_of("loss-law", replace(question, schemes=("w4a16",)))


@pytest.mark.slow
def test_runs_are_drawn_with_the_law_that_is_fitted_to_them(question: Question, ladder: Path, tmp_path: Path) -> None:
    rows = rows_of("loss-law", replace(question, runs=ladder))
    runs = [row for row in rows if row["kind"] == "run"]
    assert len(runs) == 10
    svg = svg_of(FIGURES["loss-law"], rows, tmp_path)
    assert ids_in(svg) >= set(range(10))
    near = [row for row in rows if row["kind"] == "law" and row["parameters"] == 9e6]
    check_texts(FIGURES["loss-law"].draw(rows))
    assert {row["counted"] for row in rows} == {"parameters without embedding"}
    assert all(row["runs_low_parameters"] == 1e6 for row in rows if row["kind"] == "law")
    assert not near or all(row["low_nats_per_token"] < row["high_nats_per_token"] for row in near)


def test_curves_are_those_of_the_files(question: Question, ladder: Path, tmp_path: Path) -> None:
    rows = rows_of("curves", replace(question, runs=ladder))
    assert len({row["run"] for row in rows}) == 10
    assert sum(row["held_out_loss_nats_per_token"] is not None for row in rows) == 40
    held_out = {i for i, row in enumerate(rows) if row["held_out_loss_nats_per_token"] is not None}
    assert ids_in(svg_of(FIGURES["curves"], rows, tmp_path)) == held_out
    check_texts(FIGURES["curves"].draw(rows))


def test_long_curves_are_thinned_but_for_held_out_losses(question: Question, ladder: Path) -> None:
    curve = ladder.parent / "1M-fp16-0123abcd" / "curve.csv"
    lines = [f"{step},{step * 100},5.0,{4.0 if step % 7 == 0 else ''},1e-3,0.5" for step in range(1, 5001)]
    curve.write_text(
        "\n".join(["step,tokens,loss,held_out_loss,learning_rate,gradient_norm", *lines]), encoding="utf-8"
    )
    rows = [r for r in rows_of("curves", replace(question, runs=ladder)) if r["run"] == "1M-fp16-0123abcd"]
    assert sum(row["held_out_loss_nats_per_token"] is not None for row in rows) == 5000 // 7
    assert len(rows) < 1000
    assert rows[-1]["tokens"] == 500_000


def test_curves_without_files_and_damaged_ones_are_said(question: Question, ladder: Path) -> None:
    with pytest.raises(BitsimError, match="--runs"):
        rows_of("curves", question)
    curve = ladder.parent / "1M-fp16-0123abcd" / "curve.csv"
    curve.write_text("step,tokens,loss,held_out_loss\n1,many,5.0,\n", encoding="utf-8")
    with pytest.raises(BitsimError, match=r"curve.csv: tokens: expected a number, got 'many'"):
        rows_of("curves", replace(question, runs=ladder))
    for file in ladder.parent.glob("*/curve.csv"):
        file.unlink()
    with pytest.raises(BitsimError, match=r"runs.csv: expected a curve.csv"):
        rows_of("curves", replace(question, runs=ladder))


def test_measured_is_beside_what_is_predicted_at_the_memory_speed_measured(
    question: Question, bench: Callable[..., Path], tmp_path: Path
) -> None:
    asked = replace(question, spec=resolve_model("bitnet-b1.58-2B-4T"), measured=bench())
    rows = rows_of("measured", asked)
    assert [(row["phase"], row["threads"]) for row in rows] == [
        ("prefill", 1), ("decode", 1), ("prefill", 2), ("decode", 2),
    ]  # fmt: skip
    assert {row["scheme"] for row in rows} == {"b1.58"}
    decode = rows[3]
    result = estimate(asked.spec, "b1.58", "epyc-zen4-2core", engine="ideal", prompt_tokens=128, new_tokens=32)
    assert decode["predicted_tokens_per_s"] == pytest.approx(result.tokens_per_s.mid, rel=0.01)
    assert decode["measured_over_predicted"] == 20.0 / decode["predicted_tokens_per_s"]
    assert all(row["measured_energy_j_per_token"] is None for row in rows)
    assert ids_in(svg_of(FIGURES["measured"], rows, tmp_path)) == {0, 1, 2, 3}
    check_texts(FIGURES["measured"].draw(rows))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"phase": "encode"}, "phase: expected prefill or decode"),
        ({"tokens_per_s": 0}, "tokens_per_s: expected a number above 0, got '0'"),
        ({"tokens_per_s": "fast"}, "tokens_per_s: expected a number above 0, got 'fast'"),
        ({"threads": 2.0e9}, "--hardware: expected the profile of a machine with 2,000,000,000 cores"),
    ],
)
def test_a_damaged_measurement_names_its_field(
    question: Question, bench: Callable[..., Path], changed: dict[str, object], message: str
) -> None:
    asked = replace(question, spec=resolve_model("bitnet-b1.58-2B-4T"), measured=bench(**changed))
    with pytest.raises(BitsimError, match=re.escape(message)):
        rows_of("measured", asked)


def test_measured_needs_a_measurement(question: Question) -> None:
    with pytest.raises(BitsimError, match="--measured"):
        rows_of("measured", question)
