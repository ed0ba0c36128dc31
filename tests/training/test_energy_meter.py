import importlib
from pathlib import Path
from typing import Any

import pytest

from bitsim.runtime.joules import Joules
from bitsim.training import energy


@pytest.fixture
def counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose package counts its microjoules in a file."""
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    (zone / "energy_uj").write_text("1000000")
    monkeypatch.setattr(energy, "Joules", lambda: Joules(tmp_path))
    return zone / "energy_uj"


def without_codecarbon(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)


def test_the_machines_counter_is_taken(counter: Path) -> None:
    meter = energy.Meter(accelerator=False)
    counter.write_text("3500000")
    assert meter.stop() == (2.5, "RAPL")


def test_nothing_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(energy, "Joules", lambda: Joules(tmp_path))
    without_codecarbon(monkeypatch)
    assert energy.Meter(accelerator=False).stop() == ("unavailable", "unavailable")


def test_a_graphics_card_is_not_in_the_packages_counter(counter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_codecarbon(monkeypatch)
    meter = energy.Meter(accelerator=True)
    counter.write_text("3500000")
    assert meter.stop() == ("unavailable", "unavailable")


@pytest.mark.slow
def test_codecarbon_estimates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("codecarbon", reason="codecarbon is not installed (extra `energy`)")
    monkeypatch.setattr(energy, "Joules", lambda: Joules(tmp_path))
    monkeypatch.chdir(tmp_path)
    joules, source = energy.Meter(accelerator=False).stop()
    assert isinstance(joules, float)
    assert joules > 0
    assert source.startswith("estimate of codecarbon")
    assert not list(tmp_path.iterdir())
