"""model.js, the arithmetic behind a report's form, gives what `estimate()` gives: run by a JavaScript engine."""

import json
import math
import random
from collections.abc import Callable
from importlib import resources
from typing import Any

import pytest

from bitsim.energy_tables import hardware_names, load_hardware, model_rows
from bitsim.energy_tables.units import format_count, format_ratio, format_si
from bitsim.reports.document.page_data import page_data
from bitsim.reports.document.question import Question
from bitsim.simulator import SCHEMES, Estimate, ModelSpec, estimate, make_workload, resolve_model, spec_for_size
from bitsim.simulator.estimate import devices_needed

SCRIPT = (resources.files("bitsim.reports.document") / "model.js").read_text(encoding="utf-8")
TOLERANCE = 1e-12  # relative: JavaScript's logarithm and power may differ from C's in the last bit
QUESTIONS = 400
# A question as the form asks it, from plain values; everything in one call, as each crossing of the border is slow.
ASK = """
function ask(tables, questions) {
  return questions.map((asked) => {
    const bySize = asked.model === null;
    const shape = bySize ? shapeForSize(tables, parseCount(asked.size)) : tables.models[asked.model].shape;
    const question = { ...asked, shape };
    const count = tables.hardware[asked.hardware].schemes.fp16.error ? null : devicesNeeded(tables, question);
    return { ...estimate(tables, question), parameters: allParameters(shape), devices_needed: count };
  });
}
"""

Call = Callable[..., Any]


@pytest.fixture(scope="module")
def tables() -> dict[str, Any]:
    question = Question(spec=spec_for_size("70B"), workload=make_workload(), command="bitsim report --size 70B")
    return page_data(question)


@pytest.fixture(scope="module", params=["mini-racer", "chromium"])
def call(request: pytest.FixtureRequest) -> Call:
    """Call a function of model.js, with values and a result that JSON can hold."""
    if request.param == "chromium":
        browser = request.getfixturevalue("browser")

        def evaluate(script: str) -> Any:
            return browser.execute_script(f"{SCRIPT}{ASK}return {script}")
    else:
        racer = pytest.importorskip("py_mini_racer", reason="no JavaScript engine: pip install mini-racer")
        context = racer.MiniRacer()
        context.eval(SCRIPT + ASK)
        evaluate = context.eval

    def run(function: str, *arguments: Any) -> Any:
        given = ", ".join(f"JSON.parse({json.dumps(json.dumps(argument))})" for argument in arguments)
        return json.loads(evaluate(f"JSON.stringify({function}({given}))"))

    return run


def random_question(generator: random.Random, tables: dict[str, Any]) -> dict[str, Any]:
    """Draw a question; sizes, batches and lengths evenly on logarithmic axes, their ends among them."""

    def count(least: float, most: float) -> int:
        return int(generator.choice([least, math.exp(generator.uniform(math.log(least), math.log(most))), most]))

    hardware = generator.choice(list(tables["hardware"]))
    runnable = [name for name, system in tables["hardware"][hardware]["schemes"].items() if "error" not in system]
    prompt, new = generator.choice([0, count(1, 1e6)]), count(1, 1e5)
    earlier = generator.choice([0, count(1, 1e7)])
    size = generator.choice([1e8, 10 ** generator.uniform(8, 12), 1e12])
    return {
        "model": generator.choice([None, None, None, generator.randrange(len(tables["models"]))]),
        "size": generator.choice([f"{size:.17g}", format_count(size).replace(",", "")]),
        "hardware": hardware,
        "scheme": generator.choice(runnable),
        "batch": count(1, 1e5),
        "prompt_tokens": prompt,
        "new_tokens": new,
        "context": prompt + new + earlier if earlier else None,
        "devices": generator.choice([1, count(1, 1e4)]),
        "split": generator.choice(["pipeline", "tensor"]),
        "region": generator.choice(list(tables["regions"])),
    }


def asked(question: dict[str, Any], tables: dict[str, Any]) -> tuple[ModelSpec, Estimate]:
    """Ask the same of Python."""
    chosen = question["model"]
    spec = spec_for_size(question["size"]) if chosen is None else resolve_model(tables["models"][chosen]["title"])
    names = ("batch", "prompt_tokens", "new_tokens", "context", "devices", "split", "region")
    options = {name: question[name] for name in names}
    return spec, estimate(spec, question["scheme"], question["hardware"], **options)


def expected(result: Estimate) -> dict[str, Any]:
    """Return an estimate in the form that model.js gives it."""
    memory = result.dram_bytes
    parts = ("weights", "embedding_and_head", "kv_cache", "activations", "runtime", "total")
    costs = ("hardware_usd", "electricity_usd", "kg_co2e")
    found = {f"{name}_per_million_tokens": result.cost.get(f"{name}_per_million_tokens") for name in costs}
    return {
        "energy_j": {name: list(value) for name, value in result.energy_j.items()},
        "token_energy_j": {name: list(value) for name, value in result.token_energy_j.items()},
        "prefill_s": list(result.prefill_s),
        "per_new_token_s": list(result.per_new_token_s),
        "latency_s": list(result.latency_s),
        "tokens_per_s": list(result.tokens_per_s),
        "bound": dict(result.bound),
        "dram_bytes": {name: getattr(memory, name) for name in parts},
        "capacity_bytes": result.capacity_bytes,
        "fits": result.fits,
        "largest_context": result.largest_context,
        "traffic_bytes": {name: result.traffic_bytes[name] for name in ("prefill", "per_step")},
        "cost": {name: None if value is None else list(value) for name, value in found.items()},
    }


def assert_same(found: Any, wanted: Any, where: str) -> None:
    """Compare two trees of numbers and words."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), where
        for name, value in wanted.items():
            assert_same(found[name], value, f"{where}.{name}")
    elif isinstance(wanted, list):
        for index, (one, other) in enumerate(zip(found, wanted, strict=True)):
            assert_same(one, other, f"{where}[{index}]")
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, rel=TOLERANCE, abs=0.0), where
    else:
        assert found == wanted, where


def test_it_equals_estimate_on_random_questions(tables: dict[str, Any], call: Call) -> None:
    generator = random.Random(7)
    questions = [random_question(generator, tables) for _ in range(QUESTIONS)]
    for question, found in zip(questions, call("ask", tables, questions), strict=True):
        spec, result = asked(question, tables)
        parameters, devices = found.pop("parameters"), found.pop("devices_needed")
        assert parameters == spec.parameters
        if devices is not None:
            assert devices == devices_needed(spec, result.hardware, result.workload)
        assert_same(found, expected(result), str(question))


def test_every_machine_and_scheme_is_compared(tables: dict[str, Any], call: Call) -> None:
    base = {
        "model": None, "size": "7B", "batch": 2, "prompt_tokens": 512, "new_tokens": 128, "context": None,
        "devices": 1, "split": "pipeline", "region": "world",
    }  # fmt: skip
    questions = [
        base | {"hardware": hardware, "scheme": scheme}
        for hardware, machine in tables["hardware"].items()
        for scheme, system in machine["schemes"].items()
        if "error" not in system
    ]
    assert {question["hardware"] for question in questions} == set(hardware_names())
    assert {question["scheme"] for question in questions} == set(SCHEMES)
    for question, found in zip(questions, call("ask", tables, questions), strict=True):
        _, result = asked(question, tables)
        assert_same(found["token_energy_j"], expected(result)["token_energy_j"], str(question))
        assert tables["hardware"][question["hardware"]]["schemes"][question["scheme"]]["engine"] == result.engine.name


def test_every_published_model_is_compared(tables: dict[str, Any], call: Call) -> None:
    """Mixtures of experts, tied heads and grouped keys are among them."""
    base = {
        "size": "7B", "scheme": "b1.58", "hardware": "h100-sxm", "batch": 3, "prompt_tokens": 100, "new_tokens": 10,
        "context": None, "devices": 4, "split": "tensor", "region": "us",
    }  # fmt: skip
    assert [model["title"] for model in tables["models"]] == list(model_rows())
    questions = [base | {"model": index} for index in range(len(tables["models"]))]
    for question, found in zip(questions, call("ask", tables, questions), strict=True):
        spec, result = asked(question, tables)
        assert found.pop("parameters") == spec.parameters
        del found["devices_needed"]
        assert_same(found, expected(result), spec.name)


def test_every_step_of_the_size_has_its_own_shape(tables: dict[str, Any], call: Call) -> None:
    generator = random.Random(3)
    sizes = [10 ** generator.uniform(8, 12) for _ in range(300)]
    count = "((tables, sizes) => sizes.map(size => allParameters(shapeForSize(tables, size))))"
    found = call(count, tables, sizes)
    assert found == [spec_for_size(size).parameters for size in sizes]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 0}, "batch: expected a whole number from 1 to 10,000,000"),
        ({"batch": 1.5}, "batch: expected a whole number"),
        ({"prompt_tokens": 0, "new_tokens": 0}, "at least one of them above 0"),
        ({"context": 10}, "context: expected a whole number from 640 to 100,000,000"),
        ({"devices": 0}, "devices: expected"),
        ({"size": "5M"}, "size: expected 100M to 1.00T parameters"),
        ({"size": "many"}, "size: expected"),
        ({"hardware": "ternary-asic", "scheme": "fp32"}, "ternary-asic: has no fp32_flops_per_s"),
    ],
)
def test_what_estimate_refuses_is_refused_with_a_sentence(
    tables: dict[str, Any], call: Call, change: dict[str, Any], message: str
) -> None:
    question = tables["start"] | {"model": None, "size": "7B", "devices": 1} | change
    refused = "((...given) => { try { return ask(...given); } catch (error) { return error.message; } })"
    assert message in call(refused, tables, [question])


def test_numbers_are_written_as_the_command_writes_them(call: Call) -> None:
    generator = random.Random(5)
    values = [0.0, 0.9995, 999.5, 999.4, 1e6, *(10 ** generator.uniform(-14, 20) for _ in range(2000))]
    assert call("(values => values.map(value => formatSi(value, 'J')))", values) == [
        format_si(value, "J") if value == 0 or value >= 1e-12 else f"{call_precision(value)} J" for value in values
    ]
    sizes = [value for value in values if value >= 1e3]
    assert call("(values => values.map(formatCount))", sizes) == [format_count(value) for value in sizes]
    ratios = [value for value in values if 1e-3 < value < 1e6]
    assert call("(values => values.map(formatRatio))", ratios) == [format_ratio(value) for value in ratios]


def call_precision(value: float) -> str:
    """Return three digits as JavaScript's toPrecision writes them, below a picojoule."""
    digits, _, power = f"{value:.2e}".partition("e")
    return f"{digits}e{int(power)}"


def test_the_start_is_the_question_of_the_report() -> None:
    spec = resolve_model("bitnet-b1.58-2B-4T")
    question = Question(
        spec=spec,
        schemes=("fp16", "w4a16", "b1"),
        machines=("raspberry-pi-5", "m2"),
        workload=make_workload(4, 10, 20, 3000),
        region="fr",
        command="bitsim report --model bitnet-b1.58-2B-4T",
    )
    data = page_data(question)
    start = data["start"]
    assert data["models"][start["model"]]["option"] == "--model bitnet-b1.58-2B-4T"
    assert (start["scheme"], start["hardware"], start["devices"]) == ("b1", "raspberry-pi-5", 1)
    assert (start["batch"], start["prompt_tokens"], start["new_tokens"], start["context"]) == (4, 10, 20, 3000)
    assert start["region"] == "fr"


def test_by_default_the_start_has_the_devices_that_fp16_needs(tables: dict[str, Any]) -> None:
    start = tables["start"]
    assert (start["size"], start["model"], start["hardware"]) == ("70B", None, "a100-80gb")
    assert start["devices"] == estimate("70B").devices
    assert start["context"] is None


def test_a_size_off_the_slider_and_a_file_are_models_of_their_own() -> None:
    small = page_data(
        Question(spec=spec_for_size("5M"), workload=make_workload(), command="bitsim report --size 5M -o r.html")
    )
    assert small["models"][small["start"]["model"]]["option"] == "--size 5M"
    folder = page_data(
        Question(
            spec=spec_for_size("3B"),
            workload=make_workload(),
            command="bitsim report --model 'my <b>model</b>/config.json'",
        )
    )
    assert folder["models"][folder["start"]["model"]]["option"] == "--model 'my <b>model</b>/config.json'"


def test_a_machine_of_the_users_own_comes_first() -> None:
    path = str(resources.files("bitsim.energy_tables") / "data" / "hardware" / "m2.toml")
    question = Question(
        spec=spec_for_size("7B"), machines=(path,), workload=make_workload(), command="bitsim report --size 7B"
    )
    data = page_data(question)
    assert next(iter(data["hardware"])) == data["start"]["hardware"] == path
    assert data["hardware"][path]["title"] == load_hardware("m2").title
