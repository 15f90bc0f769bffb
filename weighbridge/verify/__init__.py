"""Comparison of two checkpoints, weight by weight, each with the bound that it must keep."""
