"""halving: codes divided by two, scales multiplied by two; how 448 becomes 240 without loss.

## What it is
A float is halved by lowering its exponent by one. So an e4m3fn code becomes the code of half its value, and no result exceeds 224. The
scale doubles, exactly, in float32:

    (code / 2) x (2 x scale) = code x scale

## In numbers
Only the codes without a spare exponent round: the odd ones below 0x10, {odd} of 254. Of the {normals} normal codes {changed} change value.
In a Gaussian block {share} of the weights change, and the error is {error} (root mean square). Dividing by 448/240 has {legacy}.

## What goes wrong
Little. Seven percent of headroom (224 in place of 240) stays unused; nothing in NxD wants a maximum of exactly 240, and a float is as
precise at 224 as there. A block whose codes all lie below 256 needs no halving, but one rule for all blocks keeps the scales comparable.

## See also
240-vs-448, legacy-448-240, subnormal, e4m3, weight_scale_inv, WB601

## References
Weighbridge's encoding/codec.py `halve`; the published script for MiMo-V2-Flash (factor 2); NxD 2.29 quantization/quantization_config.py
24-26.
"""

from __future__ import annotations

from weighbridge.lessons.arithmetic import block, codes, percent

ALSO = ("halve",)


def numbers() -> dict[str, str]:
    counted, made = codes(), block()
    return {"odd": str(counted["halving_rounds"]), "normals": str(counted["normals"]), "changed": str(counted["halving_rounds_normals"]),
            "share": percent(made["halving_changed"]), "error": percent(made["halving"]), "legacy": percent(made["legacy"])}
