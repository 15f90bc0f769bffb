"""The same jobs with AVX2."""
