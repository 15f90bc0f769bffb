"""fp8: floats of eight bits; four formats have this name, and a scale always goes with them.

## What it is
A code of eight bits with sign, exponent and mantissa. It has few values, so a scale stretches them over each block of the weight:

    weight = code x scale

{table}

## Who multiplies, who divides
The reader multiplies the code's value by the scale of its block. The tag in the file is F8_E4M3 for the first two, and the reader decides
which it is.

## What goes wrong
FP8 does not apply itself: the checkpoint must hold the codes, the scales must be there, the config must say what was done, and the reader
must have the same names for it. Each of the four fails alone in practice. U8 or I8 beside FP8 scales is mostly FP4, two codes in a byte.

## See also
e4m3fn, e4m3, e4m3fnuz, e5m2, weight_scale_inv, 240-vs-448, block-quantization, memory-in-bytes

## References
OCP 8-bit Floating Point Specification (OFP8) 1.0; ml_dtypes; NxD 2.29 quantization/README_rescaling_fp8_for_neuron.md.
"""

from __future__ import annotations

ALSO = ("float8", "f8")


def numbers() -> dict[str, str]:
    from weighbridge.lessons import formats

    rows = []
    for fmt in ("e4m3fn", "e4m3", "e4m3fnuz", "e5m2"):
        told = formats.document(fmt)
        rows.append(f"* {fmt}: to {told['max']:,g}, {told['counts']['values']} values; {told['says']}.")
    return {"table": "\n".join(rows)}
