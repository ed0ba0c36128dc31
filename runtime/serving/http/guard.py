"""Who may ask: those with the key, and no web page of somebody else."""

import hmac
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from .errors import ApiError

OPEN = ("/", "/page.css", "/page.js", "/icon.svg", "/health")  # without a key: the chat page asks for it


class Guard:
    """Lets requests through, or refuses them.

    A browser on this machine reaches what listens on it, and so does any page that it shows. So a page of another
    origin may not ask, unless it is named; and where no key is needed, the name by which the server is called must be
    known, or a stranger's domain that resolves to this machine would count as the same origin (DNS rebinding).
    """

    def __init__(
        self, app: ASGIApp, key: str | None, hosts: Collection[str] | None, origins: Collection[str] = ()
    ) -> None:
        """Take the next application, the key, the known names and the origins that may ask."""
        self._app = app
        self._key = None if key is None else key.encode()
        self._hosts, self._origins = hosts, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and (refusal := self._refusal(scope["path"], Headers(scope=scope))) is not None:
            await refusal.response()(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, path: str, headers: Headers) -> ApiError | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._hosts is not None and _name(host) not in self._hosts:
            return ApiError(403, f"Host: '{host[:100]}' is no known name of this server", code="unknown_host")
        if origin is not None and not self._may_ask(origin, host):
            return ApiError(403, f"Origin: pages of '{origin[:100]}' may not ask here", code="unknown_origin")
        if self._key is not None and path not in OPEN and not self._is_key(headers.get("authorization", "")):
            message = "a valid API key is needed: Authorization: Bearer KEY"
            return ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
        return None

    def _may_ask(self, origin: str, host: str) -> bool:
        return "*" in self._origins or origin in self._origins or origin.partition("://")[2] == host

    def _is_key(self, authorization: str) -> bool:
        kind, _, shown = authorization.partition(" ")
        assert self._key is not None
        same = hmac.compare_digest(shown.strip().encode(), self._key)  # in the same time whatever is wrong
        return same and kind.lower() == "bearer"


def _name(host: str) -> str:
    """Return a Host header without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
