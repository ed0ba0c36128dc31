"""Text that a user gives: a file, or standard input."""

import sys
from pathlib import Path
from typing import BinaryIO

import click

STANDARD_INPUT = "-"
_LARGEST = 64 << 20  # bytes


def read_standard_input() -> str:
    """Return all of standard input, the last line's end left out."""
    return _read(standard_input(), "standard input").removesuffix("\n").removesuffix("\r")


def read_text_file(path: str) -> str:
    """Return the text of a file (of standard input for `-`), or say in one line why not."""
    if path == STANDARD_INPUT:
        return _read(standard_input(), "standard input")
    try:
        with Path(path).open("rb") as file:
            return _read(file, path)
    except FileNotFoundError as error:
        raise click.ClickException(f"{path[:200]}: no such file") from error
    except (OSError, ValueError) as error:  # a folder, no permission; a name with a zero byte
        raise click.ClickException(
            f"{path[:200]}: cannot be read ({getattr(error, 'strerror', None) or error})"
        ) from error


def _read(file: BinaryIO, name: str) -> str:
    content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise click.ClickException(f"{name}: more than {_LARGEST >> 20} MiB")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise click.ClickException(f"{name}: expected text in UTF-8, got other bytes at {error.start:,}") from error


def standard_input() -> BinaryIO:
    """Return standard input as bytes, or say that there is none."""
    if sys.stdin is None:
        raise click.ClickException("standard input: there is none")
    return sys.stdin.buffer


def on_terminal() -> bool:
    """Whether a person types the input."""
    return sys.stdin is not None and sys.stdin.isatty()
