"""e8m0-scales: scales that are powers of two, stored as an exponent or as floats.

## What it is
A scale of eight exponent bits and nothing else: 2^(byte - 127). The multiplication then only moves exponents, so it is exact. "UE8M0" is
the same: U for unsigned.

## Who multiplies, who divides
The reader multiplies by 2^(byte - 127), not by the byte. It comes in three containers:

* F8_E8M0 (DeepSeek-V4's `.scale`): the dtype says it.
* U8 (MXFP4 and MXFP8 in compressed-tensors, gpt-oss, MiniMax-M3): the byte is the exponent, and the dtype says nothing.
* F32 that holds powers of two (DeepSeek-V3.1, `scale_fmt: ue8m0`): multiply as it is. transformers 5.23.0 takes that key for one-byte
  storage.

## In numbers
The byte {byte} means 2^-7 = {value}. Multiplied by the byte itself, a weight with this scale is {factor} times too large. A scale that is
rounded to a power of two is at most 1.41 times off (to the nearest), so the codes must be made again with it.

## What goes wrong
* U8 is copied into a float parameter: MiniMax-M3 about 450,000 times off (omlx#2159), without an error.
* Kernels for Blackwell (DeepGEMM) take powers of two only. A reader that rounds F32 scales and leaves the codes loses accuracy: 12 points
  on GSM8K for Qwen3 on B200.
* AMD's fnuz conversion doubles scales: for E8M0 that is + 1 on the byte (ATOM#1576).

## See also
e8m0, mxfp4, mxfp8, microscaling, scale, WB407, WB427

## References
OCP Microscaling Formats (MX) Specification 1.0; DeepSeek-V3.1 inference/configs/config_v3.1.json; omlx#2159; vllm-project/vllm#38083,
#37804.
"""

from __future__ import annotations

ALSO = ("ue8m0", "scale_fmt", "e8m0-scale")


def numbers() -> dict[str, str]:
    from weighbridge.lessons import formats

    byte = 120
    value = formats.codes("e8m0")[byte]["value"]
    return {"byte": str(byte), "value": f"{value:.10g}", "factor": f"{byte / value:,.0f}"}
