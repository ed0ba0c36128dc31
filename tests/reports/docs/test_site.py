"""The site builds without a warning, every page is in it, and a reader's browser asks nobody else for anything."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="no mkdocs: pip install 'bitsim-llm[docs]'")
pytest.importorskip("material")
pytest.importorskip("mkdocstrings")

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "reports/docs"
# What a browser fetches: not links to follow, nor addresses in a text or in a script that is never run.
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*?\bsrc=["'](?:https?:)?//[^"']+"""
    r"""|<link\b[^>]*?\bhref=["'](?:https?:)?//[^"']+|url\(["']?(?:https?:)?//[^)]+|@import[^;]+//""",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def files(site: Path, *endings: str) -> Iterator[Path]:
    return (path for path in site.rglob("*") if path.suffix in endings)


def test_every_page_is_in_the_site(site: Path) -> None:
    pages = {path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md")}
    assert pages <= {path.relative_to(site) for path in files(site, ".html")}


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    found = {
        f"{path.relative_to(site)}: {match}"
        for path in files(site, ".html", ".css", ".svg")
        for match in FETCHED.findall(path.read_text(encoding="utf-8"))
    }
    assert found == set()


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    from bitsim import energy_tables, simulator

    page = "".join(path.read_text(encoding="utf-8") for path in (site / "reference").glob("*.html"))
    for name in ("estimate", "Estimate", "ModelSpec", "Scheme", "load_hardware", "Interval", "BitsimError"):
        assert name in {*simulator.__all__, *energy_tables.__all__}
        assert re.search(rf'id="bitsim\.[\w.]+\.{name}"', page), name
