"""The estimates that a question asks for: every scheme on every machine."""

from collections.abc import Mapping, Sequence
from typing import Any

from bitsim.energy_tables import HardwareProfile
from bitsim.simulator import Estimate, ModelSpec, Scheme, estimate
from bitsim.simulator.workload import Workload

from ..document.question import Question
from .figure import Row

_DOES_NOT_FIT = "as if it fitted"


def machines_of(question: Question) -> Sequence[str | None]:
    """Return the machines; None stands for the default, as many as the FP16 model needs."""
    return question.machines or (None,)


def estimates_of(question: Question, **changed: Any) -> list[Estimate]:
    """Estimate every scheme on every machine.

    Args:
        question: what is asked.
        changed: arguments of `estimate` that differ from the question's.

    Raises:
        BitsimError: an unknown name, or a value out of range.
    """
    return [
        estimate_of(question, scheme, machine, **changed)
        for machine in machines_of(question)
        for scheme in dict.fromkeys(question.schemes)
    ]


def estimate_of(
    question: Question,
    scheme: str | Scheme,
    machine: str | HardwareProfile | None,
    spec: ModelSpec | None = None,
    **changed: Any,
) -> Estimate:
    """Estimate one scheme on one machine, for the question's model or another.

    Raises:
        BitsimError: an unknown name, or a value out of range.
    """
    options = {"region": question.region} | workload_options(question.workload) | changed
    return estimate(spec or question.spec, scheme, machine, **options)


def workload_options(workload: Workload) -> dict[str, int]:
    """Return a workload as arguments of `estimate`."""
    return {name: getattr(workload, name) for name in ("batch", "prompt_tokens", "new_tokens", "context")}


def system_columns(estimate: Estimate) -> Row:
    """Return the columns that say which machine and scheme a row is of."""
    return {
        "hardware": estimate.hardware.name,
        "devices": estimate.devices,
        "scheme": estimate.scheme.name,
        "fits": "yes" if estimate.fits else "no",
    }


def machine_label(row: Mapping[str, Any]) -> str:
    """Name the machine of a row: "2 x a100-80gb"."""
    return f"{row['devices']:,} x {row['hardware']}" if row["devices"] > 1 else str(row["hardware"])


def system_label(row: Mapping[str, Any]) -> str:
    """Name the scheme and the machine of a row."""
    return f"{row['scheme']} on {machine_label(row)}{fit_note(row)}"


def fit_note(row: Mapping[str, Any]) -> str:
    """Return what must be said behind a number of a model that the machine can't hold."""
    return f", {_DOES_NOT_FIT}" if row["fits"] == "no" else ""
