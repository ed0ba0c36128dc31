"""Documents of a data set on the Hugging Face hub, streamed: nothing but what is read is downloaded."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import datasets
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import shown

from .local_files import readable, text_column

_PATIENCE = 20  # seconds for the hub's first answer
_INSTEAD = f"name a local file or folder ({readable()}) instead, or one made by `bitsim corpus`"


def revision_of(name: str) -> str | None:
    """Return the commit that a data set is at now.

    Raises:
        BitsimError: the hub can't be reached, has no such data set, or keeps it for those who asked.
    """
    try:
        return HfApi().dataset_info(name, timeout=_PATIENCE).sha
    except GatedRepoError as error:
        raise BitsimError(f"{name}: the hub gives this data set only to those logged in who asked for it") from error
    except RepositoryNotFoundError as error:
        message = f"{name}: no file or folder here, and no data set on the Hugging Face hub; {_INSTEAD}"
        raise BitsimError(message) from error
    except Exception as error:  # whatever the network's layers raise
        reason = _line(error)
        message = f"{name}: no file or folder here, and the Hugging Face hub can't be reached ({reason}); {_INSTEAD}"
        raise BitsimError(message) from error


def open_splits(name: str, config: str | None, revision: str | None) -> Mapping[str, Iterable[Mapping[str, Any]]]:
    """Return the splits of a data set by name, each a stream of rows.

    Raises:
        BitsimError: the data set has no such configuration, or can't be opened.
    """
    datasets.disable_progress_bars()
    try:
        found = datasets.load_dataset(name, config, revision=revision, streaming=True)
    except Exception as error:  # ValueError, OSError, and what the formats' readers raise
        hint = "; write NAME:CONFIGURATION" if config is None and "onfig" in str(error) else ""
        raise BitsimError(f"{name}: {_line(error)}{hint}") from error
    return dict(found)


def read_split(rows: Iterable[Mapping[str, Any]], where: str) -> Iterator[str]:
    """Yield the text of each row.

    Raises:
        BitsimError: no column of text, or the stream broke.
    """
    column = None
    try:
        for row in rows:
            if column is None:
                column = text_column(row, where)
            text = row.get(column)
            if text is not None:
                if not isinstance(text, str):
                    raise BitsimError(f"{where}: column '{column}': expected strings, got {type(text).__name__}")
                yield text
    except BitsimError:
        raise
    except Exception as error:  # a broken connection or file, as any of several packages says it
        raise BitsimError(f"{where}: the stream broke: {_line(error)}") from error


def _line(error: Exception) -> str:
    return shown(" ".join(str(error).split()), 250) or type(error).__name__
