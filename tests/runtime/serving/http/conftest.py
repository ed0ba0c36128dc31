"""A server on a free port of this machine, with the real engine and a model of a few numbers."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import httpx
import openai
import pytest
from fake_language_model import FakeModel, fake_model

from bitsim.runtime.serving import Engine, Limits
from bitsim.runtime.serving.http import Access, Server, Service, Settings, listen


@dataclass
class Served:
    """A running server, and what is known of it from inside."""

    model: FakeModel
    engine: Engine
    server: Server
    url: str
    thread: threading.Thread
    accesses: list[Access]

    @cached_property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=30.0)

    @cached_property
    def plain(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30.0)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.plain.post(path, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.plain.get(path, **options)

    def connect(self) -> socket.socket:
        """Return a bare connection, for what no client would send."""
        host, port = self.url.removeprefix("http://").split(":")
        return socket.create_connection((host, int(port)), timeout=30)

    def wait_until(self, happened: Callable[[], Any]) -> None:
        end = time.monotonic() + 20
        while not happened():
            assert time.monotonic() < end, "it did not happen"
            time.sleep(0.005)

    def idle(self) -> bool:
        counters = self.engine.counters
        return counters.waiting == counters.running == 0

    def close(self) -> None:
        self.client.close()
        self.plain.close()
        self.server.stop()
        self.thread.join()


Serve = Callable[..., Served]


def slow(model: FakeModel, seconds: float) -> FakeModel:
    """Let each step of a model take a while."""
    step = model.step

    def delayed(*args: Any) -> Any:
        time.sleep(seconds)
        return step(*args)

    model.step = delayed  # type: ignore[assignment, method-assign]
    return model


@pytest.fixture(scope="module")
def serve() -> Iterator[Serve]:
    """Start a server; keywords are fields of Settings and Limits, `model`, `grace_s`."""
    running: list[Served] = []

    def start(model: FakeModel | None = None, grace_s: float = 0.0, **options: Any) -> Served:
        of_limits = {name: options.pop(name) for name in Limits.__dataclass_fields__ if name in options}
        model = model or fake_model()
        engine = Engine(model, limits=Limits(**of_limits))
        accesses: list[Access] = []
        service = Service(engine, Settings(**({"names": ("tiny", "alias")} | options)), accesses.append)
        listening = listen("127.0.0.1", 0)
        server = Server(service, grace_s)
        thread = threading.Thread(target=server.run, args=([listening],))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        served = Served(model, engine, server, url, thread, accesses)
        thread.start()
        running.append(served)
        return served

    yield start
    for served in running:
        served.close()


@pytest.fixture(scope="module")
def served(serve: Serve) -> Served:
    """A server as it is without options."""
    return serve()
