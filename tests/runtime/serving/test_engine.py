"""The engine's answers are those of `generate` alone, whoever comes and goes; nothing accepted is lost."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fake_language_model import FakeModel, fake_model
from hypothesis import given, settings
from hypothesis import strategies as st

from bitsim.energy_tables import BitsimError
from bitsim.runtime.generation import Piece, Request, Sampling, Tokenizer, generate
from bitsim.runtime.serving import Closed, Delivery, Engine, Failure, Limits, QueueFull, Ticket

PATIENCE_S = 60


class Listener:
    """Collects what one request is given."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.failure: Failure | None = None
        self.done = threading.Event()
        self.heard = queue.SimpleQueue[Delivery]()

    def __call__(self, delivery: Delivery) -> None:
        assert not self.done.is_set(), "nothing comes after the last"
        self.heard.put(delivery)
        if isinstance(delivery, Failure):
            self.failure = delivery
            self.done.set()
        else:
            self.pieces.append(delivery)
            if delivery.finish:
                self.done.set()

    def wait(self) -> "Listener":
        assert self.done.wait(PATIENCE_S)
        return self

    @property
    def tokens(self) -> list[int]:
        return [piece.token for piece in self.pieces]

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)


def asked(engine: Engine, request: Request, user: str = "") -> tuple[Ticket, Listener]:
    listener = Listener()
    return engine.submit(request, listener, user=user), listener


def alone(model: FakeModel, request: Request) -> list[Piece]:
    return list(
        generate(
            model, request.prompt, max_new_tokens=request.max_new_tokens, sampling=request.sampling, stop=request.stop
        )
    )


requests = st.builds(
    Request,
    prompt=st.lists(st.sampled_from(["the cat ", "sat in ", "the hat", "a"]), max_size=12).map("".join),
    max_new_tokens=st.integers(1, 30),
    sampling=st.builds(
        Sampling,
        temperature=st.sampled_from([0.0, 0.7, 3.0]),
        top_k=st.sampled_from([0, 2, 5]),
        min_p=st.sampled_from([0.0, 0.2]),
        repetition_penalty=st.sampled_from([1.0, 1.3]),
        seed=st.integers(0, 100),
    ),
    stop=st.sampled_from([(), ("e",), ("t", "he"), ("<|begin|>",)]),
)
all_limits = st.builds(
    Limits,
    together=st.integers(1, 5),
    prefill=st.integers(1, 40),
    cache_tokens=st.sampled_from([0, 30, 1000]),
)


@given(st.lists(requests, min_size=1, max_size=8), all_limits, st.booleans())
@settings(max_examples=60)
def test_answers_are_those_of_each_alone(many: list[Request], limits: Limits, speculate: bool) -> None:
    model = fake_model(context=80)
    engine = Engine(model, limits=limits, speculate=speculate)
    try:
        tickets = [asked(engine, request) for request in many]
        for request, (ticket, listener) in zip(many, tickets, strict=True):
            pieces = alone(model, request)
            listener.wait()
            assert listener.tokens == [piece.token for piece in pieces]
            assert listener.text == "".join(piece.text for piece in pieces)
            assert listener.pieces[-1].finish == pieces[-1].finish
            assert ticket.usage.completion_tokens == len(pieces)
    finally:
        engine.close()


@pytest.fixture
def model() -> FakeModel:
    return fake_model(context=400, eos=())


@pytest.fixture
def made(model: FakeModel) -> Iterator[Callable[..., Engine]]:
    """Makes engines and closes them."""
    engines: list[Engine] = []

    def make(**options: Any) -> Engine:
        engines.append(Engine(model, **options))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


class Gate:
    """Holds a model up before each step until it is let go."""

    def __init__(self, model: FakeModel) -> None:
        self._step = model.step
        self._passes = threading.Semaphore(0)
        self.open = False
        model.step = self  # type: ignore[assignment]

    def __call__(self, *arguments: Any) -> Any:
        if not self.open:
            assert self._passes.acquire(timeout=PATIENCE_S)
        return self._step(*arguments)

    def steps(self, count: int) -> None:
        for _ in range(count):
            self._passes.release()

    def let_go(self) -> None:
        self.open = True
        self._passes.release()


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_two_hundred_at_once_all_get_their_answers_and_memory_is_as_before(
    model: FakeModel, made: Callable[..., Engine]
) -> None:
    engine = made(limits=Limits(together=16, queue=256, cache_tokens=0))
    wanted = [Request(prompt=f"the {number} cat", max_new_tokens=1 + number % 7) for number in range(200)]
    tickets: list[tuple[Ticket, Listener]] = []
    threads = [
        threading.Thread(target=lambda at=at: tickets.extend(asked(engine, each) for each in wanted[at::8]))
        for at in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tickets) == 200
    for ticket, listener in tickets:
        listener.wait()
        assert listener.failure is None
        assert ticket.queue_s is not None
        assert ticket.first_token_s is not None
    counters = engine.counters
    assert counters.accepted_requests == 200
    assert counters.finished == {"length": 200}
    assert (counters.waiting, counters.running, counters.kept_tokens) == (0, 0, 0)
    assert counters.new_tokens == sum(request.max_new_tokens or 0 for request in wanted)
    assert max(map(len, model.steps)) <= 16
    assert not engine._begun
    assert not engine._followers


def test_no_more_wait_than_the_limits_allow(model: FakeModel, made: Callable[..., Engine]) -> None:
    gate = Gate(model)
    engine = made(limits=Limits(together=1, queue=2))
    tickets = [asked(engine, Request(prompt="a", max_new_tokens=2))]
    wait_until(lambda: engine.counters.running == 1)
    tickets += [asked(engine, Request(prompt="b", max_new_tokens=2)) for _ in range(2)]
    with pytest.raises(QueueFull, match="2 requests wait"):
        asked(engine, Request(prompt="c"))
    gate.let_go()
    for _, listener in tickets:
        assert listener.wait().failure is None
    assert engine.counters.refused == 1


def test_users_take_turns(model: FakeModel, made: Callable[..., Engine]) -> None:
    gate = Gate(model)
    engine = made(limits=Limits(together=1))
    order: list[str] = []
    first = asked(engine, Request(prompt="a", max_new_tokens=1), "busy")
    wait_until(lambda: engine.counters.running == 1)
    done = []
    for name, user in (("busy 1", "busy"), ("busy 2", "busy"), ("busy 3", "busy"), ("calm 1", "calm")):
        listener = Listener()
        done.append(listener)

        def deliver(delivery: Delivery, name: str = name, listener: Listener = listener) -> None:
            order.append(name)
            listener(delivery)

        engine.submit(Request(prompt="b", max_new_tokens=1), deliver, user=user)
    gate.let_go()
    for listener in (first[1], *done):
        listener.wait()
    assert order == ["busy 1", "calm 1", "busy 2", "busy 3"]


def test_those_who_go_away_leave_between_two_steps(model: FakeModel, made: Callable[..., Engine]) -> None:
    gate = Gate(model)
    engine = made(limits=Limits(together=2))
    gone, heard_gone = asked(engine, Request(prompt="the cat", max_new_tokens=None))
    _, heard = asked(engine, Request(prompt="the hat", max_new_tokens=5))
    waiting, heard_waiting = asked(engine, Request(prompt="in", max_new_tokens=5))
    gate.steps(3)
    wait_until(lambda: len(heard_gone.pieces) >= 2)
    gone.cancel()
    waiting.cancel()
    gate.let_go()
    for listener in (heard_gone, heard_waiting):
        assert listener.wait().failure == Failure("the request was cancelled", ours=False)
    assert heard.wait().tokens == [piece.token for piece in alone(model, Request(prompt="the hat", max_new_tokens=5))]
    assert len(heard_gone.pieces) < 10
    assert not heard_waiting.pieces
    gone.cancel()
    wait_until(lambda: engine.counters.running == 0)
    assert engine.counters.finished == {"cancelled": 2, "length": 1}


def test_one_who_can_not_take_a_piece_is_as_good_as_gone(made: Callable[..., Engine]) -> None:
    engine = made()

    def deliver(delivery: Delivery) -> None:
        raise ConnectionError

    engine.submit(Request(prompt="a", max_new_tokens=None), deliver)
    _, listener = asked(engine, Request(prompt="b", max_new_tokens=20))
    assert listener.wait().failure is None
    wait_until(lambda: engine.counters.running == 0)
    assert engine.counters.finished == {"cancelled": 1, "length": 1}


def test_a_failing_step_is_told_and_the_next_requests_are_served(model: FakeModel, made: Callable[..., Engine]) -> None:
    step, calls = model.step, iter(range(100))

    def failing(*arguments: Any) -> Any:
        if next(calls) == 1:
            raise MemoryError("no room")
        return step(*arguments)

    model.step = failing  # type: ignore[assignment]
    engine = made()
    _, listener = asked(engine, Request(prompt="the", max_new_tokens=5))
    assert listener.wait().failure == Failure("MemoryError: no room", ours=True)
    assert asked(engine, Request(prompt="the", max_new_tokens=5))[1].wait().failure is None


def test_logits_that_are_no_numbers_end_one_answer_alone(model: FakeModel, made: Callable[..., Engine]) -> None:
    engine = made(speculate=False)
    poison = 7
    model._embedding[poison] = np.nan
    _, bad = asked(engine, Request(prompt=np.array([1, poison]), max_new_tokens=5))
    _, good = asked(engine, Request(prompt=np.array([1, 2, 3]), max_new_tokens=5))
    failure = bad.wait().failure
    assert failure is not None
    assert "no finite numbers" in failure.message
    assert good.wait().failure is None
    assert len(good.tokens) == 5


def test_closing_finishes_what_runs_or_tells_it(model: FakeModel, made: Callable[..., Engine]) -> None:
    engine = made()
    _, listener = asked(engine, Request(prompt="the", max_new_tokens=50))
    engine.close(PATIENCE_S)
    assert listener.wait().failure is None
    with pytest.raises(Closed):
        asked(engine, Request(prompt="the"))
    gate = Gate(model)
    engine = made(limits=Limits(together=1))
    running, waiting = (asked(engine, Request(prompt="the", max_new_tokens=50))[1] for _ in range(2))
    wait_until(lambda: engine.counters.running == 1)
    closing = threading.Thread(target=engine.close)
    closing.start()
    wait_until(lambda: engine._deadline is not None)
    gate.let_go()
    closing.join(PATIENCE_S)
    for told in (running, waiting):
        assert told.wait().failure == Failure("the server ends", ours=True)


def test_requests_without_meaning_are_refused_at_once(made: Callable[..., Engine]) -> None:
    engine = made(limits=Limits(context=20))
    for request, message in (
        (Request(prompt=np.arange(21)), "21 tokens, more than the model's context of 20"),
        (Request(prompt=np.array([99_999])), "token 99999"),
        (Request(prompt="a", stop=("",)), "stop: expected a text"),
    ):
        with pytest.raises(BitsimError, match=message):
            asked(engine, request)
    assert engine.counters.accepted_requests == 0
    with pytest.raises(BitsimError, match="together: expected 1 or more, got 0"):
        Limits(together=0)


def test_a_limited_context_ends_answers(made: Callable[..., Engine]) -> None:
    engine = made(limits=Limits(context=32))
    _, listener = asked(engine, Request(prompt=np.arange(20), max_new_tokens=None))
    assert listener.wait().pieces[-1].finish == "context"
    assert len(listener.pieces) == 13


PREFIX = "the cat sat in the hat and the cat "


def test_prompts_that_begin_alike_are_read_once(model: FakeModel, made: Callable[..., Engine]) -> None:
    """After one another and at the same time; those at the same time wait for the first."""
    for cache_tokens in (0, 1000):
        gate = Gate(model)
        engine = made(limits=Limits(cache_tokens=cache_tokens), speculate=False)
        prompts = [PREFIX * 3 + ending for ending in ("one", "two", "three")]
        tickets = [asked(engine, Request(prompt=prompt, max_new_tokens=6)) for prompt in prompts]
        gate.let_go()
        for prompt, (_, listener) in zip(prompts, tickets, strict=True):
            expected = alone(model, Request(prompt=prompt, max_new_tokens=6))
            assert listener.wait().tokens == [piece.token for piece in expected]
        shared = len(Tokenizer(model.text).encode(PREFIX * 3)) - 1
        cached = [ticket.usage.cached_tokens for ticket, _ in tickets]
        assert cached[0] == 0
        assert all(shared - 3 <= count for count in cached[1:])
        late, listener = asked(engine, Request(prompt=prompts[1], max_new_tokens=6))
        assert listener.wait().tokens == tickets[1][1].tokens
        assert late.usage.cached_tokens == (late.prompt_tokens - 1 if cache_tokens else 0)
        assert engine.counters.cached_tokens == sum(cached) + late.usage.cached_tokens
        assert engine.counters.kept_tokens <= cache_tokens
        engine.close()


def test_a_leader_that_goes_away_leaves_what_it_read(model: FakeModel, made: Callable[..., Engine]) -> None:
    gate = Gate(model)
    engine = made(limits=Limits(prefill=8), speculate=False)
    first, leading = asked(engine, Request(prompt=PREFIX * 3 + "one", max_new_tokens=6))
    _, following = asked(engine, Request(prompt=PREFIX * 3 + "two", max_new_tokens=6))
    gate.steps(2)
    wait_until(lambda: len(model.steps) == 2)
    first.cancel()
    gate.let_go()
    assert leading.wait().failure is not None
    expected = alone(model, Request(prompt=PREFIX * 3 + "two", max_new_tokens=6))
    assert following.wait().tokens == [piece.token for piece in expected]


def test_a_long_prompt_holds_up_nobody_for_longer_than_the_limit(model: FakeModel, made: Callable[..., Engine]) -> None:
    gate = Gate(model)
    engine = made(limits=Limits(prefill=16), speculate=False)
    _, streaming = asked(engine, Request(prompt="a", max_new_tokens=60))
    gate.steps(2)
    wait_until(lambda: len(streaming.pieces) == 2)
    long = asked(engine, Request(prompt=np.arange(200), max_new_tokens=1))
    short = asked(engine, Request(prompt=np.arange(100, 110), max_new_tokens=1))
    before = len(model.steps)
    gate.let_go()
    for listener in (long[1], short[1], streaming):
        assert listener.wait().failure is None
    assert max(sum(step) for step in model.steps) <= 16
    assert len(streaming.pieces) == 60
    first = short[1].pieces[0]
    assert first.finish == "length"
    assert before < len(model.steps)
    assert short[0].first_token_s is not None
    assert long[0].first_token_s is not None
    assert short[0].first_token_s < long[0].first_token_s


def test_guesses_are_counted_and_change_nothing(model: FakeModel, made: Callable[..., Engine]) -> None:
    engine = made(speculate=True)
    request = Request(prompt="the cat sat in the hat " * 4, max_new_tokens=150)
    ticket, listener = asked(engine, request)
    assert listener.wait().tokens == [piece.token for piece in alone(model, request)]
    usage, counters = ticket.usage, engine.counters
    assert 0 < usage.accepted <= usage.drafted
    assert (counters.drafted, counters.accepted) == (usage.drafted, usage.accepted)
    assert counters.steps < 150
