"""The ladder that is committed: records, curves and table say the same, and twins are twins."""

import csv
import math
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitsim.energy_tables import loss_laws
from bitsim.energy_tables.citations import DATA
from bitsim.simulator.loss_laws import loss_nats
from bitsim.training.fit import fit_law
from bitsim.training.law_file import read_law
from bitsim.training.measured import read_runs
from bitsim.training.records import CURVE, RUNS, read_records

RESULTS = Path(__file__).parents[2] / "training" / "results"
RECORDS = read_records(RESULTS)
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
    # It begins as a model that knows nothing, and ends well below what frequencies alone tell.
    assert losses[0] == pytest.approx(math.log(record["vocab"]), abs=0.2)
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


def test_our_own_law_is_the_fit_of_these_runs() -> None:
    saved, runs = read_law(DATA / "own_law.json").fit, read_runs(RESULTS / RUNS)
    again = fit_law(runs, "chinchilla", shared=saved.shared, resamples=0)
    assert len(saved.points) == len(runs)
    for scheme in ("fp16", "b1.58"):
        row, law = loss_laws()[f"own-{scheme}"], again.law(scheme, "again")
        sizes = runs.parameters[runs.where(scheme)]
        assert (row.valid_parameters_low, row.valid_parameters_high) == (sizes.min(), sizes.max())
        assert runs.tokens is not None
        for size, tokens in zip(sizes, runs.tokens[runs.where(scheme)], strict=True):
            expected = pytest.approx(loss_nats(law, size, tokens), rel=1e-4)
            assert loss_nats(row, size, tokens) == expected
            assert loss_nats(saved.law(scheme, "saved"), size, tokens) == expected
    assert saved.resampled is not None
    assert np.isfinite(saved.resampled).all()
