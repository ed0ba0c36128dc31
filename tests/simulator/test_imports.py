"""What an estimate must not import: it would take longer than the estimate."""

import subprocess
import sys

import pytest

HEAVY = ("numpy", "numba", "torch", "scipy", "pandas", "matplotlib", "transformers")


@pytest.mark.parametrize(
    "args", [["estimate", "--size", "70B"], ["--help"], ["fit-check", "--hardware", "m2"]], ids=" ".join
)
def test_heavy_packages_stay_out(args: list[str]) -> None:
    code = f"""
import sys
from bitsim.reports.cli import cli
try:
    cli({args!r})
except SystemExit:
    pass
print("MODULES", *sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = run.stdout.split("MODULES")[1].split()
    assert not [name for name in HEAVY if name in modules]
    assert "bitsim.reports.cli" in modules
