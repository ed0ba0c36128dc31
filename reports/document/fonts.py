"""The fonts of a PDF: those of typst and matplotlib, and the system's own for characters that these lack.

With the first alone, the same report is the same bytes on every machine; DejaVu Sans shows Latin, Greek, Cyrillic,
Arabic and much besides. Chinese, say, is in neither: it takes a font of the system's, or else is told by code points.
"""

import functools
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_FALLBACK = "DejaVuSans.ttf"
_WITH_FACES = "DejaVuSans*.ttf"
_UNSEEN = re.compile(r"[\s\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\U000e0000-\U000e0fff]")


def choose_fonts(text: str) -> tuple[Any, frozenset[str]]:
    """Return the fonts (typst's `Fonts`) that a text takes, and its characters that none of them shows."""
    lacking = {each for each in set(text) if ord(each) not in _own_characters() and not _UNSEEN.match(each)}
    if not lacking:
        return _fonts(system=False), frozenset()
    fonts = _fonts(system=True)
    shown = _characters(font.path for font in fonts.fonts() if font.path)
    return fonts, frozenset(each for each in lacking if ord(each) not in shown)


@functools.cache
def _fonts(system: bool) -> Any:
    from typst import Fonts

    return Fonts(include_system_fonts=system, font_paths=[_own_folder().name])


@functools.cache
def _own_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a folder, there as long as the process, with DejaVu Sans alone.

    matplotlib's own also holds LastResort, which has a box for every character, and typst takes whole folders.
    """
    folder = tempfile.TemporaryDirectory(prefix="bitsim-fonts-")
    for file in _matplotlibs().glob(_WITH_FACES):
        shutil.copy(file, folder.name)
    return folder


def _matplotlibs() -> Path:
    import matplotlib as mpl

    return Path(mpl.get_data_path()) / "fonts" / "ttf"


@functools.cache
def _own_characters() -> frozenset[int]:
    return _characters([str(_matplotlibs() / _FALLBACK)])


def _characters(files: Iterable[str]) -> frozenset[int]:
    """Return the code points that the fonts in some files show; a file that can't be read shows none."""
    from matplotlib.ft2font import FT2Font

    found: set[int] = set()
    for file in sorted(set(files)):
        try:
            found.update(FT2Font(file).get_charmap())
        except (OSError, RuntimeError):
            continue
    return frozenset(found)
