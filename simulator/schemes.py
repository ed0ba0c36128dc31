"""Schemes: what numbers a model is made of, and what one product costs to compute.

Every scheme keeps embedding, head, norms, KV cache and the attention products in floating point, as the published
ternary models do (arXiv:2402.17764, arXiv:2504.12285); only the layers' matrices change.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from bitsim.energy_tables import BitsimError, Corner, EnergyTable, Interval
from bitsim.energy_tables.errors import suggestion

# One product of a weight with an activation, as (operation, number format, count) steps.
Product = tuple[tuple[str, str, float], ...]

# Bits a ternary weight takes, by layout.
PACKINGS: dict[str, float] = {
    "2bit": 2.0,  # four codes in a byte: Hugging Face uint8, I2_S, T-MAC
    "tq2_0": 66 * 8 / 256,  # llama.cpp: 64 bytes of codes and an fp16 scale in 256 weights
    "tq1_0": 54 * 8 / 256,  # llama.cpp: 48 + 4 bytes in base 3 and an fp16 scale in 256 weights
    "trit48": 80 / 48,  # 48 weights in five 16-bit words: bitsim's kernel for AVX-512
    "nibble9": 16 / 9,  # nine weights in two bytes: bitsim's kernels for AVX2, NEON and any CPU
    "five": 8 / 5,  # five weights in a byte: 3^5 = 243 <= 256
    "entropy": 1.584962500721156,  # log2(3), the floor for equally likely -1, 0, +1
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """Bits per tensor class and operations per weight.

    Attributes:
        weight_bits: bits of one weight of a layer matrix as packed, scales included.
        activation_bits: bits of an input of a layer matrix.
        products: steps of one product with its accumulation, at the low, mid and high energy corner.
        float_format: number format of the products of the attention and of the output head.
        rates: peak rates of a hardware profile that can serve this scheme's products, best first.
        scaled: inputs are quantised per token and outputs rescaled, at one operation each.
    """

    name: str
    title: str
    weight_bits: float
    activation_bits: float
    products: Mapping[Corner, Product]
    rates: tuple[str, ...]
    embedding_bits: float = 16.0
    head_bits: float = 16.0
    hidden_bits: float = 16.0
    kv_bits: float = 16.0
    float_format: str = "fp16"
    scaled: bool = False
    zero_fraction: float = 0.0
    sources: tuple[str, ...] = field(default=())

    def product_energy_j(self, table: EnergyTable, node: str) -> Interval:
        """Energy of one product with its accumulation (J)."""
        low, mid, high = (_steps_j(table, node, self.products[corner], corner) for corner in ("low", "mid", "high"))
        return Interval.spanning(low, mid, high)

    def float_energy_j(self, table: EnergyTable, node: str) -> Interval:
        """Energy of one floating-point multiply and add, in the attention and the head (J)."""
        steps = multiply_add(self.float_format)
        low, mid, high = (_steps_j(table, node, steps, corner) for corner in ("low", "mid", "high"))
        return Interval.spanning(low, mid, high)


def multiply_add(number_format: str, accumulate: str | None = None) -> Product:
    """Steps of a multiply and an add."""
    return (("multiply", number_format, 1.0), ("add", accumulate or number_format, 1.0))


def operation_energy(table: EnergyTable, node: str, operation: str, number_format: str) -> Interval:
    """Energy of one operation (J); bfloat16 where the node has no row for it costs as FP16.

    Horowitz gives no bfloat16 at 45 nm; with its shorter mantissa FP16 is the upper bound.
    """
    known = (node, operation, number_format) in table.operations or number_format != "bf16"
    return table.operation(node, operation, number_format if known else "fp16").energy_j


def _steps_j(table: EnergyTable, node: str, steps: Product, corner: Corner) -> float:
    return sum(count * operation_energy(table, node, name, fmt).at(corner) for name, fmt, count in steps)


def _always(product: Product) -> dict[Corner, Product]:
    return {"low": product, "mid": product, "high": product}


def _adds(low: str, mid: str, high: str, count: float = 1.0) -> dict[Corner, Product]:
    return {"low": (("add", low, count),), "mid": (("add", mid, count),), "high": (("add", high, count),)}


_FLOAT_RATES = ("fp16_flops_per_s", "fp32_flops_per_s")
_INT8_RATES = ("int8_ops_per_s", *_FLOAT_RATES)
_INT4_RATES = ("int4_ops_per_s", *_INT8_RATES)

_ALL = (
    Scheme(
        name="fp32",
        title="32-bit floating point",
        weight_bits=32.0,
        activation_bits=32.0,
        products=_always(multiply_add("fp32")),
        rates=("fp32_flops_per_s",),
        embedding_bits=32.0,
        head_bits=32.0,
        hidden_bits=32.0,
        kv_bits=32.0,
        float_format="fp32",
    ),
    Scheme(
        name="fp16",
        title="16-bit floating point",
        weight_bits=16.0,
        activation_bits=16.0,
        # Tensor cores accumulate in FP32: the high end. The papers count an FP16 add: low and mid.
        products={
            "low": multiply_add("fp16"),
            "mid": multiply_add("fp16"),
            "high": multiply_add("fp16", "fp32"),
        },
        rates=_FLOAT_RATES,
    ),
    Scheme(
        name="bf16",
        title="bfloat16",
        weight_bits=16.0,
        activation_bits=16.0,
        products={
            "low": multiply_add("bf16"),
            "mid": multiply_add("bf16"),
            "high": multiply_add("bf16", "fp32"),
        },
        rates=("bf16_flops_per_s", *_FLOAT_RATES),
        float_format="bf16",
    ),
    Scheme(
        name="w8a8",
        title="8-bit weights and activations",
        weight_bits=8.0,
        activation_bits=8.0,
        products=_always(multiply_add("int8", "int32")),
        rates=_INT8_RATES,
        scaled=True,
    ),
    Scheme(
        name="w4a16",
        title="4-bit weights in groups of 128 (GPTQ, AWQ), 16-bit activations",
        weight_bits=4.0 + 16 / 128,  # an fp16 scale per 128 weights
        activation_bits=16.0,
        products={
            "low": multiply_add("fp16"),
            "mid": multiply_add("fp16"),
            "high": multiply_add("fp16", "fp32"),
        },
        rates=_FLOAT_RATES,
    ),
    Scheme(
        name="w2a16",
        title="2-bit weights in groups of 128, 16-bit activations",
        weight_bits=2.0 + 16 / 128,
        activation_bits=16.0,
        products={
            "low": multiply_add("fp16"),
            "mid": multiply_add("fp16"),
            "high": multiply_add("fp16", "fp32"),
        },
        rates=_FLOAT_RATES,
    ),
    Scheme(
        name="w4a4",
        title="4-bit weights and activations in groups of 128, 128 channels at 8 bits (Atom)",
        weight_bits=4.0 + 16 / 128 + 4 * 128 / 4096,  # the wider channels counted at a hidden width of 4,096
        activation_bits=4.0,
        # Products of 4-bit numbers need 8 bits, and 7 more to sum the 128 of a group: 16 bits, 32 at the end.
        products={
            "low": multiply_add("int4", "int16"),
            "mid": multiply_add("int4", "int16"),
            "high": multiply_add("int4", "int32"),
        },
        rates=_INT4_RATES,
        kv_bits=4.0,
        scaled=True,
        sources=("zhao2024atom",),
    ),
    Scheme(
        name="b1",
        title="binary weights, 8-bit activations (BitNet)",
        weight_bits=1.0,
        activation_bits=8.0,
        products=_adds("int8", "int32", "int32"),
        rates=("ternary_ops_per_s", *_INT8_RATES),
        scaled=True,
        sources=("wang2023bitnet",),
    ),
    Scheme(
        name="b1.58",
        title="ternary weights, 8-bit activations (BitNet b1.58)",
        weight_bits=PACKINGS["2bit"],
        activation_bits=8.0,
        # The papers count an 8-bit add (low). Sums of thousands of 8-bit numbers need 8 + 13 bits: a 32-bit add.
        products=_adds("int8", "int32", "int32"),
        rates=("ternary_ops_per_s", *_INT8_RATES),
        scaled=True,
        zero_fraction=1 / 3,  # "nearly uniform" over -1, 0, +1 (bitnet2024tips, section 2)
        sources=("ma2024era",),
    ),
    Scheme(
        name="b1.58a4",
        title="ternary weights, 4-bit activations in every matrix (BitNet v2; a4.8 keeps 8 bits in two)",
        weight_bits=PACKINGS["2bit"],
        activation_bits=4.0,
        products=_adds("int4", "int16", "int32"),  # sums of thousands of 4-bit numbers: 4 + 12 bits
        rates=("ternary_ops_per_s", *_INT4_RATES),
        kv_bits=4.0,
        scaled=True,
        zero_fraction=1 / 3,
        sources=("wang2025bitnetv2", "wang2024bitneta48"),
    ),
    Scheme(
        name="billm",
        title="binary weights with a second bit for salient ones, 16-bit activations (BiLLM; 1.1 bit, bitmap apart)",
        weight_bits=1.1,
        activation_bits=16.0,
        products=_adds("fp16", "fp16", "fp32", count=1.1),  # a salient weight is the sum of two binary ones
        rates=_FLOAT_RATES,
        sources=("huang2024billm",),
    ),
    Scheme(
        name="xnor",
        title="binary weights and activations (XNOR and popcount)",
        weight_bits=1.0,
        activation_bits=1.0,
        products=_always((("add", "binary", 1.0),)),
        rates=("binary_ops_per_s", *_INT8_RATES),
        scaled=True,
        sources=("rastegari2016xnor",),
    ),
)
SCHEMES: dict[str, Scheme] = {scheme.name: scheme for scheme in _ALL}


def get_scheme(name: str, packing: str | None = None, kv_bits: float | None = None) -> Scheme:
    """Return a scheme by name, optionally with another packing of its ternary weights or another KV cache width.

    Raises:
        BitsimError: unknown name (the nearest is suggested), or a packing asked of a scheme that is not ternary.
    """
    folded = name.strip().casefold()
    if folded not in SCHEMES:
        raise BitsimError(f"unknown scheme '{name[:60]}'{suggestion(name, SCHEMES)} (known: {', '.join(SCHEMES)})")
    scheme = SCHEMES[folded]
    if packing is not None and packing not in PACKINGS:
        raise BitsimError(
            f"unknown packing '{packing[:60]}'{suggestion(packing, PACKINGS)} (known: {', '.join(PACKINGS)})"
        )
    if packing is not None and scheme.zero_fraction:
        scheme = replace(scheme, weight_bits=PACKINGS[packing])
    if kv_bits is not None:
        if not 1 <= kv_bits <= 32:
            raise BitsimError(f"KV cache bits: expected a number from 1 to 32, got {kv_bits:g}")
        scheme = replace(scheme, kv_bits=float(kv_bits))
    return scheme
