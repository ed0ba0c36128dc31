"""Refusals in the form that OpenAI's clients read."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse, Response

INVALID = "invalid_request_error"
OURS = "server_error"
BUSY = "rate_limit_error"
GONE = 499  # what nginx writes to its log for a client that hung up; nobody reads it


class ApiError(Exception):
    """What a client is told instead of an answer.

    Attributes:
        status: of HTTP.
        param: the field that is wrong, if it is one.
        code: for programs.
        kind: OpenAI's `type`.
        headers: to send along.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        kind: str = INVALID,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.kind = status, message, param, code, kind
        self.headers = dict(headers or {})

    def content(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def response(self) -> Response:
        """Return the response."""
        return JSONResponse(self.content(), self.status, self.headers)
