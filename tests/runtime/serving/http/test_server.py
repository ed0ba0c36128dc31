"""Where the server listens."""

import socket

import httpx
import pytest
from fake_language_model import fake_model
from refusals import refusal

from bitsim.runtime.serving import Engine
from bitsim.runtime.serving.http import Server, Service, Settings, listen


def test_an_address_of_others_is_refused() -> None:
    assert (refusal(lambda: listen("192.0.2.1", 80)) or "").startswith("192.0.2.1:80: cannot listen there (")
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert (refusal(lambda: listen("127.0.0.1", port)) or "").startswith(f"127.0.0.1:{port}: cannot listen there (")


@pytest.mark.parametrize("host", ["::1", "::"])
def test_ipv6(host: str) -> None:
    import threading

    if not socket.has_ipv6:
        pytest.skip("no IPv6 on this machine")
    listening = listen(host, 0)
    port = listening.getsockname()[1]
    server = Server(Service(Engine(fake_model()), Settings(names=("tiny",))), 0.0)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    for name in ("[::1]",) if host == "::1" else ("[::1]", "127.0.0.1"):
        assert httpx.get(f"http://{name}:{port}/health").json() == {"status": "ok"}
    server.stop()
    thread.join()
