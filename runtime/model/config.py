"""What a model is but for its weights: the shape, and what its operations need to know."""

from dataclasses import dataclass, field

from bitsim.simulator.model_spec import ModelSpec


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
