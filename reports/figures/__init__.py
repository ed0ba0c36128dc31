"""Figures: the numbers of a question as pictures. matplotlib is imported when one is drawn."""

from .cost_regions import COST_REGIONS
from .curves import CURVES
from .energy_nodes import ENERGY_NODES
from .energy_parts import ENERGY_PARTS_FIGURE
from .figure import Figure, Row, Rows
from .latency_parts import LATENCY_PARTS
from .loss_law import LOSS_LAW
from .measured import MEASURED
from .memory_context import MEMORY_CONTEXT
from .memory_parts import MEMORY_PARTS
from .roofline import ROOFLINE
from .sizes import SIZES
from .validation import VALIDATION

__all__ = ["FIGURES", "Figure", "Row", "Rows"]

FIGURES: dict[str, Figure] = {
    figure.name: figure
    for figure in (
        ENERGY_PARTS_FIGURE,
        ENERGY_NODES,
        LATENCY_PARTS,
        ROOFLINE,
        MEMORY_PARTS,
        MEMORY_CONTEXT,
        SIZES,
        COST_REGIONS,
        LOSS_LAW,
        CURVES,
        VALIDATION,
        MEASURED,
    )
}
