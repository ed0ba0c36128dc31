"""The one exception that reaches a user: their request or their file is wrong, said in one line."""

import difflib
from collections.abc import Iterable


class BitsimError(Exception):
    """A request or a file that bitsim cannot use. The message is one line, made to be printed as it is.

    What a terminal would not show as one line (line ends, control characters, half characters) is escaped.
    """

    def __init__(self, message: str) -> None:
        plain = (c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in message)
        super().__init__("".join(plain))


def shown(value: object, length: int = 60) -> str:
    """Return a wrong value as text for a message, cut to `length`."""
    try:
        return str(value)[:length]
    except (ValueError, RecursionError):  # more digits than Python prints, or nested too deep
        return f"a {type(value).__name__} too long to print"


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the nearest known name, or an empty string when none is near."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    near = difflib.get_close_matches(name.casefold()[:200], by_folded, n=1, cutoff=0.5)
    return f"; did you mean '{by_folded[near[0]]}'?" if near else ""
