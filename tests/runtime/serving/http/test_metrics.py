"""/metrics and /health: what Prometheus reads, and what a balancer asks."""

from fake_language_model import fake_model
from prometheus_client.parser import text_string_to_metric_families

from .conftest import Serve, Served


def figures(served: Served) -> dict[str, float]:
    response = served.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    found = {}
    for family in text_string_to_metric_families(response.text):
        assert family.documentation
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sample.labels.items())
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def test_figures_count_what_happened(serve: Serve) -> None:
    served = serve(fake_model(eos=()))
    for _ in range(2):
        served.post("/v1/completions", json={"prompt": "the cat sat", "max_tokens": 5})
    served.post("/v1/completions", json={"prompt": 3})
    served.get("/a/path/of/a/stranger")
    served.get("/another")
    served.wait_until(lambda: len(served.accesses) == 5)
    now = figures(served)
    counters = served.engine.counters
    assert now["bitsim_new_tokens_total{}"] == counters.new_tokens == 10
    assert now["bitsim_prompt_tokens_total{}"] == counters.prompt_tokens
    assert now["bitsim_cached_tokens_total{}"] == counters.cached_tokens > 0
    assert now["bitsim_accepted_requests_total{}"] == 2
    assert now["bitsim_finished_requests_total{reason=length}"] == 2
    assert now["bitsim_waiting{}"] == now["bitsim_running{}"] == 0
    assert now["bitsim_http_requests_total{path=/v1/completions,status=200}"] == 2
    assert now["bitsim_http_requests_total{path=/v1/completions,status=400}"] == 1
    assert now["bitsim_http_requests_total{path=other,status=404}"] == 2
    assert now["bitsim_time_to_first_token_seconds_count{}"] == 2
    assert now["bitsim_time_per_output_token_seconds_count{}"] == 2
    assert now["bitsim_request_seconds_count{path=/v1/completions}"] == 2


def test_health(served: Served) -> None:
    assert served.get("/health").json() == {"status": "ok"}
