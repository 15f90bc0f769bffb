"""saturation: what lies beyond the largest value becomes the largest value.

## What it is
A format ends. A number beyond the end is held at the end (saturation), or becomes infinity or NaN. Which of them happens is a choice of the
library and of the device, not of the format.

## In numbers
{table}

## What goes wrong
* A saturated weight is wrong in size and right in sign. An infinity or a NaN spreads through the whole layer.
* A cast does not protect a file: torch 2.13 on the CPU holds e4m3fn at 448, which Neuron reads as NaN. Only codes up to 240 are safe there.
* MX scales are powers of two, so the largest numbers of a group may lie beyond the largest code: FP4 with 6 x scale holds them at 6.

## See also
e4m3fn, e4m3, e5m2, amax, 240-vs-448, kv-cache, WB605

## References
Weighbridge's encoding/codec.py `encode`; torch 2.13 and ml_dtypes casts; OCP Microscaling Formats (MX) Specification 1.0.
"""

from __future__ import annotations


def numbers() -> dict[str, str]:
    from weighbridge.lessons import formats

    rows = []
    for fmt in ("e4m3fn", "e4m3", "e4m3fnuz", "e5m2", "e2m1"):
        end = formats.document(fmt)["end"]
        after = f"the next code, 0x{end['next_code']:02X}, is {formats.NAMED[end['next_is']]}" if end["next_is"] else "no code comes after it"
        rows.append(f"* {fmt} ends at {end['largest']:,g} (code 0x{end['code']:02X}); {after}.")
    return {"table": "\n".join(rows)}
