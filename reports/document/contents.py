"""What a report holds: every section in its order, what is left out and why, the sources, and how to make it again."""

from collections.abc import Callable, Iterable

from .origin import made_with, references
from .parts import Report, Section
from .question import Question

Tell = Callable[[str], None]
_NO_RUNS = "Ladder, curves and fits: no runs were given; --runs takes the runs.csv of bitsim ladder."
_NO_MEASURED = "Measured: nothing measured was given; --measured takes the JSON of bitsim bench --model."


def gather(question: Question, tell: Tell = lambda what: None) -> Report:
    """Answer a question in full.

    Args:
        question: what is asked.
        tell: is given the name of each part before it is made.

    Raises:
        BitsimError: anything in the question that is unknown, out of range or damaged.
    """
    return {"model": _of_model, "measured": _of_measured, "runs": _of_runs}[question.about](question, tell)


def _of_model(question: Question, tell: Tell) -> Report:
    from .sections import energy, first_page, loss, model, running, speed, trust
    from .sections.case import make_case

    tell("estimates")
    case = make_case(question)
    parts: list[tuple[str, Callable[[], Section | str]]] = [
        ("question", lambda: first_page.section(case)),
        ("model", lambda: model.section(case)),
        ("energy", lambda: energy.section(case)),
        ("latency", lambda: speed.latency(case)),
        ("memory", lambda: speed.memory(case)),
        ("sizes", lambda: speed.sizes(case)),
        ("loss", lambda: loss.loss(case)),
        *_runs_parts(question, draw_law=False),
        ("training cost", lambda: loss.training(case)),
        ("running cost", lambda: running.costs(case)),
        ("devices", lambda: running.devices(case)),
        ("accuracy", lambda: trust.accuracy(case)),
        ("assumptions", lambda: trust.assumptions(case)),
    ]
    if question.measured is not None:
        parts.insert(1, ("measured", lambda: _measured(question)))
    sections, left_out = _made(parts, tell)
    left_out += [] if question.runs else [_NO_RUNS]
    left_out += [] if question.measured else [_NO_MEASURED]
    return Report(
        title=first_page.title(case),
        subtitle=first_page.subtitle(case),
        headline=first_page.headline(case),
        lead=first_page.lead(case),
        sections=sections,
        left_out=tuple(left_out),
        sources=references(
            [
                *(key for each in case.estimates for key in each.sources),
                *energy.sources(case),
                *loss.sources(case),
                *running.sources(),
                *trust.sources(sections),
            ]
        ),
        made_with=made_with(question),
    )


def _of_measured(question: Question, tell: Tell) -> Report:
    from .sections import measured, model
    from .sections.case import make_case

    tell("measured")
    lead = measured.picture(question)
    case = make_case(measured.as_run(question, lead.rows))
    found = measured.section(question, lead, draw=False)
    sections, left_out = _made([("model", lambda: model.section(case))], tell)
    return Report(
        title=f"{question.spec.name} on this machine: predicted beside measured",
        subtitle=measured.subtitle(question),
        headline=measured.headline(question, lead.rows),
        lead=lead,
        sections=(found, *sections),
        left_out=tuple(left_out),
        sources=references(key for each in case.estimates for key in each.sources),
        made_with=made_with(question),
    )


def _of_runs(question: Question, tell: Tell) -> Report:
    from .sections import runs
    from .sections.case import drawing

    assert question.runs is not None
    tell("runs")
    rows = runs.read_rows(question.runs)
    sections, left_out = _made(_runs_parts(question, draw_law=False), tell)
    tell("figures")
    return Report(
        title="A training ladder: runs, curves and fits",
        subtitle=f"{question.runs.name}: {len(rows):,} runs",
        headline=runs.headline(rows),
        lead=drawing(
            question, "loss-law", "Loss over size: runs, laws and bands.", "Loss over size, with fitted laws."
        ),
        sections=sections,
        left_out=tuple(left_out),
        sources=references(("hoffmann2022", "kaplan2020")),
        made_with=made_with(question),
    )


def _measured(question: Question) -> Section:
    from .sections import measured

    return measured.section(question, measured.picture(question))


def _runs_parts(question: Question, draw_law: bool) -> list[tuple[str, Callable[[], Section | str]]]:
    if question.runs is None:
        return []
    from .sections import runs

    path = question.runs
    return [
        ("ladder", lambda: runs.ladder(runs.read_rows(path))),
        ("curves", lambda: runs.curves(question)),
        ("fits", lambda: runs.fits(question, draw_law)),
    ]


def _made(
    parts: Iterable[tuple[str, Callable[[], Section | str]]], tell: Tell
) -> tuple[tuple[Section, ...], list[str]]:
    """Make the parts; one that is a line instead of a section says why it is missing."""
    sections, left_out = [], []
    for name, make in parts:
        tell(name)
        found = make()
        if isinstance(found, Section):
            sections.append(found)
        else:
            left_out.append(found)
    return tuple(sections), left_out
