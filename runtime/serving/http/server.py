"""Listening, and ending well."""

import asyncio
import signal
import socket
from typing import Any

import uvicorn

from bitsim.energy_tables import BitsimError

from .app import make_app
from .service import Service

_KEEP_ALIVE_S = 75  # longer than nginx keeps an idle connection, or it could send a request into a closed one
_BACKLOG = 2048
_LATER_S = 5  # after the engine's grace: to send what it said last


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that waits for clients; port 0 takes any that is free.

    Raises:
        BitsimError: the address is not this machine's, or in use.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()  # :: stands for all of IPv4 as well
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG, dualstack_ipv6=both)
    except OSError as error:
        raise BitsimError(f"{host}:{port}: cannot listen there ({error.strerror or error})") from error


def run(service: Service, listening: socket.socket, grace_s: float) -> None:
    """Serve until SIGTERM or Ctrl-C; then take no more, finish what runs within `grace_s` seconds, and return.

    A second Ctrl-C does not wait.
    """
    server = Server(service, grace_s)
    # uvicorn raises a signal again when it has ended; this hears it, and that way the command ends with 0.
    before = {number: signal.signal(number, server.stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        server.run(sockets=[listening])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _config(service: Service, grace_s: float) -> uvicorn.Config:
    return uvicorn.Config(
        make_app(service),
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,  # what is left, bugs of ours, goes to standard error
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(grace_s) + _LATER_S,
    )


class Server(uvicorn.Server):
    """Answers HTTP, and ends the engine while connections end; `run` is uvicorn's."""

    def __init__(self, service: Service, grace_s: float) -> None:
        """Take a service, and how long running answers get at the end."""
        super().__init__(_config(service, grace_s))
        self._service, self._grace_s = service, grace_s

    def stop(self, *_: Any) -> None:
        """Ask for the end."""
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the engine, whose last words end the connections; see uvicorn."""
        self._service.closing = True
        closing = asyncio.create_task(asyncio.to_thread(self._service.engine.close, self._grace_s))
        await super().shutdown(sockets)
        if not self.force_exit:
            await closing
