"""The sections of a report: what each says, in words, tables and drawings."""
