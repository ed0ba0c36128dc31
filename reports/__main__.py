"""`python -m bitsim.reports` is the `bitsim` command."""

from .cli import main

main()
