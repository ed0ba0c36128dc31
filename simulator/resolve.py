"""From what a user names to a ModelSpec: a size, a preset, a Hugging Face folder or config.json, a file of models."""

import json
import re
from pathlib import Path

from bitsim.energy_tables import BitsimError, model_rows
from bitsim.energy_tables.errors import suggestion
from bitsim.energy_tables.records import read_text
from bitsim.energy_tables.units import is_count

from .model_config import spec_from_config
from .model_spec import ModelSpec
from .sizes import spec_for_size


def resolve_model(model: str) -> ModelSpec:
    """Return the spec of a preset (any case), a folder with a config.json, a config.json, or a .csv file of models.

    Raises:
        BitsimError: nothing of that name (the nearest preset is suggested), or the file is damaged.
    """
    presets = {name.casefold(): row for name, row in model_rows().items()}
    row = presets.get(model.strip().casefold())
    if row is not None:
        return ModelSpec.from_row(row)
    if not model.strip():
        raise BitsimError("model: expected a preset, a folder or a file, got nothing")
    path = Path(model)
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except (OSError, ValueError):  # a name too long for a path, or with a NUL byte
        is_folder = exists = False
    if is_folder:
        return _from_config_file(path / "config.json", name=path.resolve().name)
    if (exists and path.suffix == ".csv") or model.endswith(".csv"):
        return _from_table(path)
    if exists or model.endswith(".json"):
        return _from_config_file(path)
    raise BitsimError(
        f"unknown model '{model[:60]}'{suggestion(model, model_rows())}"
        " (bitsim tables show models; or a folder, a config.json, a .csv)"
    )


def resolve_size_or_model(text: str) -> ModelSpec:
    """Return the spec of a size such as "70B", or else of what `resolve_model` takes."""
    stripped = text.strip()
    if re.match(r"\.?\d", stripped) and (is_count(stripped) or not _exists(Path(stripped))):
        return spec_for_size(stripped)
    return resolve_model(text)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long for a path, or with a NUL byte
        return False


def _from_config_file(path: Path, name: str | None = None) -> ModelSpec:
    text = read_text(path)
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise BitsimError(
            f"{path}:{error.lineno}: expected JSON, got {error.msg.lower().removesuffix(' at')} at column {error.colno}"
        ) from None
    except (RecursionError, ValueError):
        raise BitsimError(f"{path}: expected JSON, got something nested too deep or a number too long") from None
    if not isinstance(config, dict):
        raise BitsimError(f"{path}: expected a JSON object, got {type(config).__name__}")
    own = path.resolve().parent.name if path.name == "config.json" else path.stem
    return spec_from_config(config, str(path), name or own)


def _from_table(path: Path) -> ModelSpec:
    rows = model_rows(path)
    if len(rows) != 1:
        raise BitsimError(f"{path}: expected one model, got {len(rows)}")
    return ModelSpec.from_row(next(iter(rows.values())))
