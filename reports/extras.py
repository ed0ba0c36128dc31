"""What a command needs beyond the plain package: the extras of pyproject.toml."""

from collections.abc import Iterator
from contextlib import contextmanager

import click


@contextmanager
def needing(extra: str) -> Iterator[None]:
    """Wrap the imports of a command that needs an extra.

    Raises:
        click.ClickException: a package is missing; the line names it and the extra that brings it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == "bitsim":
            raise
        raise click.ClickException(f"{package} is not installed: pip install 'bitsim-llm[{extra}]'") from error
