"""Real English text for training, made from packages that pip and apt-get have: no account, no hub."""

from .build import build_corpus
from .sources import SOURCES, Source
from .summary import Corpus, SourceSummary

__all__ = ["SOURCES", "Corpus", "Source", "SourceSummary", "build_corpus"]
