"""reciprocal: 1 / scale, taken where the scale was meant.

## What it is
A scale and its reciprocal have the same shape, the same dtype and the same name. Some formats store one, some the other, so the mistake is
easy.

## Who multiplies, who divides
Nearly all files hold multipliers: `weight_scale_inv`, `weight_scale`, NxD's `.scale`, ModelOpt's `weight_scale_2` and `input_scale`,
FBGEMM's `weight_scale`. The divisors on disk are two: `weight_global_scale` and `input_global_scale` of NVFP4 in compressed-tensors. They
are the reciprocals of ModelOpt's `weight_scale_2` and `input_scale`.

## In numbers
The scale of a usual block is about {scale}. Its reciprocal makes the weights 1/scale^2 = {factor} times too large.

## What goes wrong
The model loads, and speaks garbage or NaN. Weighbridge takes the reciprocal only when it is named twice (`--scale-rule reciprocal --allow
reciprocal`), to show what it does; `check` compares the weights with what their fan-in allows.

## Often written, and wrong
That Neuron's scale is the inverse of Hugging Face's is often written. It is wrong because both multiply.

## See also
weight_scale_inv, scale, nvfp4, WB423, WB425

## References
NxD 2.29 quantization/dequantize.py 121; compressed-tensors 0.20.0 quantization/lifecycle/forward.py; modular/modular#6699;
ggml-org/llama.cpp#21095.
"""

from __future__ import annotations

from weighbridge.lessons.arithmetic import block


def numbers() -> dict[str, str]:
    made = block()
    return {"scale": f"{made['scale']:.2g}", "factor": f"{made['reciprocal_factor']:.2g}"}
