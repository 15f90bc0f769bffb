"""channel: one scale for each row of a weight, that is for each output.

## What it is
The scales are [N, 1], in some files [N]. "Channel" is an output channel: one row of [out, in]. Since the row's scale is a common factor of
a whole dot product, a kernel may multiply once, after the sum.

## Who multiplies, who divides
* compressed-tensors `strategy: channel`, FBGEMM and ModelOpt's FP8_PER_CHANNEL_PER_TOKEN multiply by `weight_scale`.
* NxD 2.29 multiplies the output of the matmul by `.scale` (quantization/dequantize.py 37-38). For 2-D weights the axis must be 0, for fused
  experts 2.
* bitsandbytes INT8 stores the row's largest magnitude (`SCB`): value = code x SCB / 127.

## In numbers
A row of MiniMax-M2's q_proj has {blocks} blocks of 128, each with its own scale. One scale in their place means that the row is quantized
again. That costs about the error that FP8 has anyway, {fp8} on Gaussian weights, and no rescaling factor helps.

## What goes wrong
* A grid with one column, [N/128, 1], is taken for one scale per row.
* `quantized_mlp_kernel_enabled` in NxD Inference sets the type to per-channel in silence, whatever the block settings say.

## Often written, and wrong
That attention must be per row because "each rank's output dim is < 128 at TP=64" is written in the contrib port of MiniMax-M2. It is wrong
because 64 padded heads of 128 at TP 64 leave 128 rows, one whole block. What forbids blocks there is a check, `verify_scale_dimension`, and
block axes [1, 2] on a 2-D weight.

## See also
tensor-scale, block-quantization, int8, WB410, WB702, WB707

## References
compressed-tensors 0.20.0; NxD 2.29 quantization/quantization_layers.py 568-571, 673-688; NxDI models/config.py 576-578,
modules/attention/gqa.py 131-134.
"""

from __future__ import annotations

from weighbridge.lessons.arithmetic import block, percent
from weighbridge.lessons.published import BLOCK, CONFIG

ALSO = ("per-row", "row-scale", "per-channel")


def numbers() -> dict[str, str]:
    return {"blocks": str(CONFIG["hidden_size"] // BLOCK[1]), "fp8": percent(block()["fp8"])}
