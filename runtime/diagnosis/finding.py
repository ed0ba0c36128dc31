"""What a check of a model's file comes to."""

from dataclasses import dataclass

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check has to say.

    Attributes:
        severity: "error", the model answers wrongly or not at all; "warning", it most likely does, or lacks what it
            needs to be of use; "note", a question that the file alone leaves open, which is no complaint.
        check: a short name of what was looked at, the same in every version.
        what: what is the matter, in a sentence.
        evidence: numbers and names from the file.
        mend: what to do about it.
    """

    severity: str
    check: str
    what: str
    evidence: str
    mend: str
