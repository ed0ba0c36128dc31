"""The "end-to-end energy" of the BitNet papers: arithmetic of one forward pass, nothing else.

2310.11453, equations 16 to 18: a product of an m x n input with an n x p matrix costs m (n-1) p additions and m n p
multiplications; in BitNet no multiplications but m p + m n, for rescaling outputs and quantising inputs. (The n-1 is
taken as n.) Attention stays in floating point over the full square of scores; embedding and head are not counted, nor
is any memory access.
The m n is counted once where several matrices share an input (q, k, v; gate and up): so all three printed ratios of
2402.17764 Figure 3 come out (18.6, 29.1, 41.2); without it they would be 18.7, 29.3, 41.4.
"""

from dataclasses import dataclass

from bitsim.energy_tables import EnergyTable

from .model_spec import ModelSpec
from .schemes import Scheme, multiply_add, operation_energy

_FLOAT_OF_PAPERS = "fp16"  # what BitNet's attention and scales are computed in


@dataclass(frozen=True, slots=True)
class PaperEnergy:
    """Energy (J) of one pass over `tokens` tokens, by operation and by component."""

    tokens: int
    linear_add_j: float
    linear_multiply_j: float
    attention_add_j: float
    attention_multiply_j: float

    @property
    def linear_j(self) -> float:
        """Energy of the layers' matrices (J)."""
        return self.linear_add_j + self.linear_multiply_j

    @property
    def attention_j(self) -> float:
        """Energy of scores and weighted values (J)."""
        return self.attention_add_j + self.attention_multiply_j

    @property
    def add_j(self) -> float:
        """Energy of all additions (J)."""
        return self.linear_add_j + self.attention_add_j

    @property
    def multiply_j(self) -> float:
        """Energy of all multiplications (J)."""
        return self.linear_multiply_j + self.attention_multiply_j

    @property
    def total_j(self) -> float:
        """Energy of the pass (J)."""
        return self.linear_j + self.attention_j


def paper_energy(spec: ModelSpec, scheme: Scheme, table: EnergyTable, node: str, tokens: int = 512) -> PaperEnergy:
    """Count one forward pass over `tokens` tokens as the papers do (all experts of a mixture that a token uses)."""
    float_format = scheme.float_format if scheme.float_format == "fp32" else _FLOAT_OF_PAPERS
    e_add = table.operation(node, "add", float_format).energy_j.mid
    e_multiply = table.operation(node, "multiply", float_format).energy_j.mid
    products = dict.fromkeys(("add", "multiply"), 0.0)
    for operation, number_format, count in scheme.products["low"]:
        products[operation] += count * operation_energy(table, node, operation, number_format).mid
    macs = float(tokens) * spec.layers * sum(m.weights * _uses(spec, m.tensor_class) for m in spec.linears())
    scales = float(tokens) * spec.layers * _scaled_elements(spec) if products["multiply"] == 0.0 else 0.0
    attention_macs = 2.0 * tokens * tokens * spec.query_width * spec.layers
    return PaperEnergy(
        tokens=tokens,
        linear_add_j=macs * products["add"],
        linear_multiply_j=macs * products["multiply"] + scales * e_multiply,
        attention_add_j=attention_macs * e_add,
        attention_multiply_j=attention_macs * e_multiply,
    )


def paper_ratio_per_product(table: EnergyTable, node: str, accumulate: str) -> float:
    """FP16 multiply-add over one ternary addition in the given format: 71.4 with int8 at 7 nm, 16.7 with int32."""
    numerator = sum(table.operation(node, operation, fmt).energy_j.mid for operation, fmt, _ in multiply_add("fp16"))
    return numerator / table.operation(node, "add", accumulate).energy_j.mid


def _uses(spec: ModelSpec, tensor_class: str) -> int:
    return spec.experts_per_token if tensor_class == "ffn" else 1


def _scaled_elements(spec: ModelSpec) -> float:
    """Outputs rescaled and distinct inputs quantised, per token and layer."""
    outputs = sum(m.outputs * _uses(spec, m.tensor_class) for m in spec.linears())
    inputs = spec.hidden + spec.query_width + spec.hidden + spec.ffn * spec.experts_per_token
    return float(outputs + inputs)
