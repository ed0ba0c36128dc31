"""All checks of a model's file, one after the other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bitsim.energy_tables import BitsimError

from ..checkpoints import open_checkpoint
from ..checkpoints.checkpoint import LINEARS, Checkpoint, Linear
from .against import compare
from .check_config import check_activation, check_readable
from .check_rotary import RotaryCheck
from .check_scales import ScaleCheck
from .check_tensors import AGAIN, check_head, check_master_weights, check_names, check_tensors, named
from .check_text import check_text
from .contents import Contents, read_contents
from .finding import ERROR, NOTE, SEVERITIES, Finding

# Why a file can't be read, better said than by who refuses it.
_EXPLAIN = ("missing-sub-norms", "head", "quantization-config", "tokenizer", "illegal-codes", "not-finite")

_COMPARE = "compare with the original: bitsim doctor FILE --against ORIGINAL"

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found out about a file.

    Attributes:
        contents: what lies in it.
        findings: the gravest first; notes are questions left open, not complaints.
        measured: what runs of the model gave, each with its name: nats a token, or shares.
    """

    contents: Contents
    findings: tuple[Finding, ...]
    measured: dict[str, float]

    @property
    def sound(self) -> bool:
        """Whether there is nothing to complain of."""
        return all(finding.severity == NOTE for finding in self.findings)


def diagnose(
    path: str | Path, *, against: str | Path | None = None, run: bool = False, tell: Tell = lambda what: None
) -> Diagnosis:
    """Look for what makes a model answer wrongly.

    Args:
        path: a GGUF file, a Hugging Face folder, or a packed file.
        against: the model that it was made from, in any of these forms.
        run: run the model on a short text, as it is and with one thing changed at a time.
        tell: hears what is being done.

    Raises:
        BitsimError: nothing is there, it is none of these, or its directory of tensors is damaged; or the reference
            can't be read.
    """
    contents = read_contents(path)
    if contents.form == "safetensors":
        raise BitsimError(f"{path}: weights without their config.json: expected the folder that both are in")
    reference = None if against is None else open_checkpoint(against)
    findings = list(_of_the_file(contents, tell))
    measured: dict[str, float] = {}
    checkpoint = contents.checkpoint
    if checkpoint is not None:
        broken = list(_of_the_model(contents, checkpoint, tell))
        findings += broken
        unreadable = any(finding.check in ("not-finite", "illegal-codes", "unreadable") for finding in findings)
        if reference is not None and not unreadable:
            steps = lambda done, of: tell(f"comparing layer {done + 1} of {of}")  # noqa: E731
            findings = _joined(findings, list(compare(checkpoint, reference, steps)))
        if run and not unreadable:
            findings, measured = _with_trials(contents, checkpoint, reference, findings, tell)
    if any(finding.check in _EXPLAIN for finding in findings):
        findings = [finding for finding in findings if finding.check != "unreadable"]
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Diagnosis(contents, tuple(findings), measured)


def _of_the_file(contents: Contents, tell: Tell) -> Iterator[Finding]:
    yield from check_readable(contents)
    yield from check_names(contents)
    yield from check_head(contents)
    yield from check_tensors(contents, lambda done, of: tell(f"reading tensor {done + 1:,} of {of:,}"))
    yield from check_master_weights(contents)
    yield from check_activation(contents)
    yield from check_text(contents)


def _of_the_model(contents: Contents, checkpoint: Checkpoint, tell: Tell) -> Iterator[Finding]:
    spec = checkpoint.config.spec
    scales, rotary = ScaleCheck(contents), RotaryCheck(contents, spec.heads, spec.head_dim)
    refused: list[str] = []
    for layer in range(spec.layers):
        tell(f"judging layer {layer + 1} of {spec.layers}")
        pair: dict[str, Linear] = {}
        for name in LINEARS:
            try:
                linear = checkpoint.linear(layer, name)
            except BitsimError as error:
                refused.append(str(error))
                continue
            scales.add(checkpoint, layer, name, linear)
            if name in "qk":
                pair[name] = linear
        if len(pair) == 2:
            rotary.add(pair["q"], pair["k"], checkpoint.norm(layer, "attention_norm"))
    if refused:
        what = "matrices can't be read as what the configuration says"
        yield Finding(ERROR, "unreadable", what, named(refused), AGAIN)
        return
    yield from scales.findings()
    yield from rotary.findings()


def _with_trials(
    contents: Contents, checkpoint: Checkpoint, reference: Checkpoint | None, findings: list[Finding], tell: Tell
) -> tuple[list[Finding], dict[str, float]]:
    """Run the model, and return findings with what that says of them, and what was measured."""
    from .trial import LEAST_TOKENS, judge, losses, run_trials, settled, trial_tokens  # noqa: PLC0415 the kernels take half a second

    spec = checkpoint.config.spec
    tokens = trial_tokens(checkpoint.text, spec.max_context or 2048)
    if tokens is None:
        what = "the model was not run: it has no tokenizer, or hardly any context"
        evidence = f"context {spec.max_context or 2048:,}; a text of {LEAST_TOKENS} tokens is needed"
        return [*findings, Finding(NOTE, "run", what, evidence, "mend the tokenizer first")], {}
    try:
        trials = run_trials(contents, checkpoint, tokens, tell)
    except BitsimError as error:
        what = "the model can't be run"
        return _joined(findings, [Finding(ERROR, "run", what, str(error), _COMPARE)]), {}
    measured = {f"nats a token, {trial.name}": trial.mean for trial, _ in trials}
    answered = settled(trials, spec.vocab)
    left = [finding for finding in findings if finding.severity != NOTE or finding.check not in answered]
    if reference is not None:
        tell("running the reference")
        theirs = losses(reference, tokens)
        measured["nats a token, reference"] = float(theirs.mean())
        measured["largest difference of a token's nats from the reference"] = float(
            np.abs(theirs - trials[0][0].losses).max()
        )
    return _joined(left, list(judge(trials, spec.vocab))), measured


def _joined(findings: list[Finding], later: list[Finding]) -> list[Finding]:
    """Return findings with later ones: of the same check they make one, which has the evidence of both."""
    joined = list(findings)
    for new in later:
        place = next((i for i, old in enumerate(joined) if old.check == new.check), None)
        if place is None:
            joined.append(new)
        elif joined[place].severity == NOTE:
            joined[place] = new
        else:
            joined[place] = replace(joined[place], evidence=f"{joined[place].evidence}; {new.evidence}")
    return joined
