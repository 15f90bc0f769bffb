"""Readers of checkpoints, asked themselves (`trial/`)."""
