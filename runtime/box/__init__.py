"""The model in the box: a small ternary model that bitsim trained and brings along; its card is README.md."""

from pathlib import Path

NAME = "box"
FOLDER = Path(__file__).parent / "model"


def model_path(path: str | Path) -> Path:
    """Return where a model lies: what is named, or the model in the box for "box" where no such file is at hand."""
    named = Path(path)
    return FOLDER if path == NAME and not named.exists() else named
