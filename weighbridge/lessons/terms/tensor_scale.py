"""tensor-scale: one scale for a whole weight.

## What it is
A single number, with no axis or [1]. The cheapest scheme, and the coarsest: the largest weight of the tensor decides the step of all
others.

## Who multiplies, who divides
Everybody multiplies: compressed-tensors `strategy: tensor`, ModelOpt FP8 (`weight_scale`), Ministral-3 and Devstral 2 (`weight_scale_inv`
without an axis, `weight_block_size: null`), NxD's per-tensor `.scale` [1]. `input_scale` and `activation_scale` are the same for
activations, where they are static.

## What goes wrong
Fused layers (q, k, v to one; gate and up to one) have one scale in the reader and several in the files. A reader must take the largest and
rescale the rest; one that takes the first scales the others wrongly.

## See also
channel, block-quantization, dynamic-activation, WB426, WB428

## References
compressed-tensors 0.20.0; NxD 2.29 quantization/quantization_layers.py 650, 914 (static activations need per-tensor scales).
"""

ALSO = ("per-tensor",)
