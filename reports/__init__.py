"""Everything a person sees: the `bitsim` command, its tables and its JSON."""
