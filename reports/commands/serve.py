"""bitsim serve."""

from pathlib import Path
from queue import SimpleQueue
from typing import Any

import click

from ..extras import needing
from ..model_options import drawing, load_options, loaded, sampling_options, waiting
from ..serve_screen import access_line, address, introduction, is_loopback, warnings

_MIB = 1 << 20
_CONTEXT = 4096  # tokens of a sequence, where nothing is asked for and the model takes as much
_WARMING_TOKENS = 64  # enough for the products of many tokens, which are compiled apart from those of one
_HERE = ("localhost", "127.0.0.1", "::1")


@click.command(short_help="Serve a model over HTTP, as OpenAI's API, with a chat page.")
@load_options
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; 0.0.0.0 or :: for all of this machine, then use a key.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Port; 0 takes one that is free."
)
@click.option(
    "--api-key",
    envvar="BITSIM_API_KEY",
    metavar="KEY",
    help="Answer only those who show this key. Better given as the environment variable BITSIM_API_KEY: others on "
    "the machine see command lines.",
)
@click.option(
    "--name",
    multiple=True,
    metavar="NAME",
    help="What requests may call the model; may be given again. Default: the file's name.",
)
@click.option(
    "--context",
    type=click.IntRange(2),
    help="Tokens of a prompt and its answer at most. Default: the model's context, 4,096 at most.",
)
@click.option(
    "--together",
    type=click.IntRange(1, 1024),
    default=16,
    show_default=True,
    help="Answers that are written at the same time.",
)
@click.option(
    "--queue",
    type=click.IntRange(0),
    default=256,
    show_default=True,
    help="Requests that may wait beyond those; more are refused (429).",
)
@click.option(
    "--cache-tokens",
    type=click.IntRange(0),
    default=16384,
    show_default=True,
    help="Tokens of finished answers kept in memory for prompts that begin alike; 0: none.",
)
@click.option(
    "--speculate/--no-speculate",
    default=None,
    help="Guess tokens from the text so far and check several in one step; the answers are the same. "
    "Default: where it pays.",
)
@click.option(
    "--max-body",
    type=click.FloatRange(0.001, 1024),
    default=4.0,
    show_default=True,
    metavar="MIB",
    help="Largest request; a larger one is refused (413).",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="Time until an answer must be complete, waiting included.",
)
@click.option(
    "--grace",
    type=click.FloatRange(0, 86400),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Time that running answers get when the server is told to end.",
)
@click.option(
    "--allow-host",
    multiple=True,
    metavar="NAME",
    help="Another name by which browsers reach this server through a proxy; may be given again.",
)
@click.option(
    "--allow-origin",
    multiple=True,
    metavar="ORIGIN",
    help="A web page of another server that may ask here, such as http://localhost:3000; may be given again.",
)
@sampling_options
def serve(**options: Any) -> None:
    """Serve a model over HTTP: OpenAI's API, for any client of it, and a page to chat on.

    Answers /v1/chat/completions, /v1/completions and /v1/models, streams too; /health, /metrics (Prometheus), and /
    with the page. Requests that come together share each pass over the weights. What a request does not say, its
    temperature for one, is as the options say. Ctrl-C or SIGTERM lets running answers finish.

    \b
    Example, with a model in ./model:
      $ bitsim serve --model ./model --port 8080
      $ curl http://127.0.0.1:8080/v1/chat/completions -d '{"messages": [{"role": "user", "content": "Hello"}]}'
    """  # fmt: skip
    with needing("serve"):
        from bitsim.runtime.serving import http

    key = _checked_key(options["api_key"])
    sampling = drawing(options)
    with http.listen(options["host"], options["port"]) as listening:
        engine = _engine(loaded(options), options)
        host, port = listening.getsockname()[:2]
        settings = http.Settings(
            names=options["name"] or (Path(options["model"]).resolve().stem,),
            sampling=sampling,
            api_key=key,
            hosts=_known_hosts(host, key, options["allow_host"]),
            origins=options["allow_origin"],
            max_body=int(options["max_body"] * _MIB),
            timeout_s=options["timeout"],
        )
        service = http.Service(engine, settings, on_access=lambda access: _say(access_line(access)))
        _warm(engine)
        for line in (*introduction(engine, settings.names[0]), *warnings(host, key)):
            _say(line)
        _say(f"{address(host, port)} is ready; Ctrl-C ends it")
        http.run(service, listening, options["grace"])
    _say("ended")


def _checked_key(key: str | None) -> str | None:
    if key is not None and not (key.isascii() and key.isprintable() and key.strip() == key and key):
        raise click.UsageError("--api-key: expected letters, digits and signs without spaces around them")
    return key


def _known_hosts(host: str, key: str | None, more: tuple[str, ...]) -> frozenset[str] | None:
    """Return the names that browsers may know the server by; None for any, where others reach it or a key is needed."""
    if key is not None or not is_loopback(host):
        return None
    return frozenset((*_HERE, host, *more))


def _engine(model: Any, options: dict[str, Any]) -> Any:
    from bitsim.runtime.serving import Engine, Limits

    context = min(options["context"] or _CONTEXT, model.context)
    limits = Limits(**{name: options[name] for name in ("together", "queue", "cache_tokens")}, context=context)
    return Engine(model, limits=limits, speculate=options["speculate"])


def _warm(engine: Any) -> None:
    """Answer something, so that all that is compiled is compiled before anybody waits for it."""
    import numpy as np

    from bitsim.energy_tables import BitsimError
    from bitsim.runtime.generation import Request
    from bitsim.runtime.serving import Failure

    came: SimpleQueue[Any] = SimpleQueue()
    prompt = np.zeros(min(_WARMING_TOKENS, engine.context - 1), np.int64)
    with waiting("trying the model"):
        engine.submit(Request(prompt=prompt, max_new_tokens=4), came.put)
        last = next(delivery for delivery in iter(came.get, None) if isinstance(delivery, Failure) or delivery.finish)
    if isinstance(last, Failure):
        raise BitsimError(last.message)


def _say(line: str) -> None:
    click.echo(line, err=True)
