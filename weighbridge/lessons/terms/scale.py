"""scale: the number by which one multiplies a stored code to get the weight.

## What it is
A code of eight or four bits has a fixed list of values. The scale stretches that list over the weights of a block, a group, a row or a
tensor:

    weight = code x scale

The quantizer chose it: scale = amax / (largest code), so the largest weight of the block becomes the largest code.

## Who multiplies, who divides
In Weighbridge `scale` always multiplies. A format that stores a divisor is turned when it is read.

* `weight_scale_inv` (block FP8), `weight_scale` (compressed-tensors, ModelOpt, FBGEMM), `.scale` (NxD, DeepSeek-V4), `scales` (AWQ, GPTQ):
  multiply.
* `weight_global_scale`, `input_global_scale` (NVFP4 in compressed-tensors): divide.
* U8 beside codes: an exponent, 2^(byte - 127), and then it multiplies.

## What goes wrong
A weight that moves without its scale, a scale with another grid than its weight, a scale with another meaning of its bytes. The last two
load without an error in several readers.

## See also
weight_scale_inv, weight_scale, amax, e8m0-scales, reciprocal, block-quantization, WB401, WB408

## References
NxD 2.29 quantization/dequantize.py 37-38, 121; compressed-tensors 0.20.0; DeepSeek-V3 README_WEIGHTS.md.
"""
