"""amax: the largest magnitude of a block; it decides the scale.

## What it is
amax = max |weight| over the block, group, row or tensor. The quantizer sets

    scale = amax / (largest code)

so the largest weight becomes the largest code: 448 for e4m3fn, 240 for a reader of e4m3, 127 for INT8. Read backwards it is the fastest
check of a checkpoint: scale x largest code is the largest weight, and that is known roughly for every layer.

## In numbers
Gaussian weights with a spread of 0.02 have amax = {amax} in a block of {count}; the scale is {scale}.

## What goes wrong
* One outlier widens the step of its whole block. Small blocks hold less of the damage.
* amax over padding is harmless, since padding is zero; amax over a cut block is another number than the whole block's.
* A block of zeros has amax 0. transformers gives it the scale 1.0, and so does Weighbridge; 0 / 0 makes NaN where nobody thought of it.
* NVFP4 has two: of the group for `weight_scale`, of the tensor for the second scale, which is amax / {second} = amax / (6 x 448).

## See also
scale, saturation, block-quantization, nvfp4, WB422, WB423

## References
DeepSeek-V3 README_WEIGHTS.md; transformers 5.23.0 integrations/finegrained_fp8.py; compressed-tensors 0.20.0
quantization/lifecycle/forward.py.
"""

from __future__ import annotations

from weighbridge.lessons.arithmetic import SIDE, block


def numbers() -> dict[str, str]:
    from weighbridge.encoding.codec import FORMATS

    made = block()
    return {"amax": f"{made['amax']:.4f}", "count": f"{SIDE**2:,}", "scale": f"{made['scale']:.4g}",
            "second": f"{FORMATS['e2m1'].max * FORMATS['e4m3fn'].max:g}"}
