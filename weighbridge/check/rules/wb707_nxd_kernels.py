"""WB707 nxd-kernels: kernel and activation settings that contradict the quantization.

## What it does
Reads `quantized_mlp_kernel_enabled`, `activation_quantization_type`, `rmsnorm_quantize_kernel_enabled` and `quantization_type` together.

## Why it matters
The first two overwrite a block-wise type with per-channel `f8e4m3`: the block settings are ignored without a word. The others are refused.

## Example
`quantization_type: blockwise_symmetric` with `quantized_mlp_kernel_enabled: true`.

## How to mend
Switch the kernel off for block scales; the finding names the setting.

## References
Rules R4 (NxDI models/config.py 576-578, 784), R5 (542-545), R7 (547-550), R21 (NxD quantization_layers.py 97-102) and
R6 (config.py 438-444), R49 (contrib modeling_minimax_m2.py 1001-1004) of docs/neuron.md.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Fix
from weighbridge.check.nxd_settings import READ_IN, Nxd, nxd
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

RULE = Rule("WB707", "nxd-kernels", "error", ("neuron",), READ_IN)
TYPES = ("per_tensor_symmetric", "per_channel_symmetric", "expert_wise_per_channel_symmetric", "blockwise_symmetric")
ACTIVATIONS = ("dynamic",)


def find(case: Case, target: Target) -> Iterator[Finding]:
    n = nxd(case)
    for key, title, evidence, consequence, value in _faults(n):
        yield RULE.finding(title, n.where(key), evidence=evidence, consequence=consequence,
                           fix=Fix(f"set {key} to {value!r}", value, (n.edit(key, value),)),
                           runtime=target.runtime)


def _faults(n: Nxd) -> Iterator[tuple[str, str, str, str, object]]:
    kernel, norm = n.flag("quantized_mlp_kernel_enabled") is True, n.flag("rmsnorm_quantize_kernel_enabled") is True
    activation, kind = n.values.get("activation_quantization_type"), n.values.get("quantization_type")
    if kernel and activation:
        yield ("activation_quantization_type", "activation quantization and quantized kernels exclude each other",
               f"activation_quantization_type {activation!r:.40}",
               "AssertionError: native quantization does not work with quantized kernels", None)
    if norm and not kernel:
        yield ("rmsnorm_quantize_kernel_enabled", "the quantizing norm kernel needs the quantized MLP kernel",
               "quantized_mlp_kernel_enabled is not true",
               "AssertionError: quantized_mlp_kernel must be enabled to use rmsnorm_quantize_kernel!", False)
    if n.blockwise and (kernel or activation):
        key = "quantized_mlp_kernel_enabled" if kernel else "activation_quantization_type"
        yield (key, "a kernel setting overwrites the block-wise type", f"{key} {n.values[key]!r:.40} with quantization_type blockwise_symmetric",
               "no error: the type becomes per_channel_symmetric with f8e4m3, the block settings are ignored", False if kernel else None)
    if n.contrib and n.flag("attn_block_tkg_nki_kernel_enabled") and not (
            n.flag("attn_block_tkg_nki_kernel_cascaded_attention") and (n.flag("qkv_nki_kernel_enabled") or n.flag("qkv_kernel_enabled"))):
        yield ("attn_block_tkg_nki_kernel_enabled", "the attention block kernel needs cascaded attention and a qkv kernel",
               "one of them is not switched on",
               "AssertionError (modeling_minimax_m2.py 1001-1004)", False)
    if n.quantized and kind is not None and kind not in TYPES:
        yield ("quantization_type", "quantization_type is none that NxD knows", f"{kind!r:.60}; known are {', '.join(TYPES)}",
               f"ValueError: {kind!r:.60} is not a valid QuantizationType", "blockwise_symmetric")
    if activation and activation not in ACTIVATIONS and not kernel:
        yield ("activation_quantization_type", "activation_quantization_type is none that NxD knows", f"{activation!r:.60}; known is dynamic",
               "Unsupported activation quantization type", None)
