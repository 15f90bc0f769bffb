"""Explicit vectors for x86 with AVX2."""
