"""Characters that matplotlib's font lacks."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LACKS = r"Glyph \d+ .*missing from font"


@contextmanager
def lacking_glyphs() -> Iterator[None]:
    """Draw characters that the font lacks, as boxes, without a line for each on standard error."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=_LACKS, category=UserWarning)
        yield
