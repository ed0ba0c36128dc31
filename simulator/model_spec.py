"""ModelSpec: the shape of one Transformer, from which every weight, operation and byte is counted."""

from dataclasses import dataclass

from bitsim.energy_tables import BitsimError, ModelRow
from bitsim.energy_tables.errors import shown

from .workload import is_whole

# Upper limits of what is taken for a Transformer: some 100 times the largest ever published, so that a damaged
# config.json gets a sentence and not an overflow. Each is the largest value the field may have.
LIMITS = {
    "layers": 10_000,
    "hidden": 1_000_000,
    "heads": 100_000,
    "kv_heads": 100_000,
    "head_dim": 100_000,
    "ffn": 10_000_000,
    "vocab": 100_000_000,
    "experts": 100_000,
    "experts_per_token": 100_000,
}


@dataclass(frozen=True, slots=True)
class Linear:
    """One weight matrix of a layer: `outputs x inputs`, and how many copies a layer has (experts)."""

    name: str
    tensor_class: str  # "attention" or "ffn"
    inputs: int
    outputs: int
    copies: int = 1

    @property
    def weights(self) -> int:
        """Number of weights in one copy."""
        return self.inputs * self.outputs


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """Shape of a decoder-only Transformer.

    Attributes:
        ffn: inner width of the feed-forward block (of one expert, in a mixture of experts).
        gated_ffn: gate, up and down matrices (SwiGLU and kin) instead of up and down.
        sub_norms: BitNet 2B4T's norms before the attention output and before the FFN output.
        post_norms: Gemma 2 and 3's norms after attention and after the FFN.
        qk_norm: norms of `head_dim` on queries and keys (Qwen 3, Gemma 3).
        experts, experts_per_token: 1 and 1 for a dense model.
        max_context: longest position the model was built for, where known.
    """

    name: str
    architecture: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    tied_head: bool = False
    gated_ffn: bool = True
    activation: str = "silu"
    sub_norms: bool = False
    post_norms: bool = False
    qk_norm: bool = False
    qkv_bias: bool = False
    output_bias: bool = False
    experts: int = 1
    experts_per_token: int = 1
    max_context: int | None = None
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field, limit in LIMITS.items():
            value = getattr(self, field)
            if not is_whole(value) or not 1 <= value <= limit:
                raise BitsimError(
                    f"{self.name}: {field}: expected a whole number from 1 to {limit:,}, got {shown(value)}"
                )
        if self.heads % self.kv_heads:
            raise BitsimError(f"{self.name}: kv_heads: expected a divisor of heads ({self.heads}), got {self.kv_heads}")
        if self.experts_per_token > self.experts:
            allowed = f"at most experts ({self.experts})"
            raise BitsimError(f"{self.name}: experts_per_token: expected {allowed}, got {self.experts_per_token}")

    @property
    def query_width(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Width of all key heads together (values have the same)."""
        return self.kv_heads * self.head_dim

    def linears(self) -> list[Linear]:
        """Return the weight matrices of one layer that a scheme quantises: all but embedding, head and router."""
        hidden, query, kv = self.hidden, self.query_width, self.kv_width
        attention = [("q", hidden, query), ("k", hidden, kv), ("v", hidden, kv), ("o", query, hidden)]
        ffn = [("gate", hidden, self.ffn)] * self.gated_ffn + [
            ("up", hidden, self.ffn),
            ("down", self.ffn, hidden),
        ]
        return [Linear(name, "attention", inputs, outputs) for name, inputs, outputs in attention] + [
            Linear(name, "ffn", inputs, outputs, self.experts) for name, inputs, outputs in ffn
        ]

    @property
    def parameters_linear(self) -> int:
        """Weights of all layers' matrices: what a scheme quantises."""
        return self.layers * sum(matrix.weights * matrix.copies for matrix in self.linears())

    @property
    def parameters_active(self) -> int:
        """Linear weights that one token passes through (`experts_per_token` of `experts`), and its head."""
        active = sum(m.weights * (self.experts_per_token if m.tensor_class == "ffn" else 1) for m in self.linears())
        return self.layers * active + self.vocab * self.hidden

    @property
    def parameters_embedding(self) -> int:
        """Token embedding, and the output head where it is not the same tensor."""
        return self.vocab * self.hidden * (1 if self.tied_head else 2)

    @property
    def parameters_other(self) -> int:
        """Norms, biases and routers."""
        norms = 2 * self.hidden * (2 if self.post_norms else 1)
        norms += (self.query_width + self.ffn) * self.sub_norms + 2 * self.head_dim * self.qk_norm
        biases = (self.query_width + 2 * self.kv_width) * self.qkv_bias + self.hidden * self.output_bias
        router = self.hidden * self.experts if self.experts > 1 else 0
        return self.layers * (norms + biases + router) + self.hidden

    @property
    def parameters(self) -> int:
        """All parameters, a tied head counted once."""
        return self.parameters_linear + self.parameters_embedding + self.parameters_other

    @classmethod
    def from_row(cls, row: ModelRow) -> "ModelSpec":
        """Make the spec of a preset or of a user's model file."""
        fields = {name: getattr(row, name) for name in row._fields if name not in ("parameters", "provenance")}
        return cls(**fields, sources=row.provenance.sources)
