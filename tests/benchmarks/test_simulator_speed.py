"""How long the commands take, and how many designs a second a sweep evaluates (`make bench`).

Targets on a 2-core x86-64 server: `bitsim estimate --size 70B` under 0.35 s, `bitsim --help` under 0.15 s, 200,000
design points a second. Nothing here fails on a slow machine: read the printed table.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bitsim.simulator.sweep import sweep

COMMAND = Path(sys.executable).with_name("bitsim")


@pytest.mark.parametrize("args", [("--help",), ("estimate", "--size", "70B")], ids=" ".join)
def test_command_wall_time(benchmark: Any, args: tuple[str, ...]) -> None:
    run = lambda: subprocess.run([COMMAND, *args], check=True, stdout=subprocess.DEVNULL)  # noqa: E731
    benchmark.pedantic(run, rounds=11, warmup_rounds=1)


def test_sweep_points_per_second(benchmark: Any) -> None:
    sizes, batches = [f"{billions}B" for billions in range(1, 41)], [1, 2, 4, 8, 16, 32, 64, 128]
    machines = ["a100-80gb", "h100-sxm", "m2-ultra", "raspberry-pi-5", "i7-13700h", "ternary-asic"]

    def run() -> int:
        frame = sweep(
            sizes, ["fp16", "b1.58", "w8a8", "w4a16", "b1"], machines, batch=batches, prompt_tokens=range(0, 4096, 256)
        )
        return len(frame)

    points = benchmark.pedantic(run, rounds=5, warmup_rounds=1)
    benchmark.extra_info["points_per_second"] = points / benchmark.stats.stats.median
