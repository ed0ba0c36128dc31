"""Marks every test here as a benchmark: `make test` leaves them out, `make bench` runs them."""

from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark before pytest's own `-m` filter looks."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.benchmark)


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str]) -> Any:
    def print_(*lines: str) -> None:
        with capsys.disabled():
            print("", *lines, sep="\n")  # noqa: T201

    return print_
