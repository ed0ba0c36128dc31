"""OpenAI's HTTP interface to an engine: chat, completions, models, health, metrics, and a page to chat on.

Needs the extra `serve`: pip install 'bitsim-llm[serve]'.
"""

from .access import Access
from .app import make_app
from .server import Server, listen, run
from .service import Service, Settings

__all__ = ["Access", "Server", "Service", "Settings", "listen", "make_app", "run"]
