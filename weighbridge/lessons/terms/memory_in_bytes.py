"""memory-in-bytes: what a model weighs: parameters times bytes, not tensors times anything.

## What it is
A tensor has a shape; its bytes are the product of the shape times the size of one element. A count of tensors says how long the index is,
and nothing about memory.

## In numbers
MiniMax-M2 as published, from its inventory: {tensors} tensors ({scales} of them scales), {parameters} parameters, {bytes} bytes = {gb}
({gib}). In BF16 it would be {bf16}. One layer has {layer} in FP8 and {layer_bf16} in BF16. FP8 halves the model: {share} of BF16. The
scales cost {scale_share} of it.

## What goes wrong
* On a rank other things lie beside the weights: the key/value cache, activations, what every rank holds whole.
* A GB is 10^9 bytes, a GiB 2^30. Device memory is told in both.
* A loader that reads whole files needs the model in host memory twice.

## Often written, and wrong
"96,103 parameters x 2 bytes = 192 MB per layer" in BF16, 48 MB in FP8, 75 % saved, 46 GB for the model: so it stands in the notes that
started this project. It is wrong because 96,103 is the number of tensors in the whole model. Times 2 it is not even 192 MB, but {wrong}
bytes. FP8 saves a half, not three quarters.

## See also
kv-cache, bf16, block-quantization, tensor-parallel, WB801

## References
The published config.json and headers of MiniMax-M2 (96,103 tensors: kvcache-ai/ktransformers#1818); safetensors format.
"""

from __future__ import annotations

from weighbridge.lessons.arithmetic import percent
from weighbridge.lessons.published import totals

ALSO = ("memory-bytes", "bytes")


def numbers() -> dict[str, str]:
    whole = totals()
    return {"tensors": f"{whole['tensors']:,}", "scales": f"{whole['scales']:,}", "parameters": f"{whole['parameters']:,}",
            "bytes": f"{whole['bytes']:,}",
            "gb": f"{whole['bytes'] / 1e9:.2f} GB", "gib": f"{whole['bytes'] / 2**30:.2f} GiB", "bf16": f"{whole['bytes_bf16'] / 1e9:.0f} GB",
            "layer": f"{whole['layer_bytes'] / 1e9:.2f} GB", "layer_bf16": f"{whole['layer_bytes_bf16'] / 1e9:.2f} GB",
            "share": percent(whole["bytes"] / whole["bytes_bf16"]), "scale_share": percent(4 * whole["scale_values"] / whole["bytes"]),
            "wrong": f"{whole['tensors'] * 2:,}"}
