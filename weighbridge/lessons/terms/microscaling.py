"""microscaling: MX, the OCP's formats of 32 small codes with one shared power of two.

## What it is
A group of 32 neighbours has one E8M0 scale. The codes are e4m3fn or e5m2 (MXFP8) or e2m1 (MXFP4); MXFP6 and MXINT8 exist, too. The scale's
exponent is that of the group's largest magnitude less that of the largest code.

## Who multiplies, who divides
    value = code x 2^(byte - 127)

gpt-oss and DeepSeek-V4 (experts) ship MXFP4, MiniMax-M3 MXFP8. NVFP4 is a cousin, not an MX format: groups of 16, an FP8 scale, and a
second scale for the tensor.

## In numbers
MXFP4 costs {mxfp4} bits for each weight, NVFP4 {nvfp4}, MXFP8 {mxfp8}, FP8 in blocks of 128 x 128 {block}.

## What goes wrong
* The scale is a power of two, so a group's largest numbers can lie beyond the largest code: up to 8 x scale in MXFP4, where the codes end
  at 6. They saturate.
* Two codes lie in a byte, the first in the low nibble. Swapped, neighbours change places.
* On Neuron only Trainium 3 has MX (aws-neuron-sdk#1366).

## See also
mxfp4, mxfp8, nvfp4, e8m0-scales, group-quantization, WB210

## References
OCP Microscaling Formats (MX) Specification 1.0; compressed-tensors 0.20.0; aws-neuron/aws-neuron-sdk#1366.
"""

from __future__ import annotations

from weighbridge.lessons.published import BLOCK

ALSO = ("mx",)


def numbers() -> dict[str, str]:
    from weighbridge.lessons.containers import document

    made = {name: f"{document(name)['bits_per_value']:g}" for name in ("mxfp4", "nvfp4", "mxfp8")}
    return made | {"block": f"{8 + 32 / (BLOCK[0] * BLOCK[1]):.3f}"}
