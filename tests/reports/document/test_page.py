"""The HTML report: nothing is loaded, names are shown letter by letter, figures lie inside."""

import functools
import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bitsim.reports.document.page import render_page
from bitsim.reports.document.page_figures import inline_svg
from bitsim.reports.document.parts import Drawing, Headline, Number, Report, Section, Table
from bitsim.reports.document.pictures import as_svg
from bitsim.reports.document.question import Question
from bitsim.reports.figures import FIGURES, Figure
from bitsim.reports.plot_style import COLOURS, empty_figure
from bitsim.simulator import make_workload, spec_for_size

MARKUP = '<script>alert("x")</script> & <b>"bold"</b> </svg> $x$ #strong[typst]'
ROWS: tuple[Mapping[str, float | str | None], ...] = ({"name": "one", "value": 3.0}, {"name": "two <b>", "value": 5.0})


def draw(rows: Sequence[Mapping[str, Any]]) -> Any:
    figure = empty_figure(3.0)
    axes = figure.add_subplot()
    for index, row in enumerate(rows):
        bar = axes.bar([index], [row["value"]], color=COLOURS[index], hatch="//", edgecolor="0.5")[0]
        bar.set_gid(f"v{index}")
    axes.set_ylabel("J <of> a & token")
    axes.grid(color="0.88")
    return figure


SAMPLE = Figure(
    name="sample", title="A sample", rows=lambda question: [dict(row) for row in ROWS], draw=draw,
    hover=lambda row: f"{row['name']}: {row['value']:g} J",
)  # fmt: skip


def sample_report(name: str) -> Report:
    """Return a report with one of everything, and a name wherever a name can be."""
    drawing = Drawing("sample", ROWS, f"Caption of {name}", f"Bars of {name}")
    table = Table(
        ("scheme", f"energy of {name}"),
        (("fp16", Number(3.0, "3.00 J")), (name, Number(1e-3, "1.00 mJ")), ("b1", Number(20.0, "20.0 J")), ("?", "")),
        f"Table of {name}",
        frozenset({1}),
    )
    texts, notes = (f"Text of {name}",), (f"Note {name}",)
    section = Section("model", f"Energy of {name}", texts, (table,), (drawing, drawing), notes)
    return Report(
        title=name,
        subtitle=f"{name} on a machine",
        headline=(Headline(f"label {name}", f"value {name}", f"because {name}"),),
        lead=drawing,
        sections=(section, Section("sources", "Sources")),
        left_out=(f"curves of {name}: no runs were given",),
        sources=(("key", f"A paper of {name}"),),
        made_with=(("command", f"bitsim report --model '{name}'"),),
    )


@pytest.fixture(scope="module")
def page() -> Iterator[Callable[..., str]]:
    """Render the sample with a name wherever a name can be."""

    @functools.cache
    def render(name: str = "A model", command: str = "bitsim report --size 7B") -> str:
        question = Question(spec=spec_for_size("7B"), workload=make_workload(), command=command)
        return render_page(sample_report(name), question)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FIGURES, "sample", SAMPLE)
        yield render


class Reader(HTMLParser):
    """What a browser would make of a page: elements with their attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._raw = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._raw = tag if tag in ("script", "style") else ""

    def handle_endtag(self, tag: str) -> None:
        self._raw = ""

    def handle_data(self, data: str) -> None:
        if not self._raw:
            self.texts.append(data)

    def attributes(self, name: str) -> list[str]:
        """Return all values of an attribute."""
        return [value or "" for _, attributes in self.elements for key, value in attributes.items() if key == name]


def test_markup_in_names_is_shown_as_text(page: Callable[..., str]) -> None:
    plain, marked = Reader(page()), Reader(page(MARKUP))
    assert [tag for tag, _ in marked.elements] == [tag for tag, _ in plain.elements]
    text = "".join(marked.texts)
    for where in ("Text of", "Energy of", "Note", "Table of", "Caption of", "label", "value", "because", "A paper of"):
        assert f"{where} {MARKUP}" in text


def test_nothing_is_loaded_and_only_its_own_scripts_run(page: Callable[..., str]) -> None:
    html = page(MARKUP)
    found = Reader(html)
    assert not found.attributes("src")
    assert all(link.startswith("#") for link in found.attributes("href"))
    assert not found.attributes("style")
    assert not [name for _, attributes in found.elements for name in attributes if name.startswith("on")]
    assert not re.search(r"@import|@font-face|url\((?!#)", html)
    policy = next(a["content"] for tag, a in found.elements if tag == "meta" and "http-equiv" in a)
    assert policy
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy


def test_same_report_is_same_bytes_and_ids_are_unique(page: Callable[..., str]) -> None:
    html = page()
    question = Question(spec=spec_for_size("7B"), workload=make_workload(), command="bitsim report --size 7B")
    assert render_page(sample_report("A model"), question) == html
    found = Reader(html)
    ids = found.attributes("id")
    assert len(ids) == len(set(ids))
    references = set(re.findall(r"url\(#([^)]*)\)", html)) | {link[1:] for link in found.attributes("href")}
    assert references <= set(ids)


def test_tables_hold_the_values_to_sort_by(page: Callable[..., str]) -> None:
    assert '<td class="number" data-value="0.001">1.00 mJ</td>' in page()


def test_sections_left_out_sources_and_reproduction_are_there(page: Callable[..., str]) -> None:
    found = Reader(page())
    text = "".join(found.texts)
    for wanted in ("curves of A model: no runs were given", "A paper of A model", "bitsim report --model 'A model'"):
        assert wanted in text
    sections = [attributes["id"] for tag, attributes in found.elements if tag == "section"]
    assert sections == ["ask", "section-model", "section-sources", "section-left-out", "section-reproduce"]


@pytest.mark.usefixtures("page")
def test_a_report_of_runs_has_no_form() -> None:
    question = Question(spec=spec_for_size("1M"), workload=make_workload(), command="bitsim report", about="runs")
    ids = Reader(render_page(sample_report("runs"), question)).attributes("id")
    assert "ask" not in ids
    assert "tables" not in ids


def test_half_characters_and_control_characters_of_file_names_do_no_harm(page: Callable[..., str]) -> None:
    html = page("model \udcff \x01", "bitsim report --model '</script>\udcff\x01'")
    assert "model \\udcff" in html
    tables = re.search(r'<script type="application/json" id="tables">(.*?)</script>', html)
    assert tables
    assert json.loads(tables[1])["models"][0]["option"] == "--model '</script>\udcff\x01'"


def test_figures_take_the_pages_ink_and_say_their_values(page: Callable[..., str]) -> None:
    svg = inline_svg(as_svg(draw(ROWS)), "p-", {"v0": "one: 3 J", "v1": "two <b>: 5 J"}, 'about "it"', set())
    assert svg.startswith("<svg ")
    assert "<title>one: 3 J</title>" in svg
    assert "<title>two &lt;b&gt;: 5 J</title>" in svg
    assert 'aria-label="about &quot;it&quot;"' in svg
    assert "J &lt;of&gt; a &amp; token" in svg  # text stays text
    assert not re.search(r"#000000|#ffffff|#e0e0e0|<style|style=|xlink|metadata|http", svg)
    assert 'fill="currentColor"' in svg
    assert "color-mix(in srgb, currentColor 12%, var(--paper))" in svg
    assert COLOURS[0].lower() in svg.lower()


def test_a_hatch_is_written_once_for_all_figures_of_a_page() -> None:
    hatches: set[str] = set()
    first, second = (inline_svg(as_svg(draw(ROWS)), prefix, {}, "bars", hatches) for prefix in ("p-", "q-"))
    assert len(hatches) == first.count("<pattern ") == len(ROWS)
    assert "<pattern " not in second
    for hatch in hatches:
        assert f'id="{hatch}"' in first
        assert f"url(#{hatch})" in first
        assert f"url(#{hatch})" in second


# In a browser


@pytest.fixture
def opened(browser: Any, page: Callable[..., str], tmp_path: Path) -> Any:
    """Return the browser with the sample's page, which must not complain of anything."""
    path = tmp_path / "report.html"
    path.write_text(page(MARKUP), encoding="utf-8")
    browser.get(path.as_uri())
    yield browser
    assert browser.get_log("browser") == []


def choose(browser: Any, **fields: str) -> None:
    """Fill in the form as a reader would."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.select import Select

    for name, value in fields.items():
        element = browser.find_element(By.ID, name)
        if element.tag_name == "select":
            Select(element).select_by_value(value)
        else:
            element.clear()
            element.send_keys(value)


def answer(browser: Any) -> dict[str, list[float]]:
    """Return the numbers of the answer by the name of the line: FP16, the other."""
    script = """return [...document.querySelectorAll("#result tbody tr")].map(row =>
        [row.cells[0].textContent, [...row.cells].slice(1).map(cell => cell.dataset.value)])"""
    return {name: [float(v) for v in values if v is not None] for name, values in browser.execute_script(script)}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"size": "1.3B", "scheme": "w4a16", "hardware": "m2", "devices": "1"},
        {"size": "405B", "scheme": "b1", "hardware": "h100-sxm", "devices": "16", "split": "tensor", "batch": "64"},
        {"hardware": "ternary-asic", "devices": "3", "prompt_tokens": "4,096", "new_tokens": "1", "context": "9000"},
        {"size": "1T", "hardware": "raspberry-pi-5", "prompt_tokens": "0", "region": "fr", "batch": "1K"},
    ],
)
def test_the_form_shows_what_its_command_prints(
    opened: Any, bitsim: Callable[..., Any], fields: dict[str, str]
) -> None:
    choose(opened, **fields)
    command = opened.execute_script("return document.getElementById('command').textContent")
    program, *words = shlex.split(command)
    assert program == "bitsim"
    printed = bitsim(*words, "--format", "json")
    assert printed.exit_code == 0, printed.output
    found, estimates = answer(opened), json.loads(printed.output)["estimates"]
    assert len(estimates) == 2
    for index, result in enumerate(estimates):
        wanted = {
            "Memory": result["dram_bytes"]["total"],
            "KV cache": result["dram_bytes"]["kv_cache"],
            "New tokens": result["tokens_per_s"],
            "time of one": result["latency_s"]["per_new_token"],
            "Energy of a new token": result["energy_j"]["per_new_token"],
            "CO2e, 1M new tokens": result["cost"]["kg_co2e_per_million_tokens"],
        }
        if result["latency_s"]["prefill"]:
            wanted["Time to first token"] = result["latency_s"]["prefill"]
        for name, value in wanted.items():
            assert found[name][index] == pytest.approx(value, rel=1e-9), name


def test_sliders_move_the_answer(opened: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    before = answer(opened)
    for name in ("size", "batch", "prompt_tokens", "new_tokens", "context"):
        opened.find_element(By.ID, f"{name}-slider").send_keys(Keys.ARROW_RIGHT)
    after = answer(opened)
    assert after["Memory"][0] > before["Memory"][0]
    assert after["KV cache"][0] > 2 * before["KV cache"][0]  # two sequences
    command = opened.find_element(By.ID, "command").text
    assert "--batch 2 " in command
    assert "--context " in command


def test_a_wrong_entry_is_said_and_gives_no_command(opened: Any) -> None:
    from selenium.webdriver.common.by import By

    choose(opened, batch="0")
    assert "batch: expected a whole number" in opened.find_element(By.ID, "problem").text
    assert not opened.find_element(By.ID, "command").text
    choose(opened, batch="2")
    assert not opened.find_element(By.ID, "problem").is_displayed()
    assert "--batch 2" in opened.find_element(By.ID, "command").text


def test_the_devices_that_fp16_needs(opened: Any) -> None:
    from selenium.webdriver.common.by import By

    choose(opened, size="70B", hardware="rtx-4090")
    opened.find_element(By.ID, "enough").click()
    assert "--devices 6 " in opened.find_element(By.ID, "command").text
    lines = [row.text for row in opened.find_elements(By.CSS_SELECTOR, "#result tr")]
    assert next(line for line in lines if line.startswith("fits")).count("yes") == 2


def test_tables_sort_by_value_with_mouse_and_keyboard(opened: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    table = opened.find_element(By.CSS_SELECTOR, "table.sortable")
    names, energies = table.find_elements(By.CSS_SELECTOR, "th button")

    def column(index: int) -> list[str]:
        rows = table.find_elements(By.CSS_SELECTOR, "tbody tr")
        return [row.find_elements(By.TAG_NAME, "td")[index].text for row in rows]

    energies.click()
    assert column(1) == ["1.00 mJ", "3.00 J", "20.0 J", ""]
    energies.send_keys(Keys.ENTER)
    assert column(1) == ["20.0 J", "3.00 J", "1.00 mJ", ""]
    names.send_keys(Keys.SPACE)
    assert column(0)[-2:] == ["b1", "fp16"]
    assert MARKUP in column(0)
    marked = [heading.get_attribute("aria-sort") for heading in table.find_elements(By.TAG_NAME, "th")]
    assert marked == ["ascending", None]


def test_pointing_at_a_mark_shows_its_value(opened: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    marks = opened.find_elements(By.CSS_SELECTOR, "svg .mark")
    assert len(marks) == 3 * len(ROWS)
    ActionChains(opened).move_to_element(marks[1]).perform()
    tip = opened.find_element(By.ID, "tip")
    assert tip.text == "two <b>: 5 J"
    opened.execute_script("arguments[0].focus()", marks[0])
    assert tip.text == "one: 3 J"
    marks[0].send_keys(Keys.ARROW_RIGHT)
    assert tip.text == "two <b>: 5 J"
    assert [mark.get_attribute("tabindex") for mark in marks] == ["0", "-1"] * 3  # three figures, three stops


@pytest.mark.usefixtures("page")
def test_rows_that_go_on_with_the_one_above_say_all_when_they_are_sorted(browser: Any, tmp_path: Path) -> None:
    from selenium.webdriver.common.by import By

    rows = (("m2", "fp16", Number(3.0, "3 J")), ("", "b1.58", Number(1.0, "1 J")), ("l4", "fp16", Number(2.0, "2 J")))
    table = Table(("machine", "scheme", "energy"), rows, numeric=frozenset({2}))
    report = replace(sample_report("A model"), sections=(Section("energy", "Energy", tables=(table,)),))
    question = Question(spec=spec_for_size("7B"), workload=make_workload(), command="bitsim report --size 7B")
    path = tmp_path / "report.html"
    path.write_text(render_page(report, question), encoding="utf-8")
    browser.get(path.as_uri())
    browser.find_elements(By.CSS_SELECTOR, "table.sortable th button")[2].click()
    found = [row.text for row in browser.find_elements(By.CSS_SELECTOR, "table.sortable tbody tr")]
    assert found == ["m2 b1.58 1 J", "l4 fp16 2 J", "m2 fp16 3 J"]


@pytest.mark.parametrize("width", [360, 1400])
@pytest.mark.parametrize("name", ["a model", "W" * 200])
def test_the_page_is_never_wider_than_its_window(
    browser: Any, page: Callable[..., str], tmp_path: Path, name: str, width: int
) -> None:
    path = tmp_path / "report.html"
    path.write_text(page(name), encoding="utf-8")
    browser.get(path.as_uri())
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    assert browser.execute_script("return document.documentElement.scrollWidth") == width
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_figures_can_be_read_in_light_and_dark(opened: Any, scheme: str) -> None:
    feature = {"name": "prefers-color-scheme", "value": scheme}
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    script = """
      const colour = (selector, name) => getComputedStyle(document.querySelector(selector))[name];
      return [colour("section", "backgroundColor"), colour("section p", "color"), colour("figure svg text", "fill")];
    """
    paper, ink, label = (brightness(colour) for colour in opened.execute_script(script))
    assert label == ink
    assert abs(paper - ink) > 0.7
    assert (paper > ink) == (scheme == "light")
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def brightness(colour: str) -> float:
    """Return the mean of an rgb() colour, 0 to 1."""
    return sum(int(part) for part in re.findall(r"\d+", colour)[:3]) / (3 * 255)
