"""A browser for the tests of the HTML report."""

from collections.abc import Iterator
from typing import Any

import pytest
from browser import chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window; skips where there is none."""
    yield from chromium("force-prefers-reduced-motion", "hide-scrollbars", "window-size=1200,900")
