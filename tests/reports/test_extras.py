"""A command without the extra that it needs says so in one line."""

import subprocess
import sys
import textwrap

import pytest

MISSING = [
    ("corpus text", "pyarrow", "train"),
    ("ladder --data text", "torch", "train"),
    ("serve", "prometheus_client", "serve"),
    ("serve", "starlette", "serve"),
    ("train --size 1M --data text", "torch", "train"),
    ("train --from nowhere --data text", "transformers", "train"),
]


@pytest.mark.parametrize(("command", "package", "extra"), MISSING)
def test_without_the_extra_it_says_how_to_get_it(command: str, package: str, extra: str) -> None:
    code = f"""
    import sys
    sys.modules[{package!r}] = None
    from bitsim.reports.cli import main
    sys.argv = ["bitsim", *{command.split()}]
    main()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"Error: {package} is not installed: pip install 'bitsim-llm[{extra}]'\n"
