"""Published models with sub-norms, known by their shape."""

from bitsim.energy_tables.tables import ModelRow, model_rows
from bitsim.simulator.model_spec import ModelSpec

_SHAPE = ("layers", "hidden", "heads", "kv_heads", "ffn", "vocab")


def known_model(spec: ModelSpec) -> ModelRow | None:
    """Return the published model with sub-norms that has this shape; BitNet b1.58 2B4T, at the time of writing."""
    shape = [getattr(spec, field) for field in _SHAPE]
    rows = (row for row in model_rows().values() if row.sub_norms)
    return next((row for row in rows if [getattr(row, field) for field in _SHAPE] == shape), None)
