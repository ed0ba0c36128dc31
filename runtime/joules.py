"""Energy that the machine counts itself: Intel's and AMD's RAPL, as Linux shows it."""

from pathlib import Path

_FOLDER = Path("/sys/class/powercap")  # Linux, Documentation/power/powercap


class Joules:
    """Counts the joules of all CPU packages; `readable` says whether there is such a counter and we may read it."""

    def __init__(self, folder: Path = _FOLDER) -> None:
        """Look for the packages' counters (and not for their parts, which are in them)."""
        zones = sorted(folder.glob("intel-rapl:*"))
        self._zones = [zone for zone in zones if zone.name.count(":") == 1 and _number(zone / "energy_uj") is not None]
        self._last = self._microjoules()

    @property
    def readable(self) -> bool:
        """Whether there is a counter."""
        return bool(self._zones)

    def since_last(self) -> float | None:
        """Return the joules since the last call (or since the object was made); None where nothing counts them."""
        if not self._zones:
            return None
        now = self._microjoules()
        spent = 0
        for zone, before, after in zip(self._zones, self._last, now, strict=True):
            wrapped = after < before  # the counter begins again at its range
            spent += after - before + ((_number(zone / "max_energy_range_uj") or 0) if wrapped else 0)
        self._last = now
        return spent / 1e6

    def _microjoules(self) -> list[int]:
        return [_number(zone / "energy_uj") or 0 for zone in self._zones]


def _number(path: Path) -> int | None:
    """Return the whole number in a file, or None where it can't be read."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
