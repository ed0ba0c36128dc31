"""`bitsim report`: the files it writes, and what it refuses."""

import io
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bitsim.energy_tables.units import format_si
from bitsim.reports.cli import cli
from bitsim.simulator import estimate

Run = Callable[..., Result]

TINY = ("--size", "10M", "--hardware", "raspberry-pi-5")


@pytest.fixture(scope="module")
def run() -> Run:
    """Run `bitsim report ARGS`."""
    environment = {"COLUMNS": "100", "NO_COLOR": "1", "SOURCE_DATE_EPOCH": None}
    return lambda *args: CliRunner().invoke(cli, ["report", *map(str, args)], env=environment)


@pytest.fixture(scope="module")
def seventy(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.pdf"
    result = run("--size", "70B", "-o", path)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    return path


@pytest.fixture(scope="module")
def said(seventy: Path) -> str:
    """Return the text of the PDF of 70B."""
    return text_of(seventy)


def text_of(path: Path) -> str:
    pypdf = pytest.importorskip("pypdf")
    pages = pypdf.PdfReader(io.BytesIO(path.read_bytes())).pages
    return "\n".join(page.extract_text() for page in pages).replace("\u200b", "").replace("\u00a0", " ")


def test_the_pdf_holds_the_estimates_numbers(said: str) -> None:
    text = said
    for scheme in ("fp16", "b1.58"):
        found = estimate("70B", scheme)
        assert format_si(found.dram_bytes.total, "B") in text
        assert format_si(found.token_energy_j["total"].mid, "J") in text
        assert format_si(found.per_new_token_s.mid, "s") in text
        assert format_si(found.prefill_s.mid, "s") in text
        assert format_si(found.cost["kg_co2e_per_million_tokens"].mid * 1e3, "g") in text
    for heading in ("Energy", "Memory", "Training cost", "Accuracy", "Assumptions and ranges", "Sources"):
        assert heading in text
    assert "71.4x" in text


def test_it_says_its_command_and_no_date(seventy: Path, said: str) -> None:
    text = "".join(said.split())
    assert "".join(shlex.join(["bitsim", "report", "-o", str(seventy), "--size", "70B"]).split()) in text
    assert "UTC" not in text


def test_the_same_request_is_the_same_bytes(run: Run, seventy: Path) -> None:
    first = seventy.read_bytes()
    seventy.unlink()
    assert run("--size", "70B", "-o", seventy).exit_code == 0
    assert seventy.read_bytes() == first


def test_all_options_at_once(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    more = ("--region", "fr", "--batch", "4", "--prompt-tokens", "64", "--new-tokens", "8", "--context", "999")
    result = run(
        *TINY, *more, "--scheme", "fp16", "--scheme", "b1", "--tokens", "1B", "--paper", "us-letter", "-o", path
    )
    assert result.exit_code == 0, result.stderr
    text = text_of(path)
    assert "What is b1 worth for" in text
    assert "64 prompt + 8 new tokens after 927 earlier ones, 4 sequences at once" in " ".join(text.split())
    assert "France" in text


def test_html_is_written_too(run: Run, tmp_path: Path) -> None:
    result = run(*TINY, "--html", tmp_path / "a.html")
    assert result.exit_code == 0, result.stderr
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert not (tmp_path / "a.pdf").exists()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--size", "1B"), "give --output, --html or both"),
        (("-o", "a.pdf"), "give --size or --model, or --measured or --runs alone"),
        (("--size", "1B", "--model", "llama-3-8b", "-o", "a.pdf"), "give one of --size and --model"),
        (("--size", "1B", "-o", "a", "--html", "a"), "expected different files"),
        (("--runs", "runs.csv", "--batch", "2", "-o", "a.pdf"), "--batch has no meaning with --runs alone"),
        (("--size", "1B", "-o", "a.pdf", "--paper", "a5"), "--paper"),
    ],
)
def test_usage_errors(run: Run, args: tuple[str, ...], said: str) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--size", "1B", "--hardware", "no-such"), "unknown hardware"),
        (("--size", "1B", "--scheme", "fp99"), "unknown scheme"),
        (("--size", "1B", "--region", "nowhere"), "unknown region"),
        (("--size", "1B", "--law", "no-such"), "--law"),
        (("--size", "1B", "--runs", "gone.csv"), "gone.csv"),
        (("--size", "1B", "--measured", "gone.json"), "gone.json"),
        (("--runs", "gone.csv"), "gone.csv"),
        (("--measured", "gone.json"), "gone.json"),
        (("--size", "zero"), "size: expected"),
        (("--size", "1B", "--batch", "0"), "batch: expected"),
    ],
)
def test_errors_in_one_line_and_no_file(run: Run, args: tuple[str, ...], said: str, tmp_path: Path) -> None:
    result = run(*args, "-o", tmp_path / "a.pdf")
    assert result.exit_code == 1, result.output
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    result = run(*TINY, "-o", tmp_path / "no" / "a.pdf")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(("option", "file", "kind"), [("-o", "a.txt", ".pdf"), ("--html", "a.pdf", ".html")])
def test_another_kind_of_file_is_refused(run: Run, tmp_path: Path, option: str, file: str, kind: str) -> None:
    place = tmp_path / file
    result = run("--size", "1B", option, str(place))
    assert result.exit_code == 1
    assert f"expected a name that ends in {kind}, got '{place.suffix}'" in result.stderr
    assert not place.exists()
