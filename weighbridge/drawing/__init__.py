"""The architecture of a model with what is quantized in it, as data."""
