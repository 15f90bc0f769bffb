"""subnormal: the values below the last binade, where a float has a fixed step and loses relative precision.

## What it is
A normal code has a leading one before its mantissa. When the exponent field is zero there is none: the values go down to zero in equal
steps. So zero exists, and very small numbers keep an absolute error in place of a relative one.

## In numbers
e4m3fn has {count} subnormals for each sign, from {smallest} to {largest}, {step} apart. Its smallest normal is {normal}. With a block
maximum of 448 in code, a weight below {half_share} of the block's largest becomes zero.

## What goes wrong
* Halving rounds here and only here: odd codes below 0x10 have no half.
* Libraries that flush subnormals to zero lose them; Weighbridge's kernels do not.
* Scales in float32 can be subnormal, too: amax of 1e-40 or so. Weighbridge keeps them above 2^-149.

## See also
e4m3fn, halving, e8m0, f32

## References
IEEE 754-2019; OCP 8-bit Floating Point Specification (OFP8) 1.0; Weighbridge's encoding/codec.py `decode_table`, `block_scale`.
"""

from __future__ import annotations

ALSO = ("denormal", "subnormals")


def numbers() -> dict[str, str]:
    from weighbridge.lessons import formats

    told = formats.document("e4m3fn")
    row = told["binades"][0]
    return {"count": str(row["values"]), "smallest": f"{row['first']:.10g}", "largest": f"{row['last']:.10g}", "step": f"{row['step']:.10g}",
            "normal": f"{told['min_normal']:.10g}", "half_share": f"{row['first'] / 2 / told['max']:.2g}"}
