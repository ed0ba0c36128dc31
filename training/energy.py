"""Joules of a training run: the machine's own counter, else codecarbon's estimate, else the word "unavailable"."""

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

from bitsim.runtime.joules import Joules

UNAVAILABLE = "unavailable"
_JOULES_PER_KWH = 3.6e6


class Meter:
    """Counts from when it is made until `stop`; graphics cards are in codecarbon's number alone."""

    def __init__(self, *, accelerator: bool) -> None:
        """Begin; `accelerator` says whether a graphics card does the work, which RAPL does not see."""
        self._joules = Joules()
        self._accelerator = accelerator
        self._tracker = None if self._joules.readable and not accelerator else _tracker()

    def stop(self) -> tuple[float | str, str]:
        """Return the joules and where they come from; "unavailable" twice where nothing counts or estimates them."""
        if self._tracker is not None:
            with _quiet():
                self._tracker.stop()
            data = getattr(self._tracker, "final_emissions_data", None)  # none where it failed, which it doesn't say
            if data is None:
                return UNAVAILABLE, UNAVAILABLE
            return data.energy_consumed * _JOULES_PER_KWH, f"estimate of codecarbon {data.codecarbon_version}"
        counted = None if self._accelerator else self._joules.since_last()
        return (UNAVAILABLE, UNAVAILABLE) if counted is None else (counted, "RAPL")


def _tracker() -> Any:
    """Return a tracker of codecarbon that asks nobody, writes no file and has begun; None where it isn't installed."""
    try:
        codecarbon = importlib.import_module("codecarbon")
    except ImportError:
        return None
    with _quiet():
        tracker = codecarbon.OfflineEmissionsTracker(
            country_iso_code="USA",  # it wants a country for grams of CO2, which are not taken from it
            save_to_file=False,
            log_level="critical",
            tracking_mode="machine",
            allow_multiple_runs=True,
        )
        tracker.start()
    return tracker


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what codecarbon says and warns of from the screen."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
