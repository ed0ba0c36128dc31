"""`bitsim predict`: the laws it asks, how far it says they are stretched, and the ternary model that equals FP16's."""

import csv
import io
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from bitsim.energy_tables import loss_laws
from bitsim.reports.cli import cli
from bitsim.reports.law_plot import plot_law
from bitsim.reports.laws import curves
from bitsim.reports.plot_style import apart, round_numbers, style_of
from bitsim.simulator.loss_laws import law_for, loss_nats, predict_loss
from bitsim.training.fit import fit_law
from bitsim.training.fitted import Fit
from bitsim.training.law_file import Origin, write_law
from bitsim.training.measured import Measured

Run = Callable[..., Result]
SIZES = np.tile(np.geomspace(3e5, 5e6, 6), 2)
KINDS = ["fp16"] * 6 + ["b1.58"] * 6
SAME = {"data": ("corpus",), "data_hash": (), "tokenizer_hash": ("0123456789abcdef",), "vocab": ("4096",)}
ORIGIN = Origin("runs.csv", SAME, {})


@pytest.fixture
def bitsim() -> Run:
    def run(*args: str | Path) -> Result:
        return CliRunner().invoke(cli, ["predict", *map(str, args)], env={"COLUMNS": "110", "NO_COLOR": "1"})

    return run


def answer(result: Result) -> Any:
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def saved(
    tmp_path: Path, form: str = "power", resamples: int = 60, kinds: list[str] = KINDS, metric: str = "held_out_loss"
) -> tuple[Path, Fit]:
    random = np.random.default_rng(0)
    tokens = SIZES * np.tile([10, 40, 20], 4)
    loss = np.where(np.array(KINDS) == "fp16", 1.5 + 60 / SIZES**0.3, 1.6 + 75 / SIZES**0.3)
    if form == "chinchilla":
        loss += 300 / tokens**0.4
    loss *= np.exp(0.003 * random.standard_normal(len(loss)))
    points = replace(Measured.of(SIZES, loss, tokens, kinds, metric), counts="non_embedding")
    fit = fit_law(points, form, resamples=resamples)
    write_law(tmp_path / "law.json", fit, ORIGIN)
    return tmp_path / "law.json", fit


def test_default_laws_are_the_published_ones_of_each_scheme(bitsim: Run) -> None:
    result = bitsim("--size", "70B", "--tokens", "2T", "--format", "json")
    found = answer(result)["predictions"]
    assert [(row["scheme"], row["law"]) for row in found] == [("fp16", "chinchilla-besiroglu"), ("b1.58", "trilm")]
    for row in found:
        law = law_for(row["scheme"])
        assert law is not None
        assert row["value"] == loss_nats(law, 70e9, 2e12)
        assert row["low"] < row["value"] < row["high"]
    assert "SlimPajama, GPT-NeoX tokenizer" in found[1]["measured_on"]
    assert found[1]["tokens"] == 3e11
    assert found[1]["decades_of_size"] == pytest.approx(math.log10(70e9 / 3.989e9))
    assert found[1]["decades_of_tokens"] == pytest.approx(math.log10(2e12 / 3e11))
    assert result.stderr == (
        "Warning: law trilm, b1.58: size 1.2 and tokens 0.8 powers of ten outside the runs: this is a guess\n"
        "Warning: trilm and floatlm: b1.58 of 758B parameters equals fp16 of 70.0B, 2.28 decades outside its runs:"
        " this is a guess\n"
    )


def test_screen(bitsim: Run) -> None:
    result = bitsim("--size", "3B", "--tokens", "300B")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[0] == "3.00B parameters"
    assert lines[2] == "scheme law metric value interval unit tokens extrapolated"
    assert lines[4].startswith("fp16 chinchilla-besiroglu loss ")
    assert lines[5] == "b1.58 trilm loss 2.396 2.326 to 2.466 nats per token 300B no"
    assert (
        lines[-1] == "trilm and floatlm: b1.58 of 10.7B parameters equals fp16 of 3.00B, 0.43 decades outside its runs"
    )


def test_each_published_law_can_be_asked(bitsim: Run) -> None:
    for name, law in loss_laws().items():
        [row] = answer(bitsim("--size", "1B", "--tokens", "20B", "--law", name, "--format", "json"))["predictions"]
        assert (row["law"], row["scheme"]) == (name, law.scheme)
        assert row["value"] == loss_nats(law, 1e9, 2e10)
        assert row["unit"] == "nats per token"
        if name == "spectra-1.1":
            assert row["decades_of_size"] is None
            assert any("the sizes of its runs are not known" in note for note in row["notes"])
    [row] = answer(bitsim("--size", "1B", "--law", "Kaplan", "--format", "json"))["predictions"]
    assert (row["law"], row["counted"], row["tokens"]) == ("kaplan2020", "parameters without embedding", 2e10)
    assert row["notes"][0] == "no --tokens: 20 tokens per parameter, 20.0B"


def test_a_16_bit_law_serves_all_16_bit_schemes(bitsim: Run) -> None:
    args = ("--size", "1B", "--law", "floatlm", "--scheme", "bf16", "--format", "json")
    assert answer(bitsim(*args))["predictions"][0]["scheme"] == "bf16"


@pytest.mark.parametrize("form", ["power", "chinchilla"])
def test_a_fitted_law(bitsim: Run, tmp_path: Path, form: str) -> None:
    path, fit = saved(tmp_path, form)
    result = bitsim("--size", "8M", "--tokens", "100M", "--law", path, "--format", "json")
    assert result.stderr == ""
    said = answer(result)
    asked = 1e8 if form == "chinchilla" else None
    for row in said["predictions"]:
        expected = fit.predict(8e6, asked, row["scheme"])
        assert (row["low"], row["value"], row["high"]) == tuple(expected.value)
        assert (row["decades_of_size"], row["tokens"]) == (expected.decades_of_size, asked)
        assert (row["metric"], row["unit"]) == ("held_out_loss", "nats per token")
        assert row["interval"] == "90 % of resamples"
        assert row["measured_on"] == "corpus, tokenizer 0123456789ab, 4096 words"
        assert any("knows no tokens: --tokens changes nothing" in note for note in row["notes"]) == (asked is None)
    equal = fit.equal_parameters(8e6, asked, of="b1.58", like="fp16")
    assert said["equals"] == [
        {"scheme": "b1.58", "like": "fp16", "law": str(path), "low": equal.low, "parameters": equal.mid,
         "high": equal.high if math.isfinite(equal.high) else None,
         "decades_of_size": pytest.approx(math.log10(equal.mid / 5e6))}
    ]  # fmt: skip


def test_far_outside(bitsim: Run, tmp_path: Path) -> None:
    path, _ = saved(tmp_path)
    result = bitsim("--size", "70B", "--law", path, "--scheme", "fp16")
    assert result.stderr == f"Warning: law {path}, fp16: size 4.1 powers of ten outside the runs: this is a guess\n"
    assert "4.15 decades" in result.stdout
    assert f"{path}, fp16: 70.0B parameters are 4.15 powers of ten outside the 300K to 5.00M" in result.stdout
    assert f"{path}: no b1.58 model equals fp16 of 70.0B: its law levels off above that" in result.stdout
    small, _ = saved(tmp_path, "chinchilla")
    result = bitsim("--size", "1M", "--tokens", "1T", "--law", small, "--scheme", "fp16")
    assert "fp16: tokens 3.9 powers of ten outside the runs" in result.stderr


def test_a_law_without_interval_and_of_one_scheme(bitsim: Run, tmp_path: Path) -> None:
    path, _ = saved(tmp_path, resamples=0)
    said = answer(bitsim("--size", "1M", "--law", path, "--format", "json"))
    assert [(row["low"], row["high"], row["interval"]) for row in said["predictions"]] == [(None, None, "none")] * 2
    assert (said["equals"][0]["low"], said["equals"][0]["high"]) == (None, None)
    path, _ = saved(tmp_path, kinds=["b1.58"] * 12)
    said = answer(bitsim("--size", "1M", "--law", path, "--law", "trilm", "--law", "floatlm", "--format", "json"))
    assert [row["law"] for row in said["predictions"]] == [str(path), "trilm", "floatlm"]
    assert [equal["law"] for equal in said["equals"]] == ["trilm and floatlm"]


def test_csv_and_markdown(bitsim: Run) -> None:
    rows = list(csv.DictReader(io.StringIO(bitsim("--size", "3B", "--format", "csv").stdout)))
    assert [row["scheme"] for row in rows] == ["fp16", "b1.58"]
    assert {float(row["parameters"]) for row in rows} == {3e9}
    lines = bitsim("--size", "3B", "--format", "markdown").stdout.splitlines()
    assert lines[0] == "| scheme | law | metric | value | interval | unit | tokens | extrapolated |"
    assert lines[-1].startswith("- trilm and floatlm: b1.58 of ")


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        ((), 2, "Missing option '--size'"),
        (("--size", "big"), 2, "size: expected a positive number such as 350M, 7B or 1T, got 'big'"),
        (("--size", "1e300"), 1, "--size: expected 1 to 1e+18, got 1e+300"),
        (("--size", "1B", "--tokens", "1e-3"), 1, "--tokens: expected 1 to 1e+21, got 0.001"),
        (("--size", "1B", "--law", "trlm"), 1, "or a published law, got 'trlm'; did you mean 'trilm'?"),
        (("--size", "1B", "--law", "chinchila"), 1, "did you mean 'chinchilla'?"),
        (("--size", "1B", "--law", "zzz"), 1, "got 'zzz'; known: kaplan2020, chinchilla, "),
        (("--size", "1B", "--law", "no.json"), 1, "no.json: no such file"),
        (("--size", "1B", "--law", "trilm", "--scheme", "fp16"), 1, "one of law trilm: b1.58, got 'fp16'"),
        (("--size", "1B", "--scheme", "w4a16"), 1, "--scheme: expected a scheme with a published law, got 'w4a16'"),
        (("--size", "1B", "--plot", "a.jpg"), 1, "a.jpg: expected a name that ends in .png, .pdf, .svg, got '.jpg'"),
        (("--size", "70B", "--plot", "none/a.svg"), 1, "none/a.svg: No such file or directory"),
    ],
)  # fmt: skip
def test_wrong_requests(bitsim: Run, args: tuple[str, ...], status: int, said: str) -> None:
    refused(bitsim(*args), status, said)


def refused(result: Result, status: int, said: str) -> None:
    assert (result.exit_code, result.stdout) == (status, "")
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.splitlines()) == 1
    assert said in result.stderr


def test_a_damaged_law(bitsim: Run, tmp_path: Path) -> None:
    path = tmp_path / "law.json"
    path.write_text('{"format": "bitsim law", "version": 1, "form": "line"}')
    refused(bitsim("--size", "1B", "--law", path), 1, f"{path}: form: expected one of pure-power, power, chinchilla")
    refused(bitsim("--size", "1B", "--law", tmp_path), 1, f"{tmp_path}: no such file")


def test_help_shows_how(bitsim: Run) -> None:
    assert "$ bitsim predict --size 70B --tokens 2T" in bitsim("--help").stdout


@pytest.mark.parametrize(("kind", "first"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_a_picture_is_written_and_the_same_again(bitsim: Run, tmp_path: Path, kind: str, first: bytes) -> None:
    pictures = [tmp_path / f"{name}.{kind}" for name in ("one", "two", "three", "four")]
    for picture in pictures[:2]:
        result = bitsim("--size", "3B", "--plot", picture)
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout == bitsim("--size", "3B").stdout
    assert pictures[0].read_bytes().startswith(first)
    _, fit = saved(tmp_path)
    for picture in pictures[2:]:
        plot_law(picture, fit)  # that of bitsim fit-law
    one, two, three, four = (picture.read_bytes() for picture in pictures)
    assert one == two
    assert three == four


def words_of(picture: Path) -> list[str]:
    return re.findall("<!-- (.*?) -->", picture.read_text(encoding="utf-8"))


def test_a_picture_says_what_the_screen_says(bitsim: Run, tmp_path: Path) -> None:
    picture = tmp_path / "predict.svg"
    said = answer(bitsim("--size", "70B", "--tokens", "2T", "--plot", picture, "--format", "json"))
    found = words_of(picture)
    assert [f"{row['value']:.4g}" for row in said["predictions"]] == ["1.965", "2.04"]
    expected = {"70.0B", "1.965", "2.04", "N, parameters", "loss (nats per token)", "b1.58: trilm, 300B tokens"}
    assert expected | {"fp16: chinchilla-besiroglu, 2.00T tokens"} <= {*found}
    path, _ = saved(tmp_path, "chinchilla")
    law = tmp_path / "of $5 and $6.json"
    path.rename(law)
    bitsim("--size", "8M", "--law", law, "--law", "trilm", "--law", "spectra-1.1", "--plot", picture)
    assert {
        "b1.58: of $5 and $6.json, 20 tokens per parameter",
        "b1.58: spectra-1.1, 20 tokens per parameter, sizes of its runs unknown",
        "bands: 90 % of resamples / what the published digits or errors leave open",
        "N, parameters as each law counts them",
        "loss (nats per token)",
    } <= {*(word.replace(r"\$", "$") for word in words_of(picture))}


def test_files_of_one_name_are_told_apart(bitsim: Run, tmp_path: Path) -> None:
    picture, (path, _) = tmp_path / "predict.svg", saved(tmp_path, resamples=0)
    other = tmp_path / ("a" * 60) / path.name
    other.parent.mkdir()
    other.write_bytes(path.read_bytes())
    assert bitsim("--size", "1M", "--law", path, "--law", other, "--plot", picture).exit_code == 0
    names = [word for word in words_of(picture) if word.startswith("fp16: ")]
    assert names[1] == f"fp16: ...{'a' * 41}/law.json, tokens as its runs"
    assert len(set(names)) == 2
    assert not [word for word in words_of(picture) if word.startswith("bands")]


def test_what_is_drawn_is_what_is_predicted(tmp_path: Path) -> None:
    for tokens in (2e12, None):
        for curve in curves(("trilm", "floatlm", "chinchilla", "kaplan", "spectra-1.1"), (), 7e10, tokens):
            law = loss_laws()[{"kaplan": "kaplan2020"}.get(curve.forecast.law, curve.forecast.law)]
            known = law.valid_parameters_low, law.valid_parameters_high
            assert curve.runs == (known if all(known) else None)
            assert curve.values[curve.sizes.index(7e10)] == curve.forecast.value
            assert list(curve.sizes) == sorted(curve.sizes)
            assert not curve.runs or {*curve.runs} <= {*curve.sizes}
            for size, at, value in zip(curve.sizes, curve.tokens, curve.values, strict=True):
                asked = tokens or 20 * size
                assert at == (law.tokens or asked)
                loss = predict_loss(law, size, asked)
                assert loss is not None
                assert tuple(value) == (loss.low, loss.value, loss.high)
    path, fit = saved(tmp_path, "chinchilla")
    for curve in curves((str(path),), (), 1e9, 2e10):
        assert curve.runs == pytest.approx((3e5, 5e6))
        for size, value in list(zip(curve.sizes, curve.values, strict=True))[::30]:
            assert value == fit.predict(size, 2e10, curve.forecast.scheme).value


def test_laws_of_different_metrics_are_not_drawn_together(bitsim: Run, tmp_path: Path) -> None:
    path, _ = saved(tmp_path, metric="bits_per_byte", resamples=0)
    picture = tmp_path / "predict.png"
    asked = ("--size", "1M", "--law", "trilm", "--law", path)
    said = f"--plot: expected laws of one metric, got loss (trilm) and bits_per_byte ({path})"
    refused(bitsim(*asked, "--plot", picture), 1, said)
    assert not picture.exists()
    assert bitsim(*asked).exit_code == 0
    assert bitsim("--size", "1M", "--law", path, "--plot", picture).exit_code == 0


def test_levels_are_parted() -> None:
    assert apart([0.5, 0.2, 0.9], 0.1) == [0.5, 0.2, 0.9]
    assert apart([0.5, 0.5, 0.5], 0.1) == pytest.approx([0.4, 0.5, 0.6])
    assert apart([0.52, 0.3, 0.48, 0.34], 0.1) == pytest.approx([0.56, 0.26, 0.46, 0.36])
    crowd = apart([0.5 + 0.001 * index for index in range(9)], 0.05)
    assert np.diff(crowd) == pytest.approx(0.05)


def test_ticks_and_styles() -> None:
    for low, high in ((1e5, 1e7), (3e5, 9e5), (1.0, 1e18), (2.0, 2.2), (1e9, 3e10)):
        ticks = round_numbers(low, high)
        assert 3 <= len(ticks) <= 9
        assert low <= ticks[0] < ticks[-1] <= high
    assert len({style_of(index) for index in range(36)}) == 36
