"""Number formats of quantized weights: the codec is the specification, the kernels are the same, fast."""
