"""Many requests on one model at once: continuous batching, shared prefixes, and drafts looked up in the text."""

from .engine import Closed, Counters, Delivery, Engine, Failure, Limits, QueueFull, Ticket, Usage

__all__ = ["Closed", "Counters", "Delivery", "Engine", "Failure", "Limits", "QueueFull", "Ticket", "Usage"]
