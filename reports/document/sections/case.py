"""A question with its answers: the estimates that all sections speak of."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from bitsim.energy_tables import BitsimError, HardwareProfile
from bitsim.energy_tables.units import format_count, is_count
from bitsim.simulator import Estimate

from ...estimate_json import comparable
from ...laws import TOKENS_PER_PARAMETER
from ..parts import Drawing
from ..question import Question

TERNARY = "b1.58"


@dataclass(frozen=True, slots=True)
class Case:
    """A question and what `bitsim estimate` answers: every scheme on every machine.

    Attributes:
        question: what is asked.
        estimates: machine by machine, in the order of the schemes.
        tokens: training tokens.
    """

    question: Question
    estimates: tuple[Estimate, ...]
    tokens: float

    @property
    def machines(self) -> list[list[Estimate]]:
        """The estimates of each machine."""
        return [list(group) for _, group in groupby(self.estimates, key=lambda estimate: estimate.hardware.name)]

    @property
    def first(self) -> list[Estimate]:
        """The estimates of the first machine, on which the first page speaks."""
        return self.machines[0]

    @property
    def where(self) -> str:
        """The only machine by its name, or "each machine": what figures of all machines are of."""
        return on(self.first[0]) if len(self.machines) == 1 else "each machine"

    @property
    def pair(self) -> tuple[Estimate, Estimate] | None:
        """The first scheme, and ternary or else the second, on the first machine; None where there is one scheme."""
        base, *others = self.first
        if not others:
            return None
        return base, next((other for other in others if other.scheme.name == TERNARY), others[0])

    @property
    def pairs(self) -> list[tuple[Estimate, Estimate]]:
        """The first scheme with each of the others, machine by machine."""
        return comparable(self.estimates)

    def draw(self, *wanted: tuple[str, str, str]) -> tuple[tuple[Drawing, ...], tuple[str, ...]]:
        """Return figures (name, caption, alternative text) with their numbers, and a line for each that has none."""
        return draw_all(self.question, *wanted)


def make_case(question: Question) -> Case:
    """Estimate every scheme on every machine of a question.

    Raises:
        BitsimError: anything in the question that is unknown or out of range.
    """
    from ...commands.estimate_run import run_estimates

    tokens = question.tokens or TOKENS_PER_PARAMETER * question.spec.parameters
    work = question.workload
    request: dict[str, Any] = {
        "schemes": question.schemes,
        "machines": question.machines,
        "engine": None,
        "node": None,
        "energy": "full",
        "batch": work.batch,
        "prompt_tokens": work.prompt_tokens,
        "new_tokens": work.new_tokens,
        "context": work.context,
        "devices": None,
        "split": "pipeline",
        "threads": None,
        "packing": None,
        "kv_bits": None,
        "skip_zeros": False,
        "tokens": tokens,
        "laws": question.laws,
        "region": question.region,
        "energy_table": None,
    }
    return Case(question, tuple(run_estimates(question.spec, request)), tokens)


def drawing(question: Question, name: str, caption: str, about: str) -> Drawing:
    """Return a figure of `reports.figures` with its numbers."""
    from ...figures import FIGURES

    return Drawing(name, tuple(FIGURES[name].rows(question)), caption, about)


def draw_all(question: Question, *wanted: tuple[str, str, str]) -> tuple[tuple[Drawing, ...], tuple[str, ...]]:
    """Return figures (name, caption, alternative text), and for each that has no numbers a line that says why."""
    found, missing = [], []
    for name, caption, about in wanted:
        try:
            found.append(drawing(question, name, caption, about))
        except BitsimError as error:
            missing.append(f"Without the figure {name}: {error}.")
    return tuple(found), tuple(missing)


def on(estimate: Estimate) -> str:
    """Name a machine, with how many there are."""
    return f"{estimate.devices} x {estimate.hardware.name}" if estimate.devices > 1 else estimate.hardware.name


def title_on(estimate: Estimate) -> str:
    """Name a machine in full, with how many there are."""
    return _several(estimate.hardware, estimate.devices)


def _several(hardware: HardwareProfile, devices: int) -> str:
    return f"{devices} x {hardware.title}" if devices > 1 else hardware.title


def load_of(question: Question) -> str:
    """Say the workload in words."""
    work = question.workload
    earlier = f" after {work.earlier_tokens:,} earlier ones" if work.earlier_tokens else ""
    batch = f", {work.batch:,} sequences at once" if work.batch > 1 else ""
    return f"{work.prompt_tokens:,} prompt + {work.new_tokens:,} new tokens{earlier}{batch}"


def named(question: Question) -> str:
    """Name the model with its size."""
    size = format_count(question.spec.parameters)
    return called(question) if is_size(question) else f"{question.spec.name} ({size} parameters)"


def called(question: Question) -> str:
    """Name the model; one that was asked for by its size has no other name."""
    return f"a model of {question.spec.name} parameters" if is_size(question) else question.spec.name


def is_size(question: Question) -> bool:
    """Tell whether the model's name is its size."""
    return is_count(question.spec.name)


def unique(lines: Sequence[str]) -> tuple[str, ...]:
    """Return the lines, each once."""
    return tuple(dict.fromkeys(lines))
