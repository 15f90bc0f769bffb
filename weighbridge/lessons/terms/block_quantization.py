"""block-quantization: one scale for each rectangle of a weight, usually 128 x 128.

## What it is
The weight [N, K] is cut into blocks of `weight_block_size` rows and columns. Weight (i, j) has the scale (i // 128, j // 128), so the
scales are a grid of ceil(N/128) x ceil(K/128). At the edge a block is cut short; it still has a scale of its own. One outlier spoils the
precision of its block, not of its row.

## Who multiplies, who divides
    weight[i, j] = code[i, j] x scale[i // rows, j // columns]

* transformers, vLLM and SGLang take the block from `weight_block_size`.
* DeepSeek-V3's kernels and mlx-lm have 128 written in.
* transformers 5.23.0 decodes with rows / scale rows instead (see below).

## In numbers
MiniMax-M2 has {scales} scales in {tensors} FP8 weights: {share} of the bytes. Each scale stands for {per} weights. The error of a Gaussian
block in FP8 is {fp8} (root mean square); BF16 has {bf16}.

## What goes wrong
* The block, taken from shapes: 192 rows with 2 scale rows look like blocks of 96. transformers 5.23.0 `Fp8Dequantize` accepts that, and
  rows 96 to 127 get the wrong scale. 576 rows with 5 scale rows are refused.
* A weight is turned and its grid is not.
* A rank's share that ends inside a block (`explain block-grid-and-shards`).

## See also
block-grid-and-shards, group-quantization, channel, tensor-scale, weight_scale_inv, WB206, WB408, WB409

## References
DeepSeek-V3 README_WEIGHTS.md; transformers 5.23.0 integrations/finegrained_fp8.py `Fp8Dequantize._dequantize_one`;
vllm-project/llm-compressor#2286.
"""

from __future__ import annotations

from typing import Any

from weighbridge.lessons.arithmetic import block, percent
from weighbridge.lessons.published import BLOCK, totals


def numbers() -> dict[str, str]:
    whole, made = totals(), block()
    return {"scales": f"{whole['scale_values']:,}", "tensors": f"{whole['scales']:,}", "share": percent(4 * whole["scale_values"] / whole["bytes"]),
            "per": f"{BLOCK[0] * BLOCK[1]:,}", "fp8": percent(made["fp8"]), "bf16": percent(made["bf16"])}


def figure() -> dict[str, Any]:
    rows, columns = 320, 576
    grid = (-(-rows // BLOCK[0]), -(-columns // BLOCK[1]))
    return {"kind": "blocks", "title": f"A weight [{rows}, {columns}] in blocks of {BLOCK[0]} x {BLOCK[1]}: a grid of {grid[0]} x {grid[1]} scales",
            "rows": rows, "columns": columns, "block": list(BLOCK), "grid": list(grid), "cell": {"row": 200, "column": 300}}
