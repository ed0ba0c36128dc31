"""What `bitsim serve` says: what is served, where, what fits, and a line for each request."""

import ipaddress
import os
import time
from collections.abc import Iterator
from typing import Any


def introduction(engine: Any, name: str) -> Iterator[str]:
    """Yield what is served, and what fits."""
    from bitsim.energy_tables.units import format_count, format_si

    model, limits = engine.model, engine.limits
    yield f"{name}: {format_count(model.config.spec.parameters)} parameters, {_chat(model)}"
    token = model.sequence(1).bytes_per_token
    each, most = engine.context * token, (limits.together * engine.context + limits.cache_tokens) * token
    yield (
        f"{engine.context:,} tokens of context, {limits.together} answers together, {limits.queue} more may wait; "
        f"keys and values: {format_si(each, 'B')} an answer at most, {format_si(most, 'B')} in all"
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if most + model.weight_bytes > memory:
        yield (
            f"Warning: with the weights that is more than this machine's {format_si(memory, 'B')}: fewer --together, "
            "or a smaller --context, or --kv int8"
        )


def _chat(model: Any) -> str:
    return "made to chat" if model.text.chat_template is not None else "no chat format: /v1/completions alone"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    return ipaddress.ip_address(host).is_loopback


def warnings(host: str, key: str | None) -> Iterator[str]:
    """Yield what the person who starts the server should know about who can reach it."""
    if key is None and not is_loopback(host):
        yield (
            "Warning: everybody who reaches this machine may use the model: no key is set "
            "(BITSIM_API_KEY=... or --api-key)"
        )


def address(host: str, port: int) -> str:
    """Return where a browser on this machine finds the server."""
    known = ipaddress.ip_address(host)
    name = ("[::1]" if known.version == 6 else "127.0.0.1") if known.is_unspecified else host
    return f"http://{f'[{name}]' if ':' in name and name[0] != '[' else name}:{port}/"


def access_line(access: Any) -> str:
    """Return one line about a request that is over."""
    from bitsim.energy_tables.errors import shown

    words = [access.client, access.method, shown(access.path, 80), str(access.status)]
    if access.exchange is not None and access.exchange.tickets:
        words.append(_tokens(access))
    if access.error:
        words.append(shown(access.error, 200))
    if access.hung_up:
        words.append("the client hung up")
    line = f"{time.strftime('%H:%M:%S')} {'  '.join(words)}  {access.seconds:.2f} s"
    return "".join(c if c.isprintable() else "?" for c in line)  # a path may hold what a terminal obeys


def _tokens(access: Any) -> str:
    usage = access.exchange.usage(access.answers_each)
    cached = f" ({usage.cached_tokens} kept)" if usage.cached_tokens else ""
    words = [f"{usage.prompt_tokens}{cached} + {usage.completion_tokens} tokens"]
    if access.first_token_s is not None:
        words.append(f"first after {access.first_token_s:.2f} s")
    if access.seconds_per_token:
        words.append(f"then {1 / access.seconds_per_token:.1f}/s")
    if access.finish:
        words.append(access.finish)
    return ", ".join(words)
