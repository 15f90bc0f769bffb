"""Carries a plan out: pieces from mapped input through one reused buffer to preallocated files."""
