"""The application: which path is answered by what."""

from importlib import resources
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .answering import Answering, access_of
from .body import read_body
from .errors import GONE, OURS, ApiError
from .guard import Guard
from .metrics import Metrics
from .schema import ChatBody, CompletionBody, Kind, read
from .service import Service
from .watch import Watch

_FILES = {  # of the chat page
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_PAGE_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def make_app(service: Service) -> Starlette:
    """Return the ASGI application of a service."""
    pages, metrics = _Endpoints(service), Metrics(service.engine)

    async def figures(request: Request) -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    routes = [
        Route("/v1/chat/completions", pages.chat, methods=["POST"]),
        Route("/v1/completions", pages.completion, methods=["POST"]),
        Route("/v1/models", pages.models),
        Route("/v1/models/{name:path}", pages.model),
        Route("/health", pages.health),
        Route("/metrics", figures),
        *(Route(path, _file(*file)) for path, file in _FILES.items()),
    ]
    settings = service.settings
    middleware = [
        Middleware(Watch, service=service, metrics=metrics, paths=frozenset(route.path for route in routes)),
        Middleware(CORSMiddleware, allow_origins=settings.origins, allow_methods=["*"], allow_headers=["*"]),
        Middleware(Guard, key=settings.api_key, hosts=settings.hosts, origins=settings.origins),
    ]
    handlers: dict[Any, Any] = {ApiError: _refused, HTTPException: _no_such_page, Exception: _broken}
    return Starlette(routes=routes, middleware=middleware, exception_handlers=handlers)


class _Endpoints:
    def __init__(self, service: Service) -> None:
        self._service, self._answering = service, Answering(service)

    async def chat(self, request: Request) -> Response:
        return await self._answering.chat(request, await self._body(request, ChatBody))

    async def completion(self, request: Request) -> Response:
        return await self._answering.completion(request, await self._body(request, CompletionBody))

    async def models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._card(name) for name in self._service.settings.names]})

    async def model(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._service.settings.names:
            raise ApiError(404, f"model: '{name[:100]}' is not served here", param="model", code="model_not_found")
        return JSONResponse(self._card(name))

    async def health(self, request: Request) -> Response:
        """Tell a balancer whether to send more."""
        if self._service.closing:
            return JSONResponse({"status": "closing"}, 503)
        return JSONResponse({"status": "ok"})

    def _card(self, name: str) -> dict[str, Any]:
        service = self._service
        return {
            "id": name,
            "object": "model",
            "created": service.started,
            "owned_by": "bitsim",
            "max_model_len": service.engine.context,
            "chat": service.template is not None,
        }

    async def _body(self, request: Request, kind: type[Kind]) -> Kind:
        settings = self._service.settings
        return read(kind, await read_body(request, settings.max_body, settings.body_timeout_s))


def _file(name: str, kind: str) -> Any:
    content = (resources.files(__package__) / name).read_bytes()

    async def answer(request: Request) -> Response:
        return Response(content, media_type=kind, headers=_PAGE_HEADERS)

    return answer


async def _refused(request: Request, error: ApiError) -> Response:
    access = access_of(request)
    access.hung_up = error.status == GONE
    access.error = None if access.hung_up else error.message
    return error.response()


async def _no_such_page(request: Request, error: HTTPException) -> Response:
    message = f"{request.method} {request.url.path[:100]}: {error.detail}"
    return ApiError(error.status_code, message, code="not_found", headers=error.headers).response()


async def _broken(request: Request, error: Exception) -> Response:
    """Say nothing of what is inside; the server's own log has it."""
    return ApiError(500, "the server made a mistake; its log says more", code="internal_error", kind=OURS).response()
