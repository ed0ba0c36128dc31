"""What all requests share: the model, the engine, and how the server was started."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bitsim.energy_tables import BitsimError

from ...generation.chat import ChatTemplate
from ...generation.language_model import LanguageModel
from ...generation.sampling import Sampling
from ..engine import Engine
from .access import Access


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the server was started.

    Attributes:
        names: what the model is called; the first is told, the others are answered to as well.
        sampling: how tokens are drawn where a request does not say.
        api_key: what clients must show; None for nothing.
        hosts: the names of this server that browsers may use (the header Host); None for any.
        origins: pages of other servers that browsers may let ask here, such as http://localhost:3000; "*" for all.
        max_body: bytes of a request.
        timeout_s: seconds until an answer must be complete.
        body_timeout_s: seconds until a request must have been sent.
    """

    names: tuple[str, ...]
    sampling: Sampling = field(default_factory=Sampling)
    api_key: str | None = None
    hosts: frozenset[str] | None = None
    origins: tuple[str, ...] = ()
    max_body: int = 4 << 20
    timeout_s: float = 600.0
    body_timeout_s: float = 30.0


class Service:
    """A model that is served.

    Attributes:
        started: Unix time.
        template: the model's chat format; None where it has none.
        closing: whether the server is about to end.
    """

    def __init__(
        self, engine: Engine, settings: Settings, on_access: Callable[[Access], None] = lambda access: None
    ) -> None:
        """Take a running engine; `on_access` hears of each request when it is over."""
        self.engine, self.settings, self.on_access = engine, settings, on_access
        self.model = engine.model
        self.started = int(time.time())
        self.template = _template(engine.model)
        self.closing = False


def _template(model: LanguageModel) -> ChatTemplate | None:
    if model.text.chat_template is None:
        return None
    try:
        return ChatTemplate(model.text)
    except BitsimError as error:
        raise BitsimError(f"{model.config.spec.name}: {error}") from error
