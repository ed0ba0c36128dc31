"""Running the command in this process, the way a shell would see it."""

from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from bitsim.reports.cli import cli


@pytest.fixture(scope="session")
def bitsim() -> Callable[..., Result]:
    """Run `bitsim ARGS`; standard output and standard error are apart."""

    def run(*args: str) -> Result:
        return CliRunner().invoke(cli, list(args), env={"COLUMNS": "100", "NO_COLOR": "1"})

    return run
