import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # or transformers' quantisers compile C++ for a minute


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Several test processes share the cores, and threads of torch that wait for each other burn them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def small_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with 300 documents of a made-up language, whose words follow one another in a way that can be learnt."""
    random = np.random.default_rng(0)
    words = ["".join(random.choice(list("abcdefghij"), 4)) for _ in range(40)]
    follows = {word: random.choice(words, 3).tolist() for word in words}
    lines = []
    for _ in range(300):
        text = [str(random.choice(words))]
        for _ in range(80):
            text.append(str(random.choice(follows[text[-1]])))
        lines.append(" ".join(text) + ".")
    file = tmp_path_factory.mktemp("text") / "small.txt"
    file.write_text("\n<|endoftext|>\n".join(lines))
    return file
