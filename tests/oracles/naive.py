"""A slow twin of the cost model: every layer, matrix, token and attention pair is visited and added up.

Written from the definitions, not from the closed forms: `simulator/operations.py` and `cost.py` say what is counted.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from bitsim.simulator import ModelSpec, Scheme
from bitsim.simulator.cost import Machine

KINDS = {"embedding": "head", "norms and activations": "head", "head": "head", "attention.scores": "attention"}
GROUPS = {
    "attention.qkv": ("q", "k", "v"),
    "attention.output": ("o",),
    "ffn.up": ("gate", "up"),
    "ffn.down": ("down",),
}


@dataclass
class Tally:
    """What one operation does in a phase."""

    macs: float = 0.0
    weight_bytes: float = 0.0
    kv_bytes: float = 0.0
    activation_bytes: float = 0.0
    vector_ops: float = 0.0


@dataclass
class Phase:
    """A phase, operation by operation, and its totals."""

    tallies: dict[str, Tally]
    dram_bytes: dict[str, float] = field(default_factory=dict)
    on_chip_bytes: dict[str, float] = field(default_factory=dict)
    latency_s: dict[str, float] = field(default_factory=dict)
    arithmetic_j: float = 0.0
    vector_j: float = 0.0
    dram_j: float = 0.0
    on_chip_j: float = 0.0
    fixed_s: float = 0.0
    link_bytes: float = 0.0
    link_s: float = 0.0
    total_s: float = 0.0
    static_j: float = 0.0


def count(spec: ModelSpec, scheme: Scheme, batch: int, tokens: int, past: int) -> dict[str, Tally]:
    """Count a phase of `tokens` tokens in each of `batch` sequences after `past` ones; logits for the last token."""
    tally: defaultdict[str, Tally] = defaultdict(Tally)
    for _ in range(batch * tokens):
        tally["embedding"].weight_bytes += spec.hidden * scheme.embedding_bits / 8
        tally["embedding"].activation_bytes += spec.hidden * scheme.hidden_bits / 8
    for _ in range(spec.layers):
        for _ in range(batch * tokens):
            _one_token(spec, scheme, tally)
        for _ in range(batch):
            _one_attention(spec, scheme, tokens, past, tally["attention.scores"])
        if batch * tokens:
            _weights_of_a_layer(spec, scheme, batch * tokens, tally)
    if batch * tokens:  # the last norm
        tally["norms and activations"].weight_bytes += spec.hidden * scheme.embedding_bits / 8
    for _ in range(batch if tokens else 0):
        tally["head"].macs += spec.vocab * spec.hidden
        tally["head"].activation_bytes += (spec.hidden + spec.vocab) * scheme.hidden_bits / 8
    if batch * tokens:
        tally["head"].weight_bytes += spec.vocab * spec.hidden * scheme.head_bits / 8
    return tally


def _norms(spec: ModelSpec) -> Iterator[int]:
    """Width of each norm that a token passes in a layer."""
    yield from [spec.hidden] * (4 if spec.post_norms else 2)
    if spec.sub_norms:
        yield from (spec.query_width, spec.ffn)
    if spec.qk_norm:
        yield from [spec.head_dim] * (spec.heads + spec.kv_heads)


def _one_token(spec: ModelSpec, scheme: Scheme, tally: dict[str, Tally]) -> None:
    """One token through the matrices and norms of one layer."""
    for name, members in GROUPS.items():
        matrices = [matrix for matrix in spec.linears() if matrix.name in members]
        for _ in range(spec.experts_per_token if name.startswith("ffn") else 1):
            inputs = matrices[0].inputs  # read once for matrices that share it
            tally[name].activation_bytes += inputs * scheme.activation_bits / 8
            tally[name].vector_ops += 3 * inputs * scheme.scaled  # maximum, multiply, round
            for matrix in matrices:
                tally[name].macs += matrix.inputs * matrix.outputs
                tally[name].activation_bytes += matrix.outputs * scheme.hidden_bits / 8
                tally[name].vector_ops += matrix.outputs * scheme.scaled  # rescale
    other = tally["norms and activations"]
    other.activation_bytes += 4 * spec.hidden * scheme.hidden_bits / 8
    other.vector_ops += 2 * spec.hidden  # two residual additions
    for width in _norms(spec):
        other.vector_ops += 4 * width  # square, add, multiply by 1/rms, multiply by weight
    for _ in range(spec.experts_per_token):
        other.vector_ops += 4 * spec.ffn  # negate, exp, add, divide
        other.vector_ops += spec.ffn * spec.gated_ffn  # times the gate
    if spec.experts > 1:
        other.macs += spec.hidden * spec.experts  # router
    tally["attention.scores"].vector_ops += 3 * (spec.query_width + spec.kv_width)  # rotary angles
    tally["attention.scores"].activation_bytes += 2 * spec.query_width * scheme.hidden_bits / 8


def _one_attention(spec: ModelSpec, scheme: Scheme, tokens: int, past: int, tally: Tally) -> None:
    """Attention of one sequence in one layer: each token to all before it and itself."""
    for token in range(tokens):
        for _ in range(past + token + 1):
            for _ in range(spec.heads):
                tally.macs += 2 * spec.head_dim  # the score, and its share of the values
                tally.vector_ops += 5  # softmax: maximum, subtract, exp, add, divide
    for _ in range((past + tokens) if tokens else 0):
        tally.kv_bytes += 2 * spec.kv_width * scheme.kv_bits / 8  # read once
    for _ in range(tokens):
        tally.kv_bytes += 2 * spec.kv_width * scheme.kv_bits / 8  # written


def _weights_of_a_layer(spec: ModelSpec, scheme: Scheme, rows: int, tally: dict[str, Tally]) -> None:
    """Weights that a layer reads once for all rows; of the experts, those that any row is expected to choose."""
    touched = 0.0
    for _ in range(spec.experts):
        missed = 1.0
        for _ in range(rows):
            missed *= 1 - spec.experts_per_token / spec.experts
        touched += 1 - missed
    for name, members in GROUPS.items():
        for matrix in spec.linears():
            if matrix.name in members:
                copies = touched if name.startswith("ffn") else 1
                tally[name].weight_bytes += copies * matrix.inputs * matrix.outputs * scheme.weight_bits / 8
    other = 2 * spec.hidden * (2 if spec.post_norms else 1)
    other += spec.sub_norms * (spec.query_width + spec.ffn) + spec.qk_norm * 2 * spec.head_dim
    other += spec.qkv_bias * (spec.query_width + 2 * spec.kv_width) + spec.output_bias * spec.hidden
    if spec.experts > 1:
        other += spec.hidden * spec.experts  # router
    tally["norms and activations"].weight_bytes += other * scheme.embedding_bits / 8


def phase(spec: ModelSpec, scheme: Scheme, machine: Machine, batch: int, tokens: int, past: int) -> Phase:
    """Time, traffic and energy of a phase by the roofs and energies of a machine."""
    found = Phase(count(spec, scheme, batch, tokens, past))
    seconds = {
        "linear": machine.linear_s_per_mac,
        "attention": machine.attention_s_per_mac,
        "head": machine.head_s_per_mac,
    }
    joules = {
        "linear": machine.linear_j_per_mac,
        "attention": machine.attention_j_per_mac,
        "head": machine.head_j_per_mac,
    }
    for name, tally in found.tallies.items():
        kind = KINDS.get(name, "linear")
        on_chip_weights = tally.weight_bytes if kind == "linear" and machine.weights_on_chip else 0.0
        layers = 1 if name in ("embedding", "head") else spec.layers  # one after another, each in all of the memory
        room = layers * machine.on_chip_bytes * (machine.devices if machine.tensor else 1)
        spilled = max(tally.activation_bytes - room, 0.0)
        dram = tally.weight_bytes - on_chip_weights + tally.kv_bytes + spilled
        on_chip = on_chip_weights + tally.activation_bytes + 2 * (dram - spilled) + spilled  # written, then read
        found.dram_bytes[name], found.on_chip_bytes[name] = dram, on_chip
        compute_s = tally.macs * seconds[kind]
        found.latency_s[name] = max(
            compute_s, dram * machine.memory_s_per_byte, on_chip_weights * machine.on_chip_s_per_byte
        )
        found.arithmetic_j += tally.macs * joules[kind]
        found.vector_j += tally.vector_ops * machine.vector_j_per_op
        found.dram_j += dram * machine.dram_j_per_byte
        found.on_chip_j += on_chip * machine.on_chip_j_per_byte
    _fixed_and_links(found, spec, scheme, machine, batch * tokens)
    found.total_s = sum(found.latency_s.values()) + found.fixed_s + found.link_s
    dynamic_j = found.arithmetic_j + found.vector_j + found.dram_j + found.on_chip_j
    dynamic_j += found.link_bytes * machine.link_j_per_byte
    drawn = limit = 0.0
    for device in range(round(machine.devices)):
        works = machine.tensor or device == 0  # in a pipeline one device works, the others wait
        drawn += (machine.static_w if works else machine.idle_w) * found.total_s
        limit += (machine.peak_w if works else machine.idle_w) * found.total_s
    found.static_j = min(drawn, max(limit - dynamic_j, 0.0))
    return found


def _fixed_and_links(found: Phase, spec: ModelSpec, scheme: Scheme, machine: Machine, rows: int) -> None:
    """Add the engine's time per layer, and the hidden states that devices pass on (pipeline) or add up (tensor)."""
    row_bytes = rows * spec.hidden * scheme.hidden_bits / 8
    others = round(machine.devices) - 1
    for _ in range(spec.layers if rows else 0):
        found.fixed_s += machine.sync_s_per_layer + machine.work_s_per_layer_element * spec.hidden
    for _ in range(0 if machine.tensor else others):  # one hand-over after another
        found.link_bytes += row_bytes
        found.link_s += row_bytes * machine.link_s_per_byte + (machine.link_s_per_message if rows else 0)
    for _ in range(2 * spec.layers if machine.tensor and others else 0):  # after attention, after the FFN: a ring
        sent = 2 * others / machine.devices * row_bytes  # by each device, all at once
        found.link_bytes += sent * machine.devices
        found.link_s += sent * machine.link_s_per_byte + (machine.link_s_per_message if rows else 0)
