"""Notes how each request ended."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .access import Access
from .errors import GONE
from .metrics import Metrics
from .service import Service


class Watch:
    """Goes round everything else: counts requests, and tells who listens."""

    def __init__(self, app: ASGIApp, service: Service, metrics: Metrics, paths: frozenset[str]) -> None:
        """Take the next application, and the paths that are counted by their names."""
        self._app, self._service, self._metrics, self._paths = app, service, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = scope.get("client")
        access = Access(client[0] if client else "", scope["method"], scope["path"])
        scope.setdefault("state", {})["access"] = access

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                access.status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception as error:
            access.status, access.error = 500, repr(error)
            raise
        finally:
            access.status = access.status or GONE
            access.end()
            self._metrics.observe(access, access.path if access.path in self._paths else "other")
            self._service.on_access(access)
