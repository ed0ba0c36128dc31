"""What a report is asked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bitsim.simulator import ModelSpec
from bitsim.simulator.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A model, how it is used, on what, and what else is to be put beside the estimate.

    Attributes:
        spec: the model, from --size or --model.
        schemes: names of schemes; the first is compared with the others.
        machines: names of hardware profiles or .toml files; empty for estimate's default (a100-80gb, as many as the
            largest of the schemes needs).
        workload: batch, prompt, new tokens and context.
        tokens: training tokens; None for 20 per parameter, which the report says.
        laws: loss laws, as `bitsim plan --law` takes them.
        runs: a runs.csv of a training ladder.
        measured: the JSON of `bitsim bench --model --format json`.
        region: of the electricity grid.
        paper: "a4" or "us-letter".
        command: the command line that makes the report, to print in it.
        about: what the report is of: a model (the estimate), a model measured on this machine, or a ladder's runs, of
            which `spec` is the largest.
    """

    spec: ModelSpec
    schemes: tuple[str, ...] = ("fp16", "b1.58")
    machines: tuple[str, ...] = ()
    workload: Workload
    tokens: float | None = None
    laws: tuple[str, ...] = ()
    runs: Path | None = None
    measured: Path | None = None
    region: str = "world"
    paper: str = "a4"
    command: str
    about: Literal["model", "measured", "runs"] = "model"
