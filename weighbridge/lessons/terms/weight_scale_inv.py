"""weight_scale_inv: the scale of block FP8; it multiplies, whatever its name says.

## What it is
A float32 tensor beside each FP8 weight: one number for each block of 128 x 128 weights. `q_proj.weight` [6144, 3072] has a
`q_proj.weight_scale_inv` [48, 24]. The name comes from the quantizer: there the factor is 448 / amax, and this tensor holds its inverse,
amax / 448. To the reader it is the scale.

## Who multiplies, who divides
Everybody multiplies:

    weight = code x weight_scale_inv

* DeepSeek-V3: README_WEIGHTS.md, "Dequantization Formula"; `y = x * s` in inference/kernel.py 85.
* transformers 5.23.0, vLLM, SGLang, mlx-lm and compressed-tensors multiply.
* AWS Neuron: NxD 2.29 multiplies by `.scale` (quantization/dequantize.py 121). So `.scale` = `weight_scale_inv`, times the factor by which
  the codes were divided (2, where they were halved).

## In numbers
A block of Gaussian weights with a largest magnitude of {amax} gets the scale {scale}. Code 448 is the weight {right}. With the reciprocal
as scale it is {wrong}: {factor} times too large.

## What goes wrong
A reader that divides, or a converter that stores 1 / weight_scale_inv, makes every weight about 1/scale^2 times too large. No shape and no
dtype is wrong, so nothing refuses it. A `.scale` above 1 is the sign.

## Often written, and wrong
"`weight_scale_inv` = 1/scale, so Neuron's `.scale` = 1 / `weight_scale_inv`" is often written. It is wrong because both are multipliers.
The guides that say so (examples/minimax_m2_misc in whn09/neuronx-distributed-inference) call it the "dequantization multiplier" in the same
table; later code in that fork withdraws it: "Despite the name, weight_scale_inv is actually the scale itself".

## See also
scale, reciprocal, weight_scale, block-quantization, halving, WB423

## References
DeepSeek-V3 README_WEIGHTS.md and inference/kernel.py; NxD 2.29 quantization/dequantize.py 37-38, 121; transformers 5.23.0
integrations/finegrained_fp8.py.
"""

from __future__ import annotations

from typing import Any

from weighbridge.lessons.arithmetic import block


def numbers() -> dict[str, str]:
    made = block()
    return {"amax": f"{made['amax']:.4g}", "scale": f"{made['scale']:.4g}", "right": f"{448 * made['scale']:.4g}",
            "wrong": f"{448 / made['scale']:.4g}",
            "factor": f"{made['reciprocal_factor']:.3g}"}


def figure() -> dict[str, Any]:
    scale = block()["scale"]
    return {"kind": "convention", "title": "weight_scale_inv as multiplier, and as divisor", "scale": scale, "codes": [
        {"code": code, "multiplied": code * scale, "divided": code / scale} for code in (1.0, 16.0, 448.0)]}
