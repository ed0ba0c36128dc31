"""The model in the box: a small ternary model that bitsim trained and brings along; its card is README.md."""

from pathlib import Path

NAME = "box"
FOLDER = Path(__file__).parent / "model"


def model_path(path: str | Path) -> Path:
    """Return where a model lies: the model in the box for "box", else what is named (./box is a folder at hand)."""
    return FOLDER if path == NAME else Path(path)
