"""A model that has learnt something, made once."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from trained_model import trained_folder

from bitsim.runtime.diagnosis.trial_text import TEXT


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small BitNet with squared ReLU that knows the text of the trials; do not change it."""
    return trained_folder(tmp_path_factory.mktemp("trained"), TEXT, hidden_act="relu2")


@pytest.fixture
def trained_copy(trained: Path, tmp_path: Path) -> Callable[[], Path]:
    """Return what makes a copy that may be changed."""

    def copy() -> Path:
        place = tmp_path / "copy"
        shutil.copytree(trained, place)
        return place

    return copy
