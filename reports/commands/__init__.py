"""One file per command; each imports only click until it runs, so that `bitsim --help` is quick."""
