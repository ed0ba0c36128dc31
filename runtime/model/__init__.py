"""The model: its parts, and the compiled step through all layers."""
