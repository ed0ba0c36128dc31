"""How a wrong request must be refused: by a BitsimError whose message is one line that any terminal can show."""

import unicodedata
from collections.abc import Callable

from bitsim.energy_tables import BitsimError

UNSHOWABLE = ("Cc", "Cs", "Zl", "Zp")  # controls (line ends, escapes), half characters, line and paragraph ends


def refusal(call: Callable[[], object]) -> str | None:
    """Return the message that `call` is refused with, or None where it is accepted; any other exception is a bug."""
    try:
        call()
    except BitsimError as error:
        message = str(error)
    else:
        return None
    assert message, "an empty message"
    assert not [c for c in message if unicodedata.category(c) in UNSHOWABLE], f"not one plain line: {message!a}"
    return message
