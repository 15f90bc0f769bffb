"""group-quantization: one scale for a few neighbours in a row, 16, 32 or 128 of them.

## What it is
A row is cut into groups of `group_size` along the input axis. The scales are [N, K/group]. It is a block with one row.

## Who multiplies, who divides
    weight[i, j] = code[i, j] x scale[i, j // group]

mxfp8 and mxfp4 have groups of 32, nvfp4 of 16, INT4 of 32 or 128. AWQ and GPTQ store the weight turned, [in, out], and so the scales
[K/group, N]. GPTQ with `desc_act` gives each column its group by `g_idx`.

## What goes wrong
* Tensor parallelism that cuts a row inside a group, or inside a packed word of eight 4-bit codes.
* Columns of 4-bit files: U8 has K/2 columns, I32 has K/8. A shape that is taken for the weight's is wrong by 2 or 8.
* Zero points of the other version of GPTQ: each weight is one step off.

## See also
block-quantization, microscaling, mxfp4, nvfp4, int4, WB411, WB429, WB504

## References
compressed-tensors 0.20.0 (strategies `group`, `tensor_group`); OCP Microscaling Formats (MX) Specification 1.0; vllm-project/vllm#38966.
"""

ALSO = ("group", "groups")
