"""llama.cpp runs the GGUF files that we write: it thinks as our runtime and transformers do, token by token.

llama.cpp makes int8 of blocks of 256 activations and BitNet of whole tokens, so logits of random weights agree to
some percent, and now and then two tokens that are about equally likely change places.
"""

from contextlib import closing
from pathlib import Path
from typing import Any

import llama_cpp_model
import numpy as np
import pytest
import small_models

from bitsim.runtime.checkpoints import open_checkpoint, quantized, write_gguf, write_hugging_face
from bitsim.runtime.loading import load

NEW = 24
MODELS: dict[str, dict[str, Any]] = {
    "llama": small_models.WIDE | {"tie_word_embeddings": False},
    "qwen2": small_models.WIDE,
    # llama.cpp computes SiLU in a bitnet's feed-forward, whatever the file says: `bitsim convert` warns of relu2.
    "bitnet": small_models.WIDE | {"hidden_act": "silu", "tie_word_embeddings": True},
}


def in_llama_cpp(path: Path) -> tuple[Any, list[int]]:
    """Return the logits at the last of TOKENS and of each of the likeliest NEW tokens after them, and those tokens."""
    library = pytest.importorskip("llama_cpp", reason="`make bench-peers` installs llama-cpp-python")
    logits, new = [], small_models.TOKENS.tolist()
    with closing(llama_cpp_model.LlamaCpp(library, path, 1, 64)) as model:
        model.step(new)
        for _ in range(NEW):
            logits.append(model.logits())
            new.append(int(np.argmax(logits[-1])))
            model.step(new[-1:])
    return np.stack(logits), new


def in_bitsim(path: Path, tokens: list[int]) -> Any:
    """Return the logits at the NEW tokens before the last."""
    with closing(load(path, threads=1)) as model:
        return model.head.logits(model.hidden_states(model.sequence(64), np.array(tokens)))[-NEW - 1 : -1]


@pytest.mark.parametrize("kind", ["tq1_0", "tq2_0"])
@pytest.mark.parametrize("family", MODELS)
def test_llama_cpp_agrees(family: str, kind: str, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="`make bench-peers` installs llama-cpp-python")
    source = small_models.folder(tmp_path / "source", family, **MODELS[family])
    checkpoint = quantized(open_checkpoint(source))
    write_gguf(checkpoint, tmp_path / "model.gguf", kind)
    write_hugging_face(checkpoint, tmp_path / "packed")
    theirs, tokens = in_llama_cpp(tmp_path / "model.gguf")
    for ours in (in_bitsim(tmp_path / "model.gguf", tokens), in_bitsim(tmp_path / "packed", tokens)):
        errors = np.linalg.norm(ours - theirs, axis=1) / np.linalg.norm(theirs, axis=1)
        assert errors.max() < 0.06
        assert np.count_nonzero(ours.argmax(1) == theirs.argmax(1)) >= NEW - 4
