"""The same examples in every run, without a limit on their time."""

from hypothesis import settings

settings.register_profile("bitsim", deadline=None, derandomize=True, max_examples=100)
settings.load_profile("bitsim")
