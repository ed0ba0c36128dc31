"""Figures of the engine and of the requests, in the format of Prometheus."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..engine import Engine
from .access import Access

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 120, 300, 600)
_PER_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_NOW = {  # of the engine's counters: the field, the metric, what it is
    "waiting": ("waiting", "Requests in the queue"),
    "running": ("running", "Requests being answered"),
    "kept_tokens": ("kept_tokens", "Tokens of finished sequences kept for prompts that begin alike"),
    "longest_step_s": ("longest_step_seconds", "Longest that answers were held up between two tokens"),
}
_SUMS = {
    "accepted_requests": ("accepted_requests", "Requests taken into the queue"),
    "refused": ("refused_requests", "Requests turned away since the queue was full"),
    "prompt_tokens": ("prompt_tokens", "Prompt tokens, those found in memory counted too"),
    "cached_tokens": ("cached_tokens", "Prompt tokens found in memory"),
    "new_tokens": ("new_tokens", "Tokens of answers"),
    "steps": ("steps", "Passes over the weights"),
    "step_s": ("step_seconds", "Seconds in passes over the weights"),
    "queue_s": ("queue_seconds", "Seconds that requests waited, summed over them"),
    "drafted": ("drafted_tokens", "Tokens guessed ahead of the model"),
    "accepted": ("accepted_tokens", "Guessed tokens that the model then drew itself"),
}


class Metrics:
    """What /metrics tells."""

    def __init__(self, engine: Engine) -> None:
        """Begin to count, with the engine's own counts among them."""
        self._registry = registry = CollectorRegistry()
        registry.register(_OfEngine(engine))
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "bitsim_http_requests", "Requests by path and status", ["path", "status"], registry=registry
        )
        self._seconds = Histogram(
            "bitsim_request_seconds", "Seconds that answers took", ["path"], buckets=_SECONDS, registry=registry
        )
        self._first = Histogram(
            "bitsim_time_to_first_token_seconds", "Seconds to the first token", buckets=_SECONDS, registry=registry
        )
        self._each = Histogram(
            "bitsim_time_per_output_token_seconds", "Seconds between tokens", buckets=_PER_TOKEN, registry=registry
        )

    def observe(self, access: Access, path: str) -> None:
        """Count a request that is over; `path` is one of few, whatever was asked for."""
        self._requests.labels(path, str(access.status)).inc()
        if access.exchange is not None:
            self._seconds.labels(path).observe(access.seconds)
        if access.first_token_s is not None:
            self._first.observe(access.first_token_s)
        if access.seconds_per_token is not None:
            self._each.observe(access.seconds_per_token)

    def text(self) -> bytes:
        """Return all figures."""
        return generate_latest(self._registry)


class _OfEngine(Collector):
    """Reads the engine's counters when it is asked."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """Yield the figures as of now."""
        counters = self._engine.counters
        for field, (name, text) in _NOW.items():
            yield GaugeMetricFamily(f"bitsim_{name}", text, value=getattr(counters, field))
        for field, (name, text) in _SUMS.items():
            yield CounterMetricFamily(f"bitsim_{name}", text, value=getattr(counters, field))
        finished = CounterMetricFamily("bitsim_finished_requests", "Requests that ended, by reason", labels=["reason"])
        for reason, count in counters.finished.items():
            finished.add_metric([reason], count)
        yield finished
