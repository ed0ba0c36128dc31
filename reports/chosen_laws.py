"""Loss laws as the options of a command name them: LAW or SCHEME=LAW, a law by its name or a file of bitsim fit-law."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from bitsim.energy_tables import BitsimError, LossLaw
from bitsim.simulator.loss_laws import Loss
from bitsim.training.law_file import UNITS, SavedLaw

from .laws import open_law


@dataclass(frozen=True, slots=True)
class ChosenLaws:
    """Laws by scheme, as `bitsim.simulator` takes them, and by scheme the fits behind those that come from files."""

    laws: Mapping[str, LossLaw]
    fits: Mapping[str, SavedLaw]

    def of(self, scheme: str) -> dict[str, LossLaw]:
        """Return the laws that a scheme's loss may follow from: its own, and FP16's."""
        return {kind: law for kind, law in self.laws.items() if kind in (scheme, "fp16")}

    def with_interval(self, loss: Loss, scheme: str, parameters: float, tokens: float) -> Loss:
        """Return the loss of a scheme with what the fit says of its range, where its law comes from a file."""
        if scheme not in self.fits:
            return loss
        low, value, high = self.fits[scheme].fit.predict(parameters, tokens, scheme).value
        if math.isfinite(high):
            return Loss(loss.law, value, low, high, loss.notes)
        note = f"loss law {loss.law} was fitted without resamples: the loss of {scheme} has no range"
        return Loss(loss.law, value, value, value, (*loss.notes, note))


def choose_laws(given: Sequence[str], schemes: Sequence[str]) -> ChosenLaws:
    """Read what was given as --law.

    A published law without a scheme is FP16's; a file without one is of all schemes it was fitted to.

    Raises:
        UsageError: a text that is neither LAW nor SCHEME=LAW, or two laws of a scheme.
        BitsimError: no such law, or a file that is damaged or not of a loss.
    """
    laws: dict[str, LossLaw] = {}
    fits: dict[str, SavedLaw] = {}
    for text in given:
        scheme, _, name = (part.strip() for part in text.rpartition("="))
        if not name:
            raise click.UsageError(f"--law: expected LAW or SCHEME=LAW, got '{text[:40]}'")
        found = open_law(name)
        kinds: tuple[str, ...] = (scheme or "fp16",)
        if isinstance(found, SavedLaw):
            _check_loss(name, found)
            if not scheme:
                kinds = tuple(kind for kind in found.fit.points.kinds if kind in (*schemes, "fp16"))
        for kind in kinds:
            if kind in laws:
                raise click.UsageError(f"--law: expected one law of {kind[:40]}, got two")
            laws[kind] = found.fit.law(kind, Path(name).name) if isinstance(found, SavedLaw) else found
            if isinstance(found, SavedLaw):
                fits[kind] = found
    return ChosenLaws(laws, fits)


def _check_loss(name: str, saved: SavedLaw) -> None:
    if UNITS.get(saved.fit.points.metric) != "nats per token":
        raise BitsimError(f"{name}: expected a law of a loss in nats per token, got one of {saved.fit.points.metric}")
