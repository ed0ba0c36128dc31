"""The energy counter, on folders in the form that Linux gives them."""

from pathlib import Path

from bitsim.runtime.joules import Joules


def zone(folder: Path, name: str, microjoules: int, reach: int = 1_000_000) -> Path:
    place = folder / name
    place.mkdir(exist_ok=True)
    (place / "energy_uj").write_text(f"{microjoules}\n")
    (place / "max_energy_range_uj").write_text(f"{reach}\n")
    return place


def test_packages_are_added_up_and_their_parts_left_out(tmp_path: Path) -> None:
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0", "other"):
        zone(tmp_path, name, 100_000)
    joules = Joules(tmp_path)
    assert joules.readable
    zone(tmp_path, "intel-rapl:0", 350_000)
    zone(tmp_path, "intel-rapl:1", 100_500)
    zone(tmp_path, "intel-rapl:0:0", 900_000)
    assert joules.since_last() == 0.2505
    assert joules.since_last() == 0


def test_a_counter_that_began_again(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", 900_000)
    joules = Joules(tmp_path)
    zone(tmp_path, "intel-rapl:0", 50_000)
    assert joules.since_last() == 0.15


def test_none_is_not_zero(tmp_path: Path) -> None:
    (tmp_path / "intel-rapl:0").mkdir()  # without a number that we may read
    for folder in (tmp_path, tmp_path / "nowhere"):
        joules = Joules(folder)
        assert not joules.readable
        assert joules.since_last() is None
