"""bitsim run, chat and eval on a model of a few numbers: what they print, where, and how they end."""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fake_language_model import FakeModel, fake_model

from bitsim import runtime
from bitsim.reports import answer as answers
from bitsim.reports.cli import cli
from bitsim.reports.commands import chat as chat_command
from bitsim.runtime.generation import ChatTemplate, Sampling, Tokenizer, generate, perplexity

Run = Callable[..., Result]


class Loaded:
    """Stands for `load`: gives the fake model, and remembers how it was asked for."""

    def __init__(self) -> None:
        self.model = fake_model(context=500)
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, path: str, **how: Any) -> FakeModel:
        how.pop("progress")(1, 2)
        self.asked.append((path, how))
        return self.model


@pytest.fixture(autouse=True)
def loaded(monkeypatch: pytest.MonkeyPatch) -> Loaded:
    stands_for_load = Loaded()
    monkeypatch.setitem(vars(runtime), "load", stands_for_load)  # setattr would import the real one first
    return stands_for_load


def typed(text: str, *args: str) -> Result:
    return CliRunner().invoke(cli, list(args), input=text)


def expected(model: FakeModel, prompt: Any, count: int = 20, **options: Any) -> str:
    return "".join(piece.text for piece in generate(model, prompt, max_new_tokens=count, **options))


def chat_tokens(model: FakeModel, *texts: str) -> Any:
    roles = ("user", "assistant") * len(texts)
    messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    return ChatTemplate(model.text).encode(Tokenizer(model.text), messages)


def interrupting(model: FakeModel, at: int) -> None:
    """Let Ctrl-C come in the model's step of that number."""
    step, count = model.step, iter(range(1_000_000))

    def stopped(parts: Any, last: Any = None) -> Any:
        if next(count) == at:
            raise KeyboardInterrupt
        return step(parts, last)

    model.step = stopped  # type: ignore[method-assign]


GREEDY = ("--temperature", "0")
HALF = "\n\N{REPLACEMENT CHARACTER}"  # held back until the rest of a character comes, and here none does
LINE = (
    r"\d+ prompt tokens at \d+\.\d/s, 20 new tokens at \d+\.\d/s, "
    r"first after \d+\.\d\d s, cut at --max-tokens\n"
)


def test_raw_text_goes_to_standard_output_and_its_speed_to_standard_error(bitsim: Run, loaded: Loaded) -> None:
    result = bitsim("run", "the cat", "--model", "here", "--max-tokens", "20", "--raw", *GREEDY)
    assert result.exit_code == 0
    text = expected(loaded.model, "the cat")
    assert result.stdout == text + "\n" * (not text.endswith("\n"))
    assert re.fullmatch(LINE, result.stderr)
    assert loaded.asked == [("here", {"threads": None, "head": None, "kv": "f16"})]


def test_a_chat_model_is_asked_in_its_format_and_one_without_goes_on(bitsim: Run, loaded: Loaded) -> None:
    args = ("run", "the cat", "--model", "m", "--max-tokens", "20", *GREEDY, "--format", "json")
    asked = json.loads(bitsim(*args).stdout)
    assert asked["text"] == expected(loaded.model, chat_tokens(loaded.model, "the cat"))
    loaded.model = fake_model(chat_template=None)
    assert json.loads(bitsim(*args).stdout)["text"] == expected(loaded.model, "the cat")
    refused = bitsim(*args, "--chat")
    assert refused.exit_code == 1
    assert "no chat template" in refused.stderr


def test_json_alone_is_on_standard_output(bitsim: Run, loaded: Loaded) -> None:
    loaded.model = fake_model(eos=())
    args = ("run", "a", "--model", "m", "--raw", "--max-tokens", "20", "--temperature", "1.5")
    result = bitsim(*args, "--format", "json")
    found = json.loads(result.stdout)
    assert result.stderr == ""
    assert list(found) == [
        "model", "text", "prompt_tokens", "new_tokens", "finish", "seconds_to_first_token", "prompt_tokens_per_s",
        "tokens_per_s", "seconds_to_load", "seed",
    ]  # fmt: skip
    again = Sampling(temperature=1.5, top_k=40, top_p=0.95, min_p=0.05, seed=found["seed"])
    assert found["text"] == expected(loaded.model, "a", sampling=again)
    assert (found["prompt_tokens"], found["new_tokens"], found["finish"]) == (1, 20, "length")
    (row,) = csv.DictReader(io.StringIO(bitsim(*args, "--format", "csv").stdout))
    assert list(row) == list(found)


def test_the_model_in_the_box_is_asked_and_the_seed_said(bitsim: Run, loaded: Loaded) -> None:
    loaded.model = fake_model(eos=(), chat_template=None)
    result = bitsim("run", "a", "--max-tokens", "20")
    assert loaded.asked[-1][0] == "box"
    seed = re.search(r", seed (\d+)\n$", result.stderr)
    assert seed
    again = Sampling(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05, seed=int(seed[1]))
    text = expected(loaded.model, "a", sampling=again)
    assert result.stdout == text + "\n" * (not text.endswith("\n"))


def test_options_reach_the_model(bitsim: Run, loaded: Loaded) -> None:
    how = ("--threads", "2", "--head", "exact", "--kv", "int8")
    drawn = ("--temperature", "2", "--top-k", "0", "--top-p", "0.9", "--min-p", "0", "--repetition-penalty", "1.2")
    args = ("run", "a", "--model", "m", "--raw", "--max-tokens", "20", *how, *drawn, "--seed", "3")
    sampling = Sampling(temperature=2, top_p=0.9, repetition_penalty=1.2, seed=3)
    text = expected(loaded.model, "a", sampling=sampling)
    assert json.loads(bitsim(*args, "--format", "json").stdout)["text"] == text
    assert loaded.asked[-1][1] == {"threads": 2, "head": "exact", "kv": "int8"}
    found = json.loads(bitsim(*args, "--stop", "\1never", "--stop", text[3:5], "--format", "json").stdout)
    assert found["text"] == text[: text.index(text[3:5])]
    assert found["finish"] == "stop"


def test_the_prompt_may_come_from_standard_input(loaded: Loaded) -> None:
    result = typed("the\ncat\n", "run", "-", "--model", "m", "--raw", "--max-tokens", "20", *GREEDY, "--format", "json")
    assert json.loads(result.stdout)["text"] == expected(loaded.model, "the\ncat")


def test_ctrl_c_ends_the_answer_cleanly(bitsim: Run, loaded: Loaded) -> None:
    interrupting(loaded.model, at=5)
    result = bitsim("run", "the", "--model", "m", "--raw", *GREEDY)
    text = expected(fake_model(context=500), "the", 5)
    assert result.exit_code == 1
    assert result.stdout.rstrip("\n") == text.rstrip(HALF)
    assert result.stderr.endswith(", interrupted\n")
    assert len(result.stderr.splitlines()) == 1
    loaded.model = fake_model()
    interrupting(loaded.model, at=0)
    assert bitsim("run", "a", "--model", "m", "--raw", *GREEDY).stderr == "1 prompt token, no answer\n"


BAD = [
    (("run", "--model", "m"), 2, "PROMPT"),
    (("run", "a", "--model", "m", "--temperature", "-1"), 1, "temperature: expected a number from 0 to 100, got -1.0"),
    (("run", "a", "--model", "m", "--temperature", "nan"), 1, "temperature: expected"),
    (("run", "a", "--model", "m", "--top-k", "-1"), 1, "top_k: expected"),
    (("run", "a", "--model", "m", "--top-p", "0"), 1, "top_p: expected"),
    (("run", "a", "--model", "m", "--seed", "-1"), 1, "seed: expected"),
    (("run", "a", "--model", "m", "--max-tokens", "0"), 2, "--max-tokens"),
    (("run", "a", "--model", "m", "--threads", "0"), 2, "--threads"),
    (("run", "a", "--model", "m", "--stop", ""), 1, "stop: expected a text"),
    (("run", "b" * 600, "--model", "m"), 1, "more than the 500 there is room for"),
    (("run", "\udcff", "--model", "m"), 1, "expected text in UTF-8"),
    (("chat", "--model", "m", "--context", "501"), 1, "context"),
    (("eval", "--model", "m"), 2, "--text"),
    (("eval", "--model", "m", "--text", "no-such.txt"), 1, "no-such.txt: no such file"),
    (("eval", "--model", "m", "--text", "."), 1, ".: cannot be read"),
    (("eval", "--model", "m", "--text", "\0"), 1, "cannot be read"),
    (("eval", "--model", "m", "--text", "README.md", "--context", "501"), 1, "context: expected 1 to the model's 500"),
]


@pytest.mark.parametrize(("args", "status", "said"), BAD)
def test_bad_requests_get_one_line(bitsim: Run, args: tuple[str, ...], status: int, said: str) -> None:
    result = bitsim(*args)
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    assert re.fullmatch(r"Error: [^\n]+\n", result.stderr)
    assert said in result.stderr


def test_a_model_that_was_not_made_to_chat_says_so(bitsim: Run, loaded: Loaded) -> None:
    loaded.model = fake_model(chat_template=None)
    result = bitsim("chat", "--model", "m")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: the model has no chat template")
    loaded.model = fake_model(tokenizer=None)
    for command in (("run", "a"), ("chat",), ("eval", "--text", "README.md")):
        result = bitsim(*command, "--model", "m")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("Error: the model comes without a tokenizer")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path, bitsim: Run) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"abc\xff")
    assert "expected text in UTF-8, got other bytes at 3" in bitsim("eval", "--model", "m", "--text", str(path)).stderr
    result = CliRunner().invoke(cli, ["run", "-", "--model", "m"], input=b"\xff")
    assert result.stderr == "Error: standard input: expected text in UTF-8, got other bytes at 0\n"


CHAT = ("chat", "--model", "m", "--temperature", "0", "--max-tokens", "20")


def test_a_conversation_goes_on_until_it_is_cleared(loaded: Loaded) -> None:
    result = typed("hello\n\nand then\n/clear\nhello\n/help\n/exit\nnever\n", *CHAT)
    assert result.exit_code == 0
    first = expected(loaded.model, chat_tokens(loaded.model, "hello"))
    second = expected(loaded.model, chat_tokens(loaded.model, "hello", first, "and then"))
    assert result.stdout == "".join(text + "\n" * (not text.endswith("\n")) for text in (first, second, first))
    assert result.stderr.count("/clear forgets") == 1


def test_ctrl_c_stops_an_answer_and_not_the_chat(loaded: Loaded) -> None:
    interrupting(loaded.model, at=5)
    result = typed("hello\n/clear\nhello\n", *CHAT)
    assert result.exit_code == 0
    whole = expected(fake_model(context=500), chat_tokens(loaded.model, "hello"))
    part = expected(fake_model(context=500), chat_tokens(loaded.model, "hello"), 5)
    assert result.stdout == part.rstrip(HALF) + "\n" + whole + "\n" * (not whole.endswith("\n"))


def test_a_system_text_comes_first_and_a_message_too_long_ends_a_piped_chat(loaded: Loaded) -> None:
    result = typed("hi\n" + "b" * 600 + "\n", *CHAT, "--system", "be brief")
    assert result.exit_code == 1
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    tokens = ChatTemplate(loaded.model.text).encode(Tokenizer(loaded.model.text), messages)
    assert result.stdout.rstrip("\n") == expected(loaded.model, tokens).rstrip("\n")
    assert re.fullmatch(r"Error: the text has \d+ tokens, more than the 500 there is room for\n", result.stderr)


def test_on_a_terminal_an_error_is_said_and_ctrl_c_gives_another_prompt(
    monkeypatch: pytest.MonkeyPatch, loaded: Loaded
) -> None:
    said: Iterator[str | BaseException] = iter([KeyboardInterrupt(), "b" * 600, "hello", EOFError()])

    def read(prompt: str) -> str:
        assert prompt == "> "
        now = next(said)
        if isinstance(now, BaseException):
            raise now
        return now

    monkeypatch.setattr(chat_command, "on_terminal", lambda: True)
    monkeypatch.setattr("builtins.input", read)
    result = typed("", *CHAT)
    assert result.exit_code == 0
    text = expected(loaded.model, chat_tokens(loaded.model, "hello"))
    assert result.stdout == text + "\n" * (not text.endswith("\n")) + "\n"
    assert result.stderr.count("/clear forgets") == 2
    assert "there is room for; /clear begins anew" in result.stderr


def test_a_terminal_gets_no_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    class Screen(io.StringIO):
        encoding = "ascii"

        def isatty(self) -> bool:
            return True

    screen = Screen()
    monkeypatch.setattr("sys.stdout", screen)
    answers.say("a\x1b[2Jb\n\tc\x07\x9bé")
    assert screen.getvalue() == "a[2Jb\n\tc??"
    monkeypatch.setattr("sys.stdout", None)
    answers.say("nobody listens")


def test_eval_measures_a_text(bitsim: Run, loaded: Loaded, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("the cat sat on the mat, and then it thought.\n", encoding="utf-8")
    args = ("eval", "--model", "m", "--text", str(path), "--context", "10", "--stride", "5")
    found = json.loads(bitsim(*args, "--format", "json").stdout)
    whole = perplexity(loaded.model, path.read_text(encoding="utf-8"), context=10, stride=5)
    names = ("loss", "perplexity", "bits_per_byte", "tokens", "bytes", "context")
    assert [found[name] for name in names] == [getattr(whole, name) for name in names]
    assert found["tokens_per_s"] == pytest.approx(found["tokens"] / found["seconds"])
    screen = bitsim(*args).stdout
    assert f"perplexity {whole.perplexity:.4f}, {whole.bits_per_byte:.4f} bits per byte" in screen
    assert f"{whole.tokens} tokens, {whole.bytes} bytes, context 10" in screen
    text = path.read_text(encoding="utf-8")
    piped = typed(text, *(arg if arg != str(path) else "-" for arg in args), "--format", "json")
    assert json.loads(piped.stdout)["loss"] == whole.loss


def test_a_perplexity_beyond_all_numbers_is_null(bitsim: Run, loaded: Loaded, tmp_path: Path) -> None:
    loaded.model = fake_model(scale=1e4)
    path = tmp_path / "text.txt"
    path.write_text("the cat", encoding="utf-8")
    found = json.loads(bitsim("eval", "--model", "m", "--text", str(path), "--format", "json").stdout)
    assert found["perplexity"] is None
    assert math.isfinite(found["loss"])
    assert "perplexity beyond all numbers" in bitsim("eval", "--model", "m", "--text", str(path)).stdout
