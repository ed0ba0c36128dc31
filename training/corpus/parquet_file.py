"""Documents in a parquet file, one a row."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from .plain_text import Document
from .sources import Source

_COLUMNS = pa.schema([(name, pa.string()) for name in ("text", "title", "source", "licence")])


def write_parquet(path: Path, documents: Iterable[tuple[Source, Document]]) -> None:
    """Write documents with the columns text, title, source and licence."""
    rows = [
        {"text": document.text, "title": document.title, "source": source.name, "licence": source.licence}
        for source, document in documents
    ]
    parquet.write_table(pa.Table.from_pylist(rows, schema=_COLUMNS), path, compression="zstd")
