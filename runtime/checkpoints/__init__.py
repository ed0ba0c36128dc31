"""Checkpoints: models in files, read and written."""
