"""`bitsim plan` on a screen and for other programs."""

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from bitsim.reports.chosen_laws import choose_laws
from bitsim.reports.cli import cli
from bitsim.reports.commands.plan import plan as command
from bitsim.reports.plan_plot import PlanCurve, plan_curves
from bitsim.simulator.compute_optimal import optimal_split
from bitsim.simulator.plan import NO_LIMITS, Budget, Limits, Plan, Service, best_run, plan, run_of_size
from bitsim.training.fit import fit_law
from bitsim.training.law_file import Origin, read_law, write_law
from bitsim.training.measured import Measured

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    """Run `bitsim plan ARGS`."""
    return lambda *args: CliRunner().invoke(cli, ["plan", *args], env={"COLUMNS": "100", "NO_COLOR": "1"})


def words(result: Result) -> dict[str, list[str]]:
    """The rows of the screen's table: columns are apart by two spaces or more."""
    lines = [re.split(r"\s{2,}(?!\()", line.strip()) for line in result.stdout.splitlines()]
    return {line[0]: line[1:] for line in lines}


def test_table(run: Run) -> None:
    result = run("--flops", "1e21")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("Lowest loss for 1e+21 FLOP: a100-80gb")
    rows = words(result)
    assert rows["size"] == ["2.78B", "3.95B"]
    assert rows["training tokens"] == ["60.0B", "42.2B"]
    assert rows["tokens per parameter"] == ["21.6", "10.7"]
    assert rows["what binds"] == ["budget", "budget"]
    assert "Best: fp16, 2.78B parameters on 60.0B tokens; b1.58 0.110 nats behind" in result.stdout
    assert "Note: loss of b1.58: that of chinchilla-besiroglu at the FP16 size" in result.stdout
    assert "serving" not in result.stdout


def test_table_with_serving(run: Run) -> None:
    args = ("--hardware", "h100-sxm", "--devices", "1024", "--serving-hardware", "raspberry-pi-5", "--batch", "1")
    result = run("--energy", "1GWh", "--served-tokens", "1T", *args)
    assert result.exit_code == 0, result.output
    first, *_ = result.stdout.splitlines()
    assert first.strip() == (
        "Lowest loss for 1.00 GWh, 1.00T tokens served: training on h100-sxm, serving on raspberry-pi-5"
    )
    rows = words(result)
    assert rows["on devices"] == ["1,024", "1,024"]
    assert all(re.fullmatch(r"0\.\d\dx, saves \d\d%", cell) for cell in rows["size moved by serving"])
    assert all(re.fullmatch(r"\d\d% of 1.00 GWh", cell) for cell in rows["serving's share"])


def test_json_holds_the_plan(run: Run) -> None:
    result = run("--budget", "$2M", "--served-tokens", "1T", "--format", "json")
    assert result.exit_code == 0, result.output
    said, found = json.loads(result.stdout), plan(Budget("money", 2e6), service=Service(1e12))
    assert said["budget"] == {"kind": "money", "amount": 2e6, "unit": "USD"}
    assert said["workload"] == {"batch": 16, "prompt_tokens": 512, "new_tokens": 128}
    assert said["best"] == found.best.scheme
    assert said["notes"] == list(found.notes)
    for row, each in zip(said["schemes"], found.schemes, strict=True):
        assert row["scheme"] == each.scheme
        assert row["parameters"] == each.run.parameters
        assert row["loss_range"] == {"low": each.loss.low, "mid": each.loss.value, "high": each.loss.high}
        assert row["training_j_range"]["high"] == each.training_j.high
        assert row["training_cost"] + row["serving_cost"] == pytest.approx(2e6)
        assert row["train_first"]["parameters"] == each.train_first.parameters
        assert each.same_loss is not None
        assert row["same_loss"]["total_cost"] == each.same_loss.total


@pytest.mark.parametrize("served", [(), ("--served-tokens", "1G")])
def test_csv_and_markdown(run: Run, served: tuple[str, ...]) -> None:
    args = ("--energy", "100kWh", *served)
    rows = list(csv.DictReader(io.StringIO(run(*args, "--format", "csv").stdout)))
    assert [row["scheme"] for row in rows] == ["fp16", "b1.58"]
    for row in rows:
        total = float(row["training_cost"]) + float(row["serving_cost"])
        assert total == pytest.approx(3.6e8)
        assert row["binds"] == "budget"
        assert float(row["loss_low"]) < float(row["loss"]) < float(row["loss_high"])
        assert bool(row["train_first.parameters"]) == bool(served)
    markdown = run(*args, "--format", "markdown").stdout.splitlines()
    assert markdown[0] == "| " + " | ".join(rows[0]) + " |"
    assert len(markdown) == 4


def test_one_scheme_has_nothing_to_be_compared_with(run: Run) -> None:
    result = run("--energy", "2GJ", "--schemes", "b1.58", "--law", "b1.58=spectra-1.1")
    assert result.exit_code == 0, result.output
    assert "loss of" not in result.stdout
    assert words(result)["loss law"] == ["spectra-1.1"]


def test_a_law_without_a_scheme_is_that_of_fp16(run: Run) -> None:
    result = run("--flops", "1e21", "--law", "chinchilla-unrounded")
    assert words(result)["loss law"] == ["chinchilla-unrounded", "chinchilla-unrounded by trilm/floatlm"]


def test_a_loss_that_no_run_reaches(run: Run) -> None:
    result = run("--flops", "1e23", "--law", "b1.58=spectra-1.1")
    (last,) = [cells for name, cells in words(result).items() if name.startswith("loss of fp16")]
    assert last[-1] == "no run reaches it"


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make a file of a law of FP16 and ternary twins that were trained on the same data."""
    folder = tmp_path_factory.mktemp("laws")

    def make(metric: str = "held_out_loss", form: str = "chinchilla", resamples: int = 30) -> Path:
        sizes = np.tile(np.geomspace(3e5, 5e6, 6), 4)
        tokens = sizes * np.repeat([10, 40, 10, 40], 6)
        worse = np.repeat([1.0, 1.0, 1.05, 1.05], 6)
        noise = 1 + 0.005 * np.random.default_rng(0).standard_normal(len(sizes))
        loss = (1.5 + 60 / sizes**0.3 + 90 / tokens**0.33) * worse * noise
        points = Measured.of(sizes, loss, tokens, ["fp16"] * 12 + ["b1.58"] * 12, metric)
        points = replace(points, counts="non_embedding")
        fit = fit_law(points, form, shared=("alpha", "beta") if form == "chinchilla" else (), resamples=resamples)
        empty: dict[str, tuple[str, ...]] = dict.fromkeys(("data", "data_hash", "tokenizer_hash", "vocab"), ())
        write_law(folder / "law.json", fit, Origin("runs.csv", empty, {"bitsim": "0"}))
        return folder / "law.json"

    return make


def test_a_fitted_law_of_both_schemes(run: Run, fitted: Callable[..., Path]) -> None:
    path = fitted()
    result = run("--flops", "1e15", "--law", str(path), "--format", "json")
    assert result.exit_code == 0, result.output
    said, fit = json.loads(result.stdout), read_law(path).fit
    for row in said["schemes"]:
        assert row["law"] == "law.json"
        low, mid, high = fit.predict(row["parameters"], row["tokens"], row["scheme"]).value
        assert row["loss_range"] == {"low": low, "mid": mid, "high": high}
        assert low < row["loss"] < high
        closed = optimal_split(fit.law(row["scheme"]), 1e15)
        assert row["parameters"] == pytest.approx(closed.parameters, rel=1e-3)
    assert not [note for note in said["notes"] if "do not compare" in note]
    assert [note for note in said["notes"] if "without embedding" in note]
    one = run("--flops", "1e15", "--law", f"fp16={path}")
    assert words(one)["loss law"] == ["law.json", "law.json by trilm/floatlm"]


def test_a_fitted_law_without_an_interval(run: Run, fitted: Callable[..., Path]) -> None:
    result = run("--flops", "1e15", "--law", str(fitted(resamples=0)), "--format", "json")
    assert result.exit_code == 0, result.output
    for row in json.loads(result.stdout)["schemes"]:
        assert row["loss_range"]["low"] == row["loss_range"]["high"] == pytest.approx(row["loss"])


@pytest.mark.parametrize(
    ("metric", "form", "said"),
    [
        ("bits_per_byte", "chinchilla", "expected a law of a loss in nats per token, got one of bits_per_byte"),
        ("held_out_loss", "power", "expected a law that knows tokens"),
    ],
)
def test_a_fitted_law_of_something_else(
    run: Run, fitted: Callable[..., Path], metric: str, form: str, said: str
) -> None:
    result = run("--flops", "1e15", "--law", str(fitted(metric, form, 0)))
    assert result.exit_code == 1
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "give one of --flops, --energy and --budget"),
        (("--flops", "1e21", "--energy", "1kWh"), "give one of --flops, --energy and --budget"),
        (("--flops", "lots"), "flops: expected a positive number"),
        (("--energy", "100"), "energy: expected a positive energy such as 100kWh, 3.6MJ or 2GJ, got '100'"),
        (("--budget", "5000eur"), "budget: expected a positive sum of dollars"),
        (("--flops", "1e21", "--schemes", ","), "--schemes: expected names, by commas, got nothing"),
        (("--flops", "1e21", "--batch", "4"), "--batch has no meaning without --served-tokens"),
        (("--flops", "1e21", "--serving-hardware", "m2"), "--serving-hardware has no meaning without --served-tokens"),
        (("--flops", "1e21", "--law", "fp16="), "--law: expected LAW or SCHEME=LAW, got 'fp16='"),
        (("--flops", "1e21", "--law", "chinchilla", "--law", "fp16=kaplan2020"), "--law: expected one law of fp16"),
    ],
)
def test_a_wrong_command_line_is_refused_in_one_line(run: Run, args: tuple[str, ...], said: str) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--flops", "1e21", "--law", "trilm"), "loss law trilm: expected a law that knows tokens"),
        (("--flops", "1e21", "--law", "b1=spectra-1.1"), "laws: expected laws of fp16, b1.58, got one of b1"),
        (("--flops", "1e21", "--schemes", "fp16,w4a16"), "scheme w4a16: expected a loss law of its own"),
        (("--flops", "1e21", "--devices", "0"), "devices: expected 1 to"),
        (("--flops", "1e21", "--max-size", "1K"), "largest size: expected more than 100K"),
        (("--flops", "1"), "flops: 1 FLOP: expected a larger budget"),
        (("--flops", "1e21", "--served-tokens", "1M", "--new-tokens", "0"), "new tokens: expected at least 1"),
        (("--flops", "1e21", "--law", "mine.json"), "mine.json: "),
        (("--flops", "1e21", "--law", "."), ".: "),
        (
            ("--flops", "1e21", "--law", "x" * 5000),
            "--law: expected a file of bitsim fit-law or a published law",
        ),
        (("--flops", "1e21", "--hardware", "nothing"), "unknown hardware 'nothing'"),
        (("--flops", "1e21", "--plot", "plan.jpg"), "plan.jpg: expected a name that ends in .png, .pdf, .svg"),
        (("--flops", "1e21", "--plot", "plan"), "plan: expected a name that ends in .png, .pdf, .svg, got ''"),
        (("--flops", "1e21", "--plot", "none/plan.png"), "none/plan.png: No such file or directory"),
    ],
)
def test_a_plan_that_cannot_be_made_is_refused_in_one_line(run: Run, args: tuple[str, ...], said: str) -> None:
    result = run(*args)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {said}")
    assert len(result.stderr.splitlines()) == 1


def test_help_has_examples_that_run(run: Run) -> None:
    examples = re.findall(r"^\s+\$ bitsim plan (.*)$", command.help or "", re.MULTILINE)
    assert len(examples) == 3
    for example in examples:
        assert run(*example.split()).exit_code == 0
    assert all(option.help for option in command.params if isinstance(option, click.Option))


@pytest.mark.parametrize(("kind", "first"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_a_picture_is_written_and_the_same_again(run: Run, tmp_path: Path, kind: str, first: bytes) -> None:
    pictures = [tmp_path / f"{name}.{kind}" for name in ("one", "two")]
    for picture in pictures:
        result = run("--flops", "1e21", "--plot", str(picture))
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout == run("--flops", "1e21").stdout
    one, two = (picture.read_bytes() for picture in pictures)
    assert one.startswith(first)
    assert one == two
    assert len(list(tmp_path.iterdir())) == 2


def words_of(picture: Path) -> list[str]:
    return re.findall("<!-- (.*?) -->", picture.read_text(encoding="utf-8"))


def test_a_picture_says_what_the_screen_says(run: Run, tmp_path: Path, fitted: Callable[..., Path]) -> None:
    picture = tmp_path / "plan.svg"
    rows = words(run("--flops", "1e21", "--plot", str(picture)))
    found = words_of(picture)
    assert {"N, parameters", "lowest loss for the budget (nats per token)", "bands: range of the law"} <= {*found}
    for index, scheme in enumerate(("fp16", "b1.58")):
        loss, _, _ = rows["loss, nats per token"][index].partition(" ")
        label = [f"{scheme}: {loss}", f"{rows['size'][index]} on", f"{rows['training tokens'][index]} tokens"]
        at = found.index(label[0])
        assert found[at : at + 3] == label
        assert f"{scheme}: {rows['loss law'][index]}" in found
    args = ("--budget", "5000usd", "--served-tokens", "10B", "--serving-hardware", "raspberry-pi-5", "--batch", "1")
    run(*args, "--max-size", "1B", "--plot", str(picture))
    served = "$5,000, 10.0B tokens served: training on a100-80gb, serving on raspberry-pi-5; marks: best sizes"
    ends = "; a curve ends where serving takes the budget"
    assert {served, f"bands: range of the law; dashed: paid for, but beyond the limits{ends}"} <= {*words_of(picture)}
    for resamples in (30, 0):
        law = fitted(resamples=resamples)
        assert run("--flops", "1e15", "--law", str(law), "--plot", str(picture)).exit_code == 0
        found = words_of(picture)
        assert {"fp16: law.json", "b1.58: law.json", "N, parameters without embedding"} <= {*found}
        assert ("bands: range of the law" in found) == bool(resamples)


def curves_of(found: Plan, *laws: str) -> list[PlanCurve]:
    return plan_curves(found, choose_laws(laws, ("fp16", "b1.58")))


@pytest.mark.parametrize("limits", [NO_LIMITS, Limits(tokens=1e10), Limits(parameters=2e8), Limits(1e10, 1e8)])
@pytest.mark.parametrize("service", [Service(), Service(1e11)])
def test_the_lowest_point_of_a_curve_is_the_plan(limits: Limits, service: Service) -> None:
    found = plan(Budget("flops", 1e21), service=service, limits=limits)
    for each, curve in zip(found.schemes, curves_of(found), strict=True):
        at = curve.sizes.index(each.run.parameters)
        assert curve.runs[at] == each.run == best_run(each.law, each.costs, found.budget, limits)
        assert curve.losses[at] == each.loss
        allowed = [run for run in curve.runs if run is not None]
        assert min(run.loss for run in allowed) >= each.run.loss * (1 - 1e-12)
        assert all(run.tokens <= limits.tokens and run.parameters <= limits.parameters * 1.001 for run in allowed)
        assert all(run.total <= 1e21 * (1 + 1e-9) for run in allowed)
        assert curve.limited == (limits != NO_LIMITS)
        for size, run, loss in zip(curve.sizes, curve.runs, curve.without_limits, strict=True):
            tokens = (1e21 - each.costs.serving(size)) / each.costs.training(size, 1.0)
            assert loss == pytest.approx(each.law.loss(size, tokens))
            assert run is None or run.loss >= loss * (1 - 1e-12)


def test_a_curve_goes_to_thirty_times_the_best_size_or_ends_where_nothing_is_left() -> None:
    found = plan(Budget("flops", 1e21))
    sizes = [each.run.parameters for each in found.schemes]
    for curve in curves_of(found):
        assert (curve.sizes[0], curve.sizes[-1]) == (min(sizes) / 30, max(sizes) * 30)
        assert not curve.ends
    found = plan(Budget("energy", 3.6e12), service=Service(1e12))
    for each, curve in zip(found.schemes, curves_of(found), strict=True):
        assert curve.ends
        last = curve.sizes[-1]
        assert each.costs.serving(last) == pytest.approx(3.6e12, rel=1e-6)
        assert run_of_size(each.law, each.costs, found.budget, last) is not None
        assert run_of_size(each.law, each.costs, found.budget, last * 1.0001) is None


def test_a_curve_of_a_fitted_law_has_the_range_of_the_fit(fitted: Callable[..., Path]) -> None:
    path = str(fitted())
    chosen = choose_laws((path,), ("fp16", "b1.58"))
    fit = read_law(Path(path)).fit
    found = plan(Budget("flops", 1e15), laws=chosen.laws)
    for curve in plan_curves(found, chosen):
        for run, loss in list(zip(curve.runs, curve.losses, strict=True))[::20]:
            assert run is not None
            assert loss is not None
            expected = fit.predict(run.parameters, run.tokens, curve.best.scheme).value
            assert (loss.low, loss.value, loss.high) == tuple(expected)
