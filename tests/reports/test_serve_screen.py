"""What bitsim serve says, from made-up requests."""

import re
from types import SimpleNamespace

import pytest

from bitsim.reports.serve_screen import access_line, address, introduction, warnings
from bitsim.runtime.serving import Limits, Ticket, Usage
from bitsim.runtime.serving.http import Access


def model(memory_of_weights: int, chat_template: str | None) -> SimpleNamespace:
    return SimpleNamespace(
        config=SimpleNamespace(spec=SimpleNamespace(parameters=2.4e9)),
        text=SimpleNamespace(chat_template=chat_template),
        weight_bytes=memory_of_weights,
        sequence=lambda capacity: SimpleNamespace(bytes_per_token=1000),
    )


def test_a_model_that_does_not_fit_is_warned_of() -> None:
    limits = Limits(together=2, queue=3, cache_tokens=100)
    engine = SimpleNamespace(model=model(1000, "x"), limits=limits, context=500)
    first, second = introduction(engine, "name")
    assert first == "name: 2.40B parameters, made to chat"
    assert second == (
        "500 tokens of context, 2 answers together, 3 more may wait; keys and values: 500 kB an answer at most, "
        "1.10 MB in all"
    )
    engine.model = model(10**18, None)
    first, _, third = introduction(engine, "name")
    assert first.endswith("no chat format: /v1/completions alone")
    assert third.startswith("Warning: with the weights that is more than this machine's ")


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("127.0.0.1", "http://127.0.0.1:80/"),
        ("0.0.0.0", "http://127.0.0.1:80/"),
        ("::", "http://[::1]:80/"),
        ("::1", "http://[::1]:80/"),
        ("192.0.2.1", "http://192.0.2.1:80/"),
    ],
)
def test_the_address_is_one_to_click_on(host: str, told: str) -> None:
    assert address(host, 80) == told


def test_only_an_open_door_is_warned_of() -> None:
    assert [list(warnings(host, key)) for host, key in (("127.0.0.5", None), ("::1", None), ("0.0.0.0", "k"))] == [
        []
    ] * 3
    assert list(warnings("::", None)) == list(warnings("192.0.2.1", None))
    assert "no key is set" in next(warnings("::", None))


def test_a_line_tells_what_a_request_came_to() -> None:
    access = Access("127.0.0.1", "GET", "/a\x1b[2J\n", 404, 0.5, error="it is\nnot there")
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d 127\.0\.0\.1  GET  /a\?\[2J\?  404  it is\?not there  0\.50 s", access_line(access)
    )
    ticket = Ticket(10, lambda: None)
    ticket.usage, ticket.first_token_s = Usage(10, 8, 5), 0.5
    exchange = SimpleNamespace(tickets=[ticket], finish={}, usage=lambda each=1: ticket.usage)
    access = Access("127.0.0.1", "POST", "/v1/completions", 200, 2.5, exchange, hung_up=True)  # type: ignore[arg-type]
    assert access_line(access)[9:] == (
        "127.0.0.1  POST  /v1/completions  200  10 (8 kept) + 5 tokens, first after 0.50 s, then 2.0/s  "
        "the client hung up  2.50 s"
    )
