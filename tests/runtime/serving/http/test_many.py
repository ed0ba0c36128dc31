"""Many at once, clients that leave, a full queue, and the end of the server: nothing is lost, nothing is left over."""

import asyncio
import gc
import json
import threading
from typing import Any

import httpx
import openai
import pytest
from fake_language_model import FakeModel, fake_model

from bitsim.runtime.generation import Sampling, generate
from bitsim.runtime.serving import Ticket
from bitsim.runtime.serving.http.exchange import Exchange

from .conftest import Serve, Served, slow


def alone(model: FakeModel, seed: int) -> str:
    sampling = Sampling(temperature=1.5, seed=seed)
    return "".join(piece.text for piece in generate(model, "the cat", max_new_tokens=6, sampling=sampling))


async def ask(client: httpx.AsyncClient, seed: int, **more: Any) -> httpx.Response:
    body = {"prompt": "the cat", "max_tokens": 6, "temperature": 1.5, "seed": seed, **more}
    return await client.post("/v1/completions", json=body)


async def ask_all(served: Served, count: int) -> list[httpx.Response]:
    """Ask from so many connections at once, every second one for a stream."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=served.url, limits=limits, timeout=60) as client:
        return list(await asyncio.gather(*(ask(client, seed, stream=seed % 2 == 1) for seed in range(count))))


def text_of(response: httpx.Response) -> str:
    if response.headers["content-type"] == "application/json":
        return str(response.json()["choices"][0]["text"])
    events = [line.removeprefix("data: ") for line in response.text.split("\n") if line.startswith("data: ")]
    assert events.pop() == "[DONE]"
    return "".join(json.loads(event)["choices"][0]["text"] for event in events)


def left_over() -> int:
    gc.collect()
    return sum(type(thing) in (Exchange, Ticket) for thing in gc.get_objects())


def test_200_clients_at_once_get_their_own_answers(serve: Serve) -> None:
    served = serve()
    before = left_over()
    responses = asyncio.run(ask_all(served, 200))
    assert {response.status_code for response in responses} == {200}
    assert [text_of(response) for response in responses] == [alone(served.model, seed) for seed in range(200)]
    served.wait_until(lambda: len(served.accesses) == 200)
    served.accesses.clear()
    assert served.idle()
    assert left_over() == before


def test_a_full_queue_is_said_and_what_was_taken_is_answered(serve: Serve) -> None:
    served = serve(slow(fake_model(eos=()), 0.01), together=1, queue=3)
    responses = asyncio.run(ask_all(served, 20))
    taken = [response for response in responses if response.status_code == 200]
    refused = [response for response in responses if response.status_code == 429]
    assert len(taken) >= 4
    assert len(taken) + len(refused) == 20
    assert len(taken) == served.engine.counters.accepted_requests
    assert len(refused) == served.engine.counters.refused
    for response in refused:
        assert response.headers["retry-after"] == "1"
        error = response.json()["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")


def test_several_answers_are_taken_together_or_not_at_all(serve: Serve) -> None:
    served = serve(slow(fake_model(), 0.01), together=1, queue=3)
    with pytest.raises(openai.RateLimitError):
        served.client.completions.create(model="tiny", prompt="a", n=16)
    served.wait_until(served.idle)
    assert set(served.engine.counters.finished) <= {"cancelled"}
    assert served.client.completions.create(model="tiny", prompt="a", n=4).choices


def test_a_client_that_leaves_in_a_stream_ends_its_answer(serve: Serve) -> None:
    served = serve(slow(fake_model(eos=(), context=10_000), 0.005))
    with served.client.completions.create(model="tiny", prompt="a", max_tokens=9000, stream=True) as stream:
        next(iter(stream))
        assert served.engine.counters.running == 1
    served.wait_until(served.idle)
    assert served.engine.counters.finished == {"cancelled": 1}
    served.wait_until(lambda: served.accesses)
    assert (served.accesses[-1].status, served.accesses[-1].hung_up) == (200, True)


@pytest.mark.parametrize("stream", [False, True])
def test_clients_that_leave_while_they_wait_are_forgotten(serve: Serve, stream: bool) -> None:
    served = serve(slow(fake_model(eos=(), context=10_000), 0.005), together=1)
    body = json.dumps({"prompt": "a", "max_tokens": 9000, "stream": stream})
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    connections = [served.connect() for _ in range(3)]
    for connection in connections:
        connection.sendall((head + body).encode())
    served.wait_until(lambda: served.engine.counters.accepted_requests == 3)
    assert (served.engine.counters.running, served.engine.counters.waiting) == (1, 2)
    for connection in connections:
        connection.close()
    served.wait_until(served.idle)
    assert served.engine.counters.finished == {"cancelled": 3}
    served.wait_until(lambda: len(served.accesses) == 3)
    assert all(access.hung_up for access in served.accesses)
    assert {access.status for access in served.accesses} == ({200} if stream else {499})


def test_the_end_lets_running_answers_finish_and_takes_no_more(serve: Serve) -> None:
    served = serve(slow(fake_model(eos=()), 0.02), grace_s=20)
    got: list[httpx.Response] = []
    asked = threading.Thread(
        target=lambda: got.append(served.post("/v1/completions", json={"prompt": "a", "max_tokens": 30}))
    )
    asked.start()
    served.wait_until(lambda: served.engine.counters.running == 1)
    served.server.stop()
    served.thread.join()
    asked.join()
    assert got[0].status_code == 200
    assert got[0].json()["usage"]["completion_tokens"] == 30
    with pytest.raises(httpx.ConnectError):
        served.get("/health")


def test_answers_that_outlast_the_grace_are_told(serve: Serve) -> None:
    served = serve(slow(fake_model(eos=(), context=10_000), 0.01), grace_s=0.2)
    with served.client.completions.create(model="tiny", prompt="a", max_tokens=9000, stream=True) as stream:
        pieces = iter(stream)
        next(pieces)
        served.server.stop()
        with pytest.raises(openai.APIError, match="the server ends"):
            list(pieces)
    served.thread.join()


def test_users_take_turns(serve: Serve) -> None:
    served = serve(slow(fake_model(eos=()), 0.01), together=1)

    async def all_at_once() -> list[str]:
        ends: list[str] = []

        async def one(client: httpx.AsyncClient, user: str) -> None:
            await ask(client, 1, user=user)
            ends.append(user)

        async with httpx.AsyncClient(base_url=served.url, timeout=60) as client:
            many = [asyncio.create_task(one(client, "many")) for _ in range(6)]
            while served.engine.counters.accepted_requests < 6:
                await asyncio.sleep(0.005)
            await asyncio.gather(one(client, "one"), *many)
        return ends

    assert asyncio.run(all_at_once()).index("one") < 3
