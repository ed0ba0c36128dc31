"""Text prepared once for the tests that only read it."""

from pathlib import Path

import pytest
from made_documents import stories, write_parquet

from bitsim.training.data import Prepared, prepare


@pytest.fixture(scope="session")
def story_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A parquet file with 300 documents."""
    return write_parquet(tmp_path_factory.mktemp("stories") / "stories.parquet", text=stories(300))


@pytest.fixture(scope="session")
def prepared(story_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Those documents, prepared; not to be changed."""
    return prepare(str(story_file), tmp_path_factory.mktemp("made") / "data", vocab=400, tell=lambda _: None)
