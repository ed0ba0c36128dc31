"""Output heads: exact, and screened with few bits."""
