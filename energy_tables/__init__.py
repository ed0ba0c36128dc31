"""Every number of bitsim that has a source: typed rows, each with unit, source, locator and status."""

from .citations import Source, cite, label, sources, weakest
from .errors import BitsimError
from .hardware import HardwareProfile, Quantity, hardware_names, load_hardware
from .interval import CORNERS, Corner, Interval
from .records import Provenance
from .tables import (
    EnergyTable,
    EngineFit,
    GridRow,
    LawConstant,
    LossLaw,
    ModelRow,
    energy_table,
    engine_fits,
    facility_constants,
    grid_rows,
    law_constants,
    loss_laws,
    model_rows,
)

__all__ = [
    "CORNERS",
    "BitsimError",
    "Corner",
    "EnergyTable",
    "EngineFit",
    "GridRow",
    "HardwareProfile",
    "Interval",
    "LawConstant",
    "LossLaw",
    "ModelRow",
    "Provenance",
    "Quantity",
    "Source",
    "cite",
    "energy_table",
    "engine_fits",
    "facility_constants",
    "grid_rows",
    "hardware_names",
    "label",
    "law_constants",
    "load_hardware",
    "loss_laws",
    "model_rows",
    "sources",
    "weakest",
]
