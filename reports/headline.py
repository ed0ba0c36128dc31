"""How far the papers' ratio between FP16 and ternary shrinks once everything is counted."""

from collections.abc import Sequence

from bitsim.simulator import Estimate
from bitsim.simulator.paper_energy import paper_energy, paper_ratio_per_product

from .estimate_json import arithmetic

PAPER_TOKENS = 512  # of the pass that the papers count


def shrinkage(estimates: Sequence[Estimate]) -> list[tuple[float, str]]:
    """Return how many times FP16 costs what ternary does, from the papers' headline down to a new token here.

    What is counted stands beside each ratio. None without both schemes; the first estimate of each counts.
    """
    by_scheme = {each.scheme.name: each for each in reversed(estimates)}
    full, ternary = by_scheme.get("fp16"), by_scheme.get("b1.58")
    if full is None or ternary is None:
        return []
    table, node = full.table, full.node
    narrow, wide = (paper_ratio_per_product(table, node, accumulate) for accumulate in ("int8", "int32"))
    passes = [paper_energy(full.model, e.scheme, table, node, PAPER_TOKENS).total_j for e in (full, ternary)]
    return [
        (narrow, f"one product at {node}, with the 8-bit addition that the papers count"),
        (wide, "one product, with the 32-bit addition that exact sums need"),
        (
            passes[0] / passes[1],
            f'all arithmetic of a {PAPER_TOKENS}-token pass, the papers\' "end-to-end" energy (--energy paper)',
        ),
        (arithmetic(full).mid / arithmetic(ternary).mid, "all arithmetic here"),
        (full.token_energy_j["total"].mid / ternary.token_energy_j["total"].mid, "a new token, with memory and power"),
    ]
