"""A law that was saved predicts as the fit did, and a damaged file is refused in one line that names the field."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refusals import refusal

from bitsim.energy_tables import BitsimError
from bitsim.training.fit import fit_law
from bitsim.training.fitted import FORMS, Fit
from bitsim.training.law_file import Origin, read_law, summary, write_law
from bitsim.training.measured import Measured

SIZES = np.geomspace(3e5, 5e6, 8)
ORIGIN = Origin(
    "runs.csv",
    {"data": ("corpus",), "data_hash": ("ab",), "tokenizer_hash": ("cd" * 9,), "vocab": ("4096",)},
    {"bitsim": "0"},
)


def fitted(form: str, shared: tuple[str, ...] = (), resamples: int = 50, delta: float = 1e-3) -> Fit:
    random = np.random.default_rng(0)
    sizes = np.tile(SIZES, 4)
    tokens = sizes * np.repeat([10, 30, 10, 30], len(SIZES))
    loss = 1.5 + 60 / sizes**0.3 + 90 / tokens**0.33
    loss[len(loss) // 2 :] *= 1.05
    kinds = ["fp16"] * (len(sizes) // 2) + ["b1.58"] * (len(sizes) // 2)
    loss *= np.exp(0.01 * random.standard_normal(len(loss)))
    points = Measured.of(sizes, loss, tokens, kinds, "held_out_loss")
    return fit_law(points, form, shared=shared, resamples=resamples, delta=delta)


def refused(path: Path) -> str:
    return str(refusal(lambda: read_law(path)))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("law") / "law.json"
    write_law(path, fitted("power", ("alpha",), 5), ORIGIN)
    return path


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("shared", "resamples"), [((), 50), (("alpha",), 50), ((), 0)])
def test_a_saved_law_predicts_as_the_fit_did(
    tmp_path: Path, form: str, shared: tuple[str, ...], resamples: int
) -> None:
    fit = fitted(form, shared, resamples)
    write_law(tmp_path / "law.json", fit, ORIGIN)
    read = read_law(tmp_path / "law.json")
    assert read.origin == ORIGIN
    for size in (1e5, 1e6, 7e10):
        for kind in ("fp16", "b1.58"):
            assert read.fit.predict(size, 20 * size, kind) == fit.predict(size, 20 * size, kind)
            assert read.fit.law(kind) == fit.law(kind)
        equal = [one.equal_parameters(size, 20 * size, of="b1.58", like="fp16") for one in (fit, read.fit)]
        assert equal[0] == equal[1]
    assert read.fit.warnings == fit.warnings
    assert (read.fit.delta, read.fit.objective, read.fit.starts) == (fit.delta, fit.objective, fit.starts)
    assert summary(read.fit) == summary(fit)


def test_least_squares_and_runs_without_tokens(tmp_path: Path) -> None:
    points = Measured.of(SIZES, 2 + 40 / SIZES**0.3, None, "fp16", "peak_memory_bytes")
    fit = fit_law(points, "power", delta=math.inf, resamples=4)
    write_law(tmp_path / "law.json", fit, ORIGIN)
    read = read_law(tmp_path / "law.json").fit
    assert (read.delta, read.points.tokens, read.points.metric) == (math.inf, None, "peak_memory_bytes")
    assert read.predict(1e8) == fit.predict(1e8)
    assert json.loads((tmp_path / "law.json").read_text())["unit"] == "bytes"


def test_the_file_says_what_it_holds(file: Path) -> None:
    document = json.loads(file.read_text())
    assert (document["unit"], document["size"]) == ("nats per token", "parameters")
    assert document["summary"]["fp16"]["parameters"] == pytest.approx([3e5, 5e6])
    low, value, high = document["summary"]["fp16"]["coefficients"]["alpha"]
    assert low <= value <= high
    assert document["summary"]["b1.58"]["coefficients"]["alpha"] == [low, value, high]


def test_where_runs_come_from(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("scheme,data,tokenizer_hash\nfp16,corpus,0123456789abcdef\nfp16,other,0123456789abcdef\n")
    origin = Origin.of(path)
    assert origin.same == {
        "data": ("corpus", "other"), "data_hash": (), "tokenizer_hash": ("0123456789abcdef",), "vocab": ()
    }  # fmt: skip
    assert origin.measured_on == "corpus, other, tokenizer 0123456789ab"
    assert {"bitsim", "python"} <= set(origin.versions)


def test_a_law_replaces_the_one_before_or_leaves_it(tmp_path: Path) -> None:
    path = tmp_path / "law.json"
    path.write_text("before")
    write_law(path, fitted("power", resamples=0), ORIGIN)
    assert read_law(path).fit.resampled is None
    assert [part.name for part in tmp_path.iterdir()] == ["law.json"]
    with pytest.raises(BitsimError, match="No such file"):
        write_law(tmp_path / "none" / "law.json", fitted("power", resamples=0), ORIGIN)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("format",), "law", "format: expected one of bitsim law, got 'law'"),
        (("version",), 2, "version: expected 1, got '2'"),
        (("form",), "line", "form: expected one of pure-power, power, chinchilla, got 'line'"),
        (("form",), "chinchilla", "names: expected the 9 unknowns of form chinchilla"),
        (("size",), None, "size: expected some text, got nothing"),
        (("size",), "layers", "size: expected one of parameters, non_embedding, got 'layers'"),
        (("metric",), 3, "metric: expected some text, got '3'"),
        (("shared",), ["beta"], "shared: expected some of e, a, alpha, got '['beta']'"),
        (("shared",), "alpha", "shared: expected a list of texts, got 'alpha'"),
        (("names",), [["e", "fp16"]], "names: expected the 5 unknowns of form power"),
        (("names",), None, "names: expected the 5 unknowns of form power"),
        (("unknowns",), [1, 2], "unknowns: expected 5 finite numbers, got '[1, 2]'"),
        (("unknowns",), [1, 2, 3, 4, "x"], "unknowns: expected 5 finite numbers"),
        (("unknowns",), [1, 2, 3, 4, math.nan], "unknowns: expected 5 finite numbers"),
        (("unknowns",), [1, 2, 3, 4, 5], "summary.fp16.coefficients.e: expected low, 2.71828 and high"),
        (("resampled",), [[1.0, 2.0]], "resampled: expected any x 5 finite numbers"),
        (("resampled",), [[1.0], [1.0, 2.0]], "resampled: expected any x 5 finite numbers"),
        (("resampled",), [], "resampled: expected any x 5 finite numbers"),
        (("unknowns",), [1e9] * 5, "summary.fp16.coefficients.e: expected low, inf and high"),
        (("level",), 90, "level: expected a number above 0 and below 1, got '90'"),
        (("delta",), -1, "delta: expected a number above 0, got '-1'"),
        (("objective",), "small", "objective: expected a finite number, got 'small'"),
        (("bootstrap",), "none", "bootstrap: expected one of points, noise, got 'none'"),
        (("starts",), [1], "starts: expected 2 finite numbers"),
        (("points",), [], "points: expected an object of a law, got '[]'"),
        (("points", "parameters"), [], "points.parameters: expected any finite numbers, got '[]'"),
        (("points", "scheme"), ["fp16"], "points.scheme: expected one for each of 32 runs"),
        (("points", "value"), [1.0], "points.value: expected 32 finite numbers"),
        (("points", "value"), [-1.0] * 32, "points.value: expected numbers above 0"),
        (("points", "tokens"), [0] * 32, "points.tokens: expected numbers above 0"),
        (("summary",), None, "summary: expected an object of a law, got 'None'"),
        (("summary", "fp16", "coefficients", "alpha"), [0.1, 0.9, 1.0], "summary.fp16.coefficients.alpha: expected"),
        (("same", "data"), 3, "same.data: expected a list of texts, got '3'"),
        (("versions",), {"bitsim": 1}, "versions.bitsim: expected some text, got '1'"),
    ],
)  # fmt: skip
def test_a_damaged_field_is_named(file: Path, tmp_path: Path, place: tuple[str, ...], value: Any, said: str) -> None:
    document = json.loads(file.read_text())
    inner = document
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    damaged = tmp_path / "damaged.json"
    damaged.write_text(json.dumps(document))
    assert refused(damaged).startswith(f"{damaged}: {said}")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[]", "3", "null"])
def test_what_is_no_law(tmp_path: Path, text: str) -> None:
    path = tmp_path / "law.json"
    path.write_text(text)
    assert refused(path).startswith(f"{path}: expected ")


def test_a_law_cut_short_anywhere(file: Path, tmp_path: Path) -> None:
    text = file.read_text()
    path = tmp_path / "cut.json"
    for length in range(0, len(text) - 2, 97):
        path.write_text(text[:length])
        assert refused(path).startswith(f"{path}: expected a law in JSON")


def test_no_law(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.json") == f"{tmp_path / 'none.json'}: no such file"
