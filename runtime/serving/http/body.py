"""Reading what a client sends, within limits."""

import asyncio

from starlette.requests import ClientDisconnect, Request

from .errors import GONE, ApiError

# A connection closed with bytes unread is reset and its client gets no answer: what comes is thrown away for so long.
_LINGER_S = 1.0
_CLOSE = {"Connection": "close"}  # what is left of the request is not read


async def read_body(request: Request, most: int, seconds: float) -> bytes:
    """Return the body of a request.

    Raises:
        ApiError: more than `most` bytes (413; they are not kept), not all of it within `seconds` (408), or the client
            hung up.
    """
    declared = request.headers.get("content-length", "0")
    content, too_large = bytearray(), not declared.isdigit() or int(declared) > most
    try:
        async with asyncio.timeout(_LINGER_S if too_large else seconds) as limit:
            async for part in request.stream():
                if too_large:
                    continue
                content += part
                if len(content) > most:
                    too_large = True
                    limit.reschedule(asyncio.get_running_loop().time() + _LINGER_S)
    except TimeoutError as error:
        if not too_large:
            message = f"the request was not sent within {seconds:g} seconds"
            raise ApiError(408, message, code="timeout", headers=_CLOSE) from error
    except ClientDisconnect as error:
        raise ApiError(GONE, "the client hung up") from error
    if too_large:
        message = f"the request is larger than {most:,} bytes, the limit of this server"
        raise ApiError(413, message, code="request_too_large", headers=_CLOSE)
    return bytes(content)
