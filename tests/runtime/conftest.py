"""One fixed course of random cases, so that a failure comes back."""

from hypothesis import settings

settings.register_profile("runtime", derandomize=True, deadline=None)
settings.load_profile("runtime")
