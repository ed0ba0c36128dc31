"""What a model is but for its weights: the shape, and what its operations need to know."""

from dataclasses import dataclass, field

from bitsim.energy_tables import BitsimError
from bitsim.energy_tables.errors import shown
from bitsim.simulator.model_spec import ModelSpec

SCALINGS = ("none", "linear", "llama3", "yarn")
LARGEST = 1e12  # of any constant: beyond is taken for damage
_FACTORS = ("theta", "factor", "low_frequency", "high_frequency", "beta_fast", "beta_slow", "attention_factor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rope:
    """Rotary position embedding over the whole head, halves rotated against each other (the order of Hugging Face).

    Attributes:
        theta: base of the frequencies.
        scaling: "none", "linear", "llama3" or "yarn".
        factor: how many times the original context, for any scaling.
        original_context: positions before scaling, for llama3 and yarn.
        low_frequency, high_frequency: llama3's factors.
        beta_fast, beta_slow: yarn's bounds in turns; attention_factor: what yarn multiplies cosine and sine by.
    """

    theta: float
    scaling: str = "none"
    factor: float = 1.0
    original_context: int = 0
    low_frequency: float = 1.0
    high_frequency: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float = 1.0

    def __post_init__(self) -> None:
        for name in _FACTORS:
            _check_number("rope", name, getattr(self, name))
        if self.scaling not in SCALINGS:
            raise _wrong("rope", "scaling", f"one of {', '.join(SCALINGS)}", self.scaling)
        if self.scaling in ("llama3", "yarn") and not _is_count(self.original_context):
            raise _wrong(
                "rope", "original_context", f"a whole number above 0 for {self.scaling}", self.original_context
            )
        if self.scaling == "yarn" and self.theta <= 1:
            raise _wrong("rope", "theta", "more than 1 for yarn", self.theta)
        if self.scaling == "llama3" and self.high_frequency <= self.low_frequency:
            low = f"more than low_frequency ('{shown(self.low_frequency)}')"
            raise _wrong("rope", "high_frequency", low, self.high_frequency)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Shape and constants of a decoder-only Transformer.

    Attributes:
        spec: the shape; its `activation` is "silu" or "relu2", its `sub_norms` and `qk_norm` say which norms there are.
        norm_eps: what RMSNorm adds to the mean square.
        sliding_window: positions that attention looks back at most, or None.
    """

    spec: ModelSpec
    norm_eps: float
    rope: Rope
    sliding_window: int | None = None

    def __post_init__(self) -> None:
        _check_number(self.spec.name, "norm_eps", self.norm_eps)
        for name, value in (("sliding_window", self.sliding_window), ("max_context", self.spec.max_context)):
            if value is not None and not _is_count(value):
                raise _wrong(self.spec.name, name, f"a whole number from 1 to {LARGEST:g}, or none", value)


def _is_count(value: object) -> bool:
    return type(value) is int and 1 <= value <= LARGEST


def _check_number(where: str, name: str, value: object) -> None:
    """Raise unless a number is above 0 and of a sane size."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= LARGEST:
        raise _wrong(where, name, f"a number above 0 and at most {LARGEST:g}", value)


def _wrong(where: str, name: str, expected: str, value: object) -> BitsimError:
    return BitsimError(f"{where}: {name}: expected {expected}, got '{shown(value, 40)}'")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRules:
    """How text becomes tokens and back.

    Attributes:
        tokenizer: the content of a `tokenizer.json`, as the `tokenizers` package reads it; None where there is none.
        chat_template: Jinja source; None where there is none.
        eos: tokens that end an answer.
        add_bos: whether `bos` goes before a prompt that is plain text.
    """

    tokenizer: bytes | None = None
    chat_template: str | None = None
    bos: int | None = None
    eos: tuple[int, ...] = ()
    add_bos: bool = False
    special: dict[str, str] = field(default_factory=dict)  # bos_token, eos_token, unk_token ...: as templates name them


def check_covered(spec: ModelSpec) -> None:
    """Raise unless a step does all that models of this shape need.

    Raises:
        BitsimError: it does not; what is lacking is named.
    """
    lacks = {
        "experts": spec.experts > 1,
        "norms after attention and feed-forward": spec.post_norms,
        f"the activation '{shown(spec.activation, 40)}'": spec.activation not in ("silu", "relu2"),
        "a feed-forward without a gate": not spec.gated_ffn,
        f"heads of {spec.head_dim}, an odd width,": spec.head_dim % 2 == 1,
    }
    for what, lacking in lacks.items():
        if lacking:
            raise BitsimError(f"{spec.name}: models with {what} can be estimated, but not run")
