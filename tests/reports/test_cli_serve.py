"""bitsim serve: what it says, whom it lets in, and how it ends."""

import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from click.testing import Result

ORACLES = Path(__file__).parents[1] / "oracles"

# The command with a model of a few numbers in place of the one that it would load.
PROGRAM = """
import sys, time
sys.path.insert(0, sys.argv.pop(1))
from fake_language_model import FakeSequence, fake_model
from bitsim import runtime
from bitsim.reports.cli import main
pause = float(sys.argv.pop(1))
model = fake_model(eos=(), context=10_000)
model.weight_bytes = 1000
FakeSequence.bytes_per_token = 128
step = model.step
def slow(*args):
    time.sleep(pause)
    return step(*args)
model.step = slow
vars(runtime)["load"] = lambda path, **how: model
main()
"""


class Command:
    """`bitsim serve` with arguments, running."""

    def __init__(self, *args: str, pause: float = 0.0, **environment: str) -> None:
        command = [sys.executable, "-c", PROGRAM, str(ORACLES), str(pause), "serve", "--port", "0", *args]
        environment = {**os.environ, "NO_COLOR": "1", **environment}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        self.said: list[str] = []
        self.wait_for("is ready")
        found = re.search(r"http://\S+:\d+", self.said[-1])
        assert found
        self.url = found[0]

    def wait_for(self, text: str) -> str:
        assert self.process.stderr
        while not self.said or text not in self.said[-1]:
            line = self.process.stderr.readline()
            assert line, self.said
            self.said.append(line.rstrip("\n"))
        return self.said[-1]

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; return the exit code, with all that was said in `said`."""
        self.process.send_signal(number)
        assert self.process.stderr
        self.said += self.process.stderr.read().splitlines()
        return self.process.wait(20)


@pytest.fixture
def start() -> Iterator[Callable[..., Command]]:
    running: list[Command] = []

    def started(*args: str, **options: Any) -> Command:
        running.append(Command(*args, **options))
        return running[-1]

    yield started
    for command in running:
        command.process.kill()
        command.process.wait()
        assert command.process.stderr
        command.process.stderr.close()


def test_it_serves_says_so_and_ends_with_0(start: Callable[..., Command]) -> None:
    command = start("--model", "models/tiny.gguf", "--context", "1000", "--together", "4", "--queue", "8")
    assert command.said[0].startswith("tiny: ")
    assert command.said[0].endswith("parameters, made to chat")
    assert command.said[1] == (
        "1,000 tokens of context, 4 answers together, 8 more may wait; keys and values: 128 kB an answer at most, "
        "2.61 MB in all"
    )
    with openai.OpenAI(base_url=f"{command.url}/v1", api_key="none") as client:
        answer = client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "the cat"}], max_tokens=5
        )
        assert answer.usage
        assert answer.usage.completion_tokens == 5
    line = command.wait_for("POST")
    prompt = answer.usage.prompt_tokens
    assert re.fullmatch(
        rf"\d\d:\d\d:\d\d 127\.0\.0\.1  POST  /v1/chat/completions  200  {prompt} \+ 5 tokens, "
        r"first after \d+\.\d\d s, then [\d.]+/s, length  \d+\.\d\d s",
        line,
    )
    httpx.get(f"{command.url}/no%1bsuch\n".strip())
    assert "/no?such" in command.wait_for("GET")
    assert command.end() == 0
    assert command.said[-1] == "ended"
    assert not any("Warning" in line or "Traceback" in line for line in command.said)


def test_ctrl_c_lets_answers_finish(start: Callable[..., Command]) -> None:
    command = start(pause=0.02)
    with openai.OpenAI(base_url=f"{command.url}/v1", api_key="none") as client:
        stream = iter(client.completions.create(model="box", prompt="a", max_tokens=20, stream=True))
        next(stream)
        command.process.send_signal(signal.SIGINT)
        *_, last = stream
    assert last.choices[0].finish_reason == "length"
    assert command.process.wait(20) == 0


def test_the_grace_ends(start: Callable[..., Command]) -> None:
    command = start("--grace", "0.2", pause=0.02)
    with openai.OpenAI(base_url=f"{command.url}/v1", api_key="none") as client:
        stream = iter(client.completions.create(model="box", prompt="a", max_tokens=3000, stream=True))
        next(stream)
        command.process.send_signal(signal.SIGTERM)
        with pytest.raises(openai.APIError, match="the server ends"):
            list(stream)
    assert command.end() == 0
    assert any("the server ends" in line for line in command.said)


def test_others_reach_it_only_with_a_warning_or_a_key(start: Callable[..., Command]) -> None:
    open_to_all = start("--host", "0.0.0.0")
    assert open_to_all.said[-2].startswith("Warning: everybody who reaches this machine may use the model")
    assert httpx.get(f"{open_to_all.url}/v1/models", headers={"Host": "any.example"}).status_code == 200
    keyed = start("--host", "0.0.0.0", BITSIM_API_KEY="sesame")
    assert not any("Warning" in line for line in keyed.said)
    assert httpx.get(f"{keyed.url}/v1/models").status_code == 401
    assert httpx.get(f"{keyed.url}/v1/models", headers={"Authorization": "Bearer sesame"}).status_code == 200


def test_options_reach_the_server(start: Callable[..., Command], bitsim: Callable[..., Result]) -> None:
    names = (
        "--name",
        "one",
        "--name",
        "two",
        "--allow-host",
        "chat.example",
        "--allow-origin",
        "http://localhost:3000",
    )
    command = start(*names, "--max-body", "0.01", "--timeout", "0.3", "--seed", "3", pause=0.01)
    with httpx.Client(base_url=command.url) as client:
        assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["one", "two"]
        for host, status in (("evil.example", 403), ("chat.example", 200), ("localhost", 200)):
            assert client.get("/v1/models", headers={"Host": host}).status_code == status
        for origin, status in (("http://evil.example", 403), ("http://localhost:3000", 200)):
            assert client.get("/v1/models", headers={"Origin": origin}).status_code == status

        def ask(**body: Any) -> httpx.Response:
            return client.post("/v1/completions", json={"prompt": "a", "max_tokens": 5, **body})

        assert ask(prompt="a" * 20_000).status_code == 413
        assert ask(max_tokens=5000).status_code == 504
        assert len({ask().json()["choices"][0]["text"] for _ in range(3)}) == 1
    port = command.url.rpartition(":")[2]
    refused = bitsim("serve", "--port", port)
    assert refused.exit_code == 1
    assert re.fullmatch(rf"Error: 127\.0\.0\.1:{port}: cannot listen there \([^\n]+\)\n", refused.stderr)


BAD = [
    (("--port", "70000"), 2, "--port"),
    (("--host", "no.such.name.invalid"), 1, "no.such.name.invalid:8080: cannot listen there"),
    (("--host", "192.0.2.1"), 1, "192.0.2.1:8080: cannot listen there"),
    (("--api-key", ""), 2, "--api-key: expected letters"),
    (("--api-key", "a b "), 2, "--api-key: expected letters"),
    (("--context", "1"), 2, "--context"),
    (("--temperature", "-1"), 1, "temperature: expected"),
    (("--model", "no-such-model", "--port", "0"), 1, "no-such-model"),
]


@pytest.mark.parametrize(("args", "status", "said"), BAD)
def test_bad_requests_get_one_line(
    bitsim: Callable[..., Result], args: tuple[str, ...], status: int, said: str
) -> None:
    result = bitsim("serve", *args)
    assert result.exit_code == status, result.output
    assert re.fullmatch(r"Error: [^\n]+\n", result.stderr)
    assert said in result.stderr


def test_help_needs_none_of_it() -> None:
    code = """
    import sys
    for name in ("starlette", "uvicorn", "prometheus_client", "pydantic", "numba"):
        sys.modules[name] = None
    from bitsim.reports.cli import main
    sys.argv = ["bitsim", "serve", "--help"]
    main()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "$ bitsim serve --model ./model" in done.stdout
