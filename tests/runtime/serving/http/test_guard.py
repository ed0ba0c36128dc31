"""The key, and web pages of others."""

import pytest

from .conftest import Serve, Served

BODY = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1}


@pytest.fixture(scope="module")
def guarded(serve: Serve) -> Served:
    return serve(api_key="sesame-offne")


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer sesame",
        "Bearer sesame-offnex",
        "Basic sesame-offne",
        "sesame-offne",
        "Bearer \xff",
    ],
)
def test_without_the_key_nothing_is_answered(guarded: Served, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    for path in ("/v1/models", "/metrics", "/v1/nothing"):
        response = guarded.get(path, headers=headers)
        assert response.status_code == 401
        assert response.json()["error"]["code"] == "invalid_api_key"
        assert response.headers["www-authenticate"] == "Bearer"
    assert guarded.post("/v1/chat/completions", headers=headers, json=BODY).status_code == 401
    assert guarded.engine.counters.accepted_requests == 0


def test_with_it_all_is(guarded: Served) -> None:
    for scheme in ("Bearer", "bearer"):
        headers = {"Authorization": f"{scheme} sesame-offne"}
        assert guarded.get("/v1/models", headers=headers).status_code == 200
        assert guarded.get("/metrics", headers=headers).status_code == 200


def test_the_page_and_health_need_no_key(guarded: Served) -> None:
    for path in ("/", "/page.css", "/page.js", "/icon.svg", "/health"):
        assert guarded.get(path).status_code == 200


def test_pages_of_other_origins_may_not_ask(serve: Serve) -> None:
    served = serve(origins=("http://localhost:3000",))
    for origin, status in (
        (served.url, 200),
        ("http://localhost:3000", 200),
        ("http://evil.example", 403),
        ("null", 403),
        (served.url.replace("http", "file"), 200),
        ("http://[", 403),
    ):
        response = served.post("/v1/chat/completions", headers={"Origin": origin}, json=BODY)
        assert response.status_code == status, origin


def test_a_page_that_may_ask_is_told_so_by_the_rules_of_browsers(serve: Serve) -> None:
    served = serve(origins=("http://localhost:3000",), api_key="sesame")
    asking = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    for origin, status in (("http://localhost:3000", 200), ("http://evil.example", 400)):
        headers = {"Origin": origin, **asking}
        response = served.get("/v1/chat/completions", headers=headers)
        assert response.status_code in (401, 403)
        preflight = served.plain.options("/v1/chat/completions", headers=headers)
        assert preflight.status_code == status
        assert preflight.headers.get("access-control-allow-origin") == (origin if status == 200 else None)


def test_without_a_key_only_known_names_are_answered(serve: Serve) -> None:
    served = serve(hosts=frozenset({"127.0.0.1", "localhost", "::1"}))
    for host, status in (
        ("localhost:8080", 200),
        ("LOCALHOST", 200),
        ("[::1]:80", 200),
        ("evil.example", 403),
        ("evil.example:8080", 403),
        ("", 403),
        ("[", 403),
    ):
        assert served.get("/v1/models", headers={"Host": host}).status_code == status, host
