"""A training step of ternary twins against their FP16 twin: time, in turns in one process, and peak memory of each.

A step is forward, backward and AdamW in bfloat16 autocast, on random tokens. The FP16 twin is transformers' Llama. One
ternary twin is that with a norm inside every BitLinear, the other transformers' BitNet, with sub-norms.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from bitsim.training.bitlinear import transform
from bitsim.training.quantize import Quantization

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ROUNDS, THREADS = 4, 2
FULL, INSIDE, SUB = "fp16", "ternary, norms inside", "ternary, sub-norms"
TWINS = (FULL, INSIDE, SUB)
SHAPES = {
    "50M": {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 12, "num_attention_heads": 8},
    "1.3B": {"hidden_size": 2048, "intermediate_size": 5440, "num_hidden_layers": 24, "num_attention_heads": 32},
}
TOKENS = {"50M": (8, 512), "1.3B": (8, 2048)}  # sequences, context
MOST_MEMORY = 1.15


def twin(name: str, shape: str) -> Any:
    """Return a model fresh from its seed."""
    sizes: dict[str, Any] = SHAPES[shape] | {"max_position_embeddings": TOKENS[shape][1], "use_cache": False}
    sizes |= {"vocab_size": 8192, "num_key_value_heads": sizes["num_attention_heads"], "pad_token_id": None}
    sizes |= {"bos_token_id": 1, "eos_token_id": 2}
    torch.manual_seed(0)
    if name == SUB:
        model: Any = transformers.BitNetForCausalLM(transformers.BitNetConfig(hidden_act="silu", **sizes))
    else:
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes))
    if name != FULL:
        transform(model, Quantization("ternary"), norm_eps=1e-6 if name == INSIDE else None)
    return model.to(DEVICE).train()


def stepper(name: str, shape: str) -> Callable[[], float]:
    """Return a function that takes a step and returns its seconds."""
    model = twin(name, shape)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), fused=True)
    tokens = torch.randint(8192, TOKENS[shape], generator=torch.Generator().manual_seed(1)).to(DEVICE)

    def step() -> float:
        start = time.perf_counter()
        with torch.autocast(DEVICE, dtype=torch.bfloat16):
            loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        assert torch.isfinite(loss)  # waits for a GPU
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    return step


def best_of_turns(shape: str) -> dict[str, float]:
    """Return the fewest seconds of each twin's step; the first turn only warms up."""
    steps = {name: stepper(name, shape) for name in TWINS}
    turns = [{name: step() for name, step in steps.items()} for _ in range(ROUNDS + 1)]
    return {name: min(turn[name] for turn in turns[1:]) for name in TWINS}


def peak_bytes(name: str, shape: str) -> int:
    """Return the peak memory of two steps in a process of their own, over what it took before there was a model.

    The C library is told to give every large block back at once: what it would keep for later differs from run to run.
    """
    command = [sys.executable, __file__, name, shape]
    exact = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(1 << 18)}
    return int(subprocess.run(command, check=True, capture_output=True, text=True, env=exact).stdout)


def own_peak() -> int:
    if DEVICE == "cuda":
        return torch.cuda.max_memory_allocated()
    # Not ru_maxrss, which counts what the parent process held when it started this one.
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@pytest.fixture(params=list(SHAPES))
def shape(request: pytest.FixtureRequest) -> str:
    if request.param == "1.3B" and DEVICE == "cpu":
        pytest.skip("a shape for GPUs")
    return str(request.param)


def test_time_of_a_step(shape: str, show: Any) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        best = best_of_turns(shape)
    finally:
        torch.set_num_threads(before)
    sequences, context = TOKENS[shape]
    show(
        f"training step, {shape}, {sequences} x {context} tokens, {DEVICE}:",
        *(f"  {name:24} {seconds * 1e3:8,.0f} ms  {seconds / best[FULL]:5.2f}" for name, seconds in best.items()),
    )


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
def test_peak_memory(shape: str, show: Any) -> None:
    peak = {name: peak_bytes(name, shape) for name in TWINS}
    show(
        f"peak memory of training, {shape}, {DEVICE}:",
        *(f"  {name:24} {bytes_ / 1e6:8,.0f} MB  {bytes_ / peak[FULL]:5.2f}" for name, bytes_ in peak.items()),
    )
    assert max(peak.values()) <= MOST_MEMORY * peak[FULL]


if __name__ == "__main__":
    torch.set_num_threads(THREADS)
    start = own_peak()
    step = stepper(*sys.argv[1:])
    step()
    step()
    sys.stdout.write(str(own_peak() - start))
