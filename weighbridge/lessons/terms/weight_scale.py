"""weight_scale: the scale's name in compressed-tensors and ModelOpt; it multiplies.

## What it is
The same as `weight_scale_inv` under an honest name. Its shape says the strategy: none or [1] for the tensor, [N, 1] for rows, [N, K/group]
for groups, a grid for blocks.

## Who multiplies, who divides
* compressed-tensors 0.20.0, ModelOpt and FBGEMM multiply by it.
* NVFP4: compressed-tensors divides by `weight_global_scale` as well; ModelOpt multiplies by `weight_scale_2`.
* NxD Inference renames names that end in `.weight_scale` to `.scale` (models/application_base.py). `weight_scale_inv` passes unrenamed, so
  a raw DeepSeek-style checkpoint has no scale there. The contrib port of MiniMax-M2 renames neither.

## What goes wrong
From HF block FP8 to compressed-tensors blocks the change is a name, no arithmetic. A converter that "inverts" on the way destroys the
weights. A reader that looks for the other name finds none, and several go on without.

## See also
weight_scale_inv, scale, nvfp4, channel, group-quantization, WB403, WB404

## References
compressed-tensors 0.20.0; NxDI models/application_base.py 692-738; transformers 5.23.0 integrations/fbgemm_fp8.py.
"""
