"""The ladder that is committed: records, curves and table say the same, twins are twins, and the law is theirs.

`make law` fits our own law again and writes it into the tables.
"""

import csv
import io
import math
import os
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import huber

from bitsim.energy_tables import loss_laws
from bitsim.energy_tables.citations import DATA
from bitsim.runtime.whole import whole_file
from bitsim.simulator.loss_laws import loss_nats
from bitsim.training.fit import fit_law
from bitsim.training.fitted import Fit
from bitsim.training.law_file import Origin, read_law, write_law
from bitsim.training.measured import read_runs
from bitsim.training.records import CURVE, RUNS, read_records

RESULTS = Path(__file__).parents[2] / "training" / "results"
RECORDS = read_records(RESULTS)
LAW = DATA / "own_law.json"
SHARED = ("e", "alpha", "beta")
COMMAND = f"bitsim fit-law training/results/runs.csv --form chinchilla --shared {','.join(SHARED)}"
RESAMPLES = 1000  # as many as a file in the package should hold
UPDATE = os.environ.get("BITSIM_UPDATE_LAW") == "1"
SCATTER = 0.0123  # runs lie so far about the law (`bitsim fit-law`)
UNIGRAM = 6.654  # nats per token: the held-out text by each token's frequency alone (README.md there)


def shape(record: dict[str, Any]) -> tuple[Any, ...]:
    return record["parameters"] - record["other"], record["tokens"]


def test_the_table_is_that_of_the_records() -> None:
    with (RESULTS / RUNS).open(newline="", encoding="utf-8") as file:
        rows = {row["run"]: row for row in csv.DictReader(file)}
    assert sorted(rows) == [record["run"] for record in RECORDS]
    for record in RECORDS:
        for name in ("held_out_loss", "bits_per_byte", "parameters", "non_embedding", "tokens", "learning_rate"):
            assert float(rows[record["run"]][name]) == record[name]
    assert len(read_runs(RESULTS / RUNS)) == len(RECORDS)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record["run"])
def test_a_curve_ends_as_its_record_says(record: dict[str, Any]) -> None:
    with (RESULTS / record["run"] / CURVE).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(record["curve"])
    assert int(rows[-1]["step"]) == record["steps"]
    assert record["steps"] * record["batch_tokens"] == record["tokens"]
    losses = [float(row["loss"]) for row in rows if row["loss"]]
    assert losses[-1] == record["train_loss"]
    # It begins as a model that knows nothing, the first row being a mean of steps in which it has learnt a little, and
    # ends well below what frequencies alone tell.
    assert UNIGRAM + 0.5 < losses[0] < math.log(record["vocab"]) + 0.2
    assert record["held_out_loss"] < UNIGRAM - 0.5


def test_twins_learnt_the_same_in_the_same_way() -> None:
    ordered = sorted(RECORDS, key=shape)
    pairs = [list(group) for _, group in groupby(ordered, shape)]
    assert len(pairs) >= 2
    for pair in pairs:
        assert sorted(record["scheme"] for record in pair) == ["b1.58", "fp16"]
        first, second = pair
        for name in (
            "layers", "hidden", "heads", "ffn", "vocab", "context", "seed", "recipe", "data_hash", "tokenizer_hash",
            "batch_tokens", "learning_rate", "steps", "precision",
        ):  # fmt: skip
            assert first[name] == second[name], name
        assert first["hyper_parameters"] == second["hyper_parameters"]


def test_larger_models_learn_more() -> None:
    for scheme in ("fp16", "b1.58"):
        runs = [record for record in RECORDS if record["scheme"] == scheme]
        for one in runs:
            for other in runs:
                if one["non_embedding"] < other["non_embedding"] and one["tokens"] < other["tokens"]:
                    assert other["held_out_loss"] < one["held_out_loss"]


def test_scipy_finds_no_better_law() -> None:
    """The law's slow twin: its own arithmetic, a minimiser without derivatives, starting points drawn at random."""
    with (RESULTS / RUNS).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    size, tokens, loss = np.array(
        [[float(row[name]) for name in ("non_embedding", "tokens", "held_out_loss")] for row in rows]
    ).T
    scheme = np.array([3 + 2 * (row["scheme"] == "fp16") for row in rows])  # where its a and b begin

    def height(unknowns: Any) -> float:
        e, alpha, beta = unknowns[:3]
        a, b = unknowns[scheme], unknowns[scheme + 1]
        terms = np.stack([np.full(len(a), e), a - alpha * np.log(size), b - beta * np.log(tokens)])
        return float(huber(1e-3, np.logaddexp.reduce(terms) - np.log(loss)).sum())

    generator = np.random.default_rng(0)
    least = math.inf
    for _ in range(60):
        drawn = generator.uniform((-1, 0, 0, 0, 0, 0, 0), (1.5, 1, 1, 12, 12, 12, 12))
        smooth = minimize(height, drawn, method="BFGS")
        exact = minimize(height, smooth.x, method="Nelder-Mead", options={"maxfev": 20_000, "xatol": 1e-9})
        least = min(least, exact.fun)
    fit = fit_law(read_runs(RESULTS / RUNS), "chinchilla", shared=SHARED, resamples=0)
    assert fit.objective == pytest.approx(least, rel=1e-3)


@pytest.mark.slow
def test_intervals_of_such_a_ladder_hold_its_law_and_a_run_less_often() -> None:
    """Ladders of the same sizes and tokens, drawn about our own law with the runs' own scatter, and one run more."""
    runs, law = read_runs(RESULTS / RUNS), read_law(LAW).fit
    assert runs.tokens is not None
    size, tokens, times = 972_800, 11_975_680, 40
    own = {scheme: law.law(scheme, scheme) for scheme in ("fp16", "b1.58")}
    expected = np.array(
        [loss_nats(own[s], n, d) for s, n, d in zip(runs.schemes, runs.parameters, runs.tokens, strict=True)]
    )
    held = {name: np.zeros(2, dtype=int) for name in own}
    for seed in range(times):
        random = np.random.default_rng(seed)
        drawn = replace(runs, values=expected * np.exp(SCATTER * random.standard_normal(len(runs))))
        fit = fit_law(drawn, "chinchilla", shared=SHARED, resamples=120, seed=seed)
        for scheme, count in held.items():
            interval, truth = fit.predict(size, tokens, scheme).value, loss_nats(own[scheme], size, tokens)
            run = truth * math.exp(SCATTER * random.standard_normal())
            count += [interval.low <= value <= interval.high for value in (truth, run)]
    for of_law, of_run in held.values():
        assert 0.75 * times <= of_law
        assert of_run < of_law


def own_rows(fit: Fit) -> list[list[str]]:
    """The lines of loss_laws.csv that hold a fitted law."""
    tokens = fit.points.tokens
    assert tokens is not None
    rows = []
    for scheme in ("fp16", "b1.58"):
        sizes, law = fit.points.parameters[fit.points.where(scheme)], fit.law(scheme, f"own-{scheme}")
        note = (
            f"our own ladder: {len(sizes)} runs, {min(tokens) / 1e6:.1f}M to {max(tokens) / 1e6:.1f}M tokens;"
            f" {', '.join(fit.shared)} shared by both schemes; fitted by `{COMMAND}`; its resamples are {LAW.name}"
        )
        numbers = [f"{number:.6g}" for number in (law.e_nats, law.a, law.alpha, law.b, law.beta)]
        middle = [f"own-{scheme}", scheme, fit.form, fit.points.counts, *numbers, "", ""]
        ends = [f"{sizes.min():.0f}", f"{sizes.max():.0f}", "", "bitsim-ladder", "training/results/runs.csv", "derived"]
        rows.append([*middle, *ends, note])
    return rows


@pytest.mark.skipif(not UPDATE, reason="writes: make law")
def test_write_our_own_law() -> None:
    fit = fit_law(read_runs(RESULTS / RUNS), "chinchilla", shared=SHARED, resamples=RESAMPLES)
    write_law(LAW, fit, Origin.of(RESULTS / RUNS))
    table = DATA / "loss_laws.csv"
    others = [line for line in table.read_text(encoding="utf-8").splitlines() if not line.startswith("own-")]
    added = io.StringIO()
    csv.writer(added, lineterminator="\n").writerows(own_rows(fit))
    with whole_file(table) as part:
        part.write_text("\n".join(others) + "\n" + added.getvalue(), encoding="utf-8")


def test_our_own_law_is_the_fit_of_these_runs() -> None:
    saved, runs = read_law(LAW).fit, read_runs(RESULTS / RUNS)
    again = fit_law(runs, "chinchilla", shared=saved.shared, resamples=0)
    assert len(saved.points) == len(runs)
    with (DATA / "loss_laws.csv").open(newline="", encoding="utf-8") as file:
        assert [row for row in csv.reader(file) if row[0].startswith("own-")] == own_rows(saved)
    for scheme in ("fp16", "b1.58"):
        row, law = loss_laws()[f"own-{scheme}"], again.law(scheme, "again")
        sizes = runs.parameters[runs.where(scheme)]
        assert runs.tokens is not None
        for size, tokens in zip(sizes, runs.tokens[runs.where(scheme)], strict=True):
            expected = pytest.approx(loss_nats(law, size, tokens), rel=1e-4)
            assert loss_nats(row, size, tokens) == expected
            assert loss_nats(saved.law(scheme, "saved"), size, tokens) == expected
    assert saved.resampled is not None
    assert np.isfinite(saved.resampled).all()
