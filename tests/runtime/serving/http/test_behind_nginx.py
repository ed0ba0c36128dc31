"""The files of the page on serving: two replicas behind nginx as the file says, and the service as systemd reads it."""

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from fake_language_model import fake_model

from .conftest import Serve, Served, slow

FILES = Path(__file__).parents[4] / "reports/docs/howto/files"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@pytest.fixture
def behind_nginx(tmp_path: Path) -> Iterator[Callable[[Served, Served], str]]:
    """Start nginx in front of two replicas; its address."""
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/opt/homebrew/bin")
    if nginx is None:
        pytest.skip("no nginx: apt-get install nginx-light")
    started: list[subprocess.Popen[bytes]] = []

    def start(one: Served, two: Served) -> str:
        port = free_port()
        text = (FILES / "nginx.conf").read_text(encoding="utf-8").replace("listen 80;", f"listen 127.0.0.1:{port};")
        for there, replica in (("127.0.0.1:8081", one), ("127.0.0.1:8082", two)):
            assert there in text
            text = text.replace(there, replica.url.removeprefix("http://"))
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        folders = "".join(f"{kind}_temp_path {tmp_path}/{kind}; " for kind in kinds)
        log = f"{tmp_path}/error.log"
        whole = (
            f"daemon off; pid {tmp_path}/pid; error_log {log}; events {{}} http {{ access_log off; {folders}\n{text}}}"
        )
        (tmp_path / "nginx.conf").write_text(whole)
        command = [nginx, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-e", log]
        started.append(subprocess.Popen(command))
        for _ in range(500):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.02)
        return f"http://127.0.0.1:{port}"

    yield start
    for process in started:
        process.terminate()
        process.wait()


def test_tokens_come_one_by_one_and_the_page_may_ask(serve: Serve, behind_nginx: Callable[..., str]) -> None:
    url = behind_nginx(*(serve(slow(fake_model(eos=()), 0.02)) for _ in range(2)))
    body = {"prompt": "the cat", "max_tokens": 40, "stream": True, "temperature": 0}
    with httpx.stream("POST", f"{url}/v1/completions", json=body, headers={"Origin": url}) as response:
        pieces = list(response.iter_raw())
    assert response.status_code == 200
    assert len(pieces) > 10
    assert httpx.get(f"{url}/metrics").status_code == 403
    assert httpx.post(f"{url}/v1/completions", content=b"x" * 5_000_000).status_code == 413


def test_a_replica_that_ends_takes_no_request_with_it(serve: Serve, behind_nginx: Callable[..., str]) -> None:
    replicas = [serve(slow(fake_model(eos=()), 0.005), grace_s=20) for _ in range(2)]
    url = behind_nginx(*replicas)
    statuses: list[int] = []

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=30) as client:
            for _ in range(12):
                statuses.append(client.post("/v1/completions", json={"prompt": "a", "max_tokens": 5}).status_code)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    replicas[0].wait_until(lambda: len(statuses) > 8)
    replicas[0].server.stop()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 48
    taken = [replica.engine.counters.accepted_requests for replica in replicas]
    assert sum(taken) == 48
    assert taken[1] > taken[0] > 0


def test_systemd_accepts_the_service(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze on this machine")
    text = (FILES / "bitsim.service").read_text(encoding="utf-8")
    path = tmp_path / "bitsim@8081.service"
    path.write_text(text.replace("/opt/bitsim/bin/bitsim", shutil.which("true") or ""))
    checked = subprocess.run([analyze, "verify", str(path)], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
