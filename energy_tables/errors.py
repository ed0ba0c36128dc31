"""The one exception that reaches a user: their request or their file is wrong, said in one line."""

import difflib
from collections.abc import Iterable


class BitsimError(Exception):
    """A request or a file that bitsim cannot use. The message is one line, made to be printed as it is."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the nearest known name, or an empty string when none is near."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    near = difflib.get_close_matches(name.casefold()[:200], by_folded, n=1, cutoff=0.5)
    return f"; did you mean '{by_folded[near[0]]}'?" if near else ""
