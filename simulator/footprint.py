"""Main memory that a model and its workload take, and what fits."""

from dataclasses import dataclass

from bitsim.energy_tables.units import BITS_PER_BYTE

from .model_spec import ModelSpec
from .schemes import Scheme

# Rows of a prompt that serving software works on at once (vLLM's default max_num_batched_tokens).
PREFILL_ROWS = 8192


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes by part. `runtime` is what the software sets aside beyond the KV cache and activations."""

    weights: float
    embedding_and_head: float
    kv_cache: float
    activations: float
    runtime: float

    @property
    def total(self) -> float:
        """All parts together (bytes)."""
        return self.weights + self.embedding_and_head + self.kv_cache + self.activations + self.runtime


def weight_bytes(spec: ModelSpec, scheme: Scheme) -> float:
    """Packed linear weights, norms, biases and routers (bytes)."""
    return (spec.parameters_linear * scheme.weight_bits + spec.parameters_other * scheme.embedding_bits) / BITS_PER_BYTE


def embedding_and_head_bytes(spec: ModelSpec, scheme: Scheme) -> float:
    """Token embedding, and the head where it is a tensor of its own (bytes)."""
    head_bits = 0.0 if spec.tied_head else scheme.head_bits
    return spec.vocab * spec.hidden * (scheme.embedding_bits + head_bits) / BITS_PER_BYTE


def kv_bytes_per_token(spec: ModelSpec, scheme: Scheme) -> float:
    """Keys and values of one token in all layers (bytes)."""
    return 2.0 * spec.layers * spec.kv_width * scheme.kv_bits / BITS_PER_BYTE


def widest_elements(spec: ModelSpec) -> int:
    """Elements per row that the widest step of a layer keeps alive."""
    ffn_width = (2 if spec.gated_ffn else 1) * spec.ffn * spec.experts_per_token
    return spec.hidden + max(spec.query_width + 2 * spec.kv_width, ffn_width)


def activation_bytes(spec: ModelSpec, scheme: Scheme, batch: int, prompt_tokens: int) -> float:
    """Live activations: the widest step of a layer for the rows in work, and one row of logits a sequence (bytes)."""
    rows = max(min(batch * prompt_tokens, PREFILL_ROWS), batch)
    return (rows * widest_elements(spec) + batch * spec.vocab) * scheme.hidden_bits / BITS_PER_BYTE


def footprint(
    spec: ModelSpec, scheme: Scheme, batch: int, prompt_tokens: int, context: int, workspace: float = 0.0
) -> Footprint:
    """Memory for `batch` sequences of `context` tokens. `workspace`: see `Engine.workspace` (bytes)."""
    kv_cache = batch * context * kv_bytes_per_token(spec, scheme)
    activations = activation_bytes(spec, scheme, batch, prompt_tokens)
    return Footprint(
        weights=weight_bytes(spec, scheme),
        embedding_and_head=embedding_and_head_bytes(spec, scheme),
        kv_cache=kv_cache,
        activations=activations,
        runtime=max(workspace - kv_cache - activations, 0.0),
    )


def largest_context(
    spec: ModelSpec, scheme: Scheme, capacity_bytes: float, prompt_tokens: int = 512, workspace: float = 0.0
) -> int:
    """Longest context of one sequence that fits beside the model, 0 when the model itself does not fit."""
    empty = footprint(spec, scheme, batch=1, prompt_tokens=prompt_tokens, context=0, workspace=workspace)
    if empty.total > capacity_bytes:
        return 0
    room = capacity_bytes - (empty.total - empty.runtime)
    return int(room / kv_bytes_per_token(spec, scheme))


def largest_batch(
    spec: ModelSpec,
    scheme: Scheme,
    capacity_bytes: float,
    prompt_tokens: int,
    context: int,
    workspace: float = 0.0,
) -> int:
    """Most sequences of `context` tokens that fit beside the model, 0 when not even one does."""

    def fits(batch: int) -> bool:
        return footprint(spec, scheme, batch, prompt_tokens, context, workspace).total <= capacity_bytes

    if not fits(1):
        return 0
    high = 2
    while fits(high) and high < 2**40:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
