"""240-vs-448: E4M3 ends at 448 or at 240, by who reads it.

## What it is
Two formats share the name E4M3 and {alike} of 256 codes. OCP's e4m3fn gives the last codes of each sign to 256 ... 448 and one NaN. The
IEEE-like e4m3, which AWS Neuron has, gives them to infinity and NaN. The codes 0x78 to 0x7E, and 0xF8 to 0xFE, are the difference: {above}
of them. A third, e4m3fnuz on AMD gfx94x, ends at 240 too, but with another bias: each code means half.

## Who multiplies, who divides
To go from 448 to 240, divide the codes by two and multiply the scales by two (`explain halving`). Both are exact but for {odd} codes. NxD's
own README, and the published script for MiniMax-M2, divide by 448/240 (`explain legacy-448-240`). The published script for MiMo-V2-Flash
divides by 2.

## In numbers
Each block of a published checkpoint reaches 448 by construction. Of a Gaussian block {share} of the codes are above 240: read as e4m3, each
is an infinity or a NaN, in nearly every block. Clamping them to 240 costs {clamped} (root mean square).

## What goes wrong
Nothing on the host checks it. NxD keeps the tag `float8_e4m3fn`, torch has no other, and the compiler flag
`--experimental-unsafe-fp8e4m3fn-as-fp8e4m3` only says that the bytes are to be read the other way. A check of the bytes is complete: (byte
& 0x7F) < 0x78.

## Often written, and wrong
"IEEE, bias=8" is said of Neuron's FP8 in a public script for MiMo-V2-Flash. It is wrong because the IEEE-like format has bias 7: 0x38 is
1.0 in it, as in e4m3fn. Bias 8 is AMD's e4m3fnuz, where 0x38 is 0.5. Codes above 240 are not "slightly off", either: they are infinite or
no numbers.

## See also
e4m3fn, e4m3, e4m3fnuz, halving, legacy-448-240, saturation, WB601, WB431

## References
NxD 2.29 quantization/README_rescaling_fp8_for_neuron.md, quantization_config.py 24-26, 52-53; NxDI models/model_wrapper.py 145-159;
ml_dtypes `float8_e4m3`, `float8_e4m3fn`.
"""

from __future__ import annotations

from typing import Any

from weighbridge.lessons.arithmetic import block, codes, percent

ALSO = ("240", "448", "448-vs-240")


def numbers() -> dict[str, str]:
    counted, made = codes(), block()
    return {"alike": str(counted["alike"]), "above": str(counted["above"]), "odd": str(counted["halving_rounds"]),
            "share": percent(made["above_240"]),
            "clamped": percent(made["clamped"])}


def figure() -> dict[str, Any]:
    from weighbridge.lessons import formats

    marked = list(range(0x78, 0x80))
    lines = []
    for name in ("e4m3fn", "e4m3", "e4m3fnuz"):
        every = formats.codes(name)
        lines.append({"name": name, "values": [row["value"] for row in every[:128] if row["value"] is not None],
                      "marked": [{"code": code, "kind": every[code]["kind"], "value": every[code]["value"]} for code in marked],
                      "one": next(row["code"] for row in every if row["value"] == 1.0)})
    return {"kind": "limits", "title": "The same bytes in three formats: codes 0x78 to 0x7F", "lines": lines}
