"""The page that lies beside a corpus: where its text is from, and what to keep in mind."""

from .summary import Corpus, SourceSummary

_COLUMNS = "| source | version | licence of the text | documents | words | bytes | share | held out |"


def read_me(corpus: Corpus) -> str:
    """Return the page in Markdown."""
    domains = ", ".join(f"{share:.0%} {domain}" for domain, share in sorted(corpus.domains.items(), key=_share))
    absent = ", ".join(corpus.sources_left_out) or "none"
    return f"""# A corpus of English text

{corpus.documents:,} documents, {corpus.words:,} words, {corpus.bytes:,} bytes of UTF-8, made by bitsim {corpus.bitsim}.
Of these `held_out.parquet` has {corpus.held_out_documents:,} whole documents, {corpus.held_out_bytes:,} bytes; \
`train.parquet` the rest.
Columns: text, title, source, licence. `corpus.json` has all numbers of this page.

By bytes: {domains}. A model trained on this writes so.

{_COLUMNS}
{"| --- " * 8}|
{_lines(corpus)}

{_abouts(corpus)}

Packages left out: {absent}. Of paragraphs of at least 80 characters that are equal, only the first is kept.

SHA-256 of the text, each document followed by a zero byte:

    train     {corpus.train_sha256}
    held out  {corpus.held_out_sha256}
"""


def _share(item: tuple[str, float]) -> float:
    return -item[1]


def _lines(corpus: Corpus) -> str:
    return "\n".join(
        f"| {source.name} | {source.version} | {source.licence} | {source.documents:,} | {source.words:,} "
        f"| {source.bytes:,} | {source.share:.1%} | {source.held_out_bytes:,} |"
        for source in corpus.sources
    )


def _abouts(corpus: Corpus) -> str:
    return "\n".join(f"- **{source.name}**: {_about(source)}" for source in corpus.sources)


def _about(source: SourceSummary) -> str:
    repeated = f"{source.repeated_paragraphs:,} repeated paragraphs ({source.repeated_bytes:,} bytes)"
    return f"{source.about} Left out: {source.left_out}; {repeated}. Archive: SHA-256 `{source.archive_sha256}`."
