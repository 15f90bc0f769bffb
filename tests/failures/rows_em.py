"""Rows of the groups E (parallel layout) and M (scales of the key/value cache), and those of others that lie there: A7, D4, D9, L8.

Read in vLLM main, SGLang main, TensorRT-LLM main, transformers 5.23.0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.failures.tools import BLOCK_FP8, Row, build, deepseek, llama, m2, qwen3_moe

GATE_UP = "The output_size of gate's and up's weight = 192 is not divisible by weight quantization block_n = 128."
WIDE: dict[str, Any] = {"experts": 2, "inter": 1536, "heads": 8}


def wide_m2(folder: Path) -> Path:
    return build(folder, *m2(**WIDE, num_experts_per_tok=1))


def wide_qwen3(folder: Path) -> Path:
    return build(folder, *qwen3_moe(experts=8, inter=1536, heads=8, kv_heads=4))


def plain(folder: Path) -> Path:
    return build(folder, *llama())


def normed(folder: Path, whole: bool) -> Path:
    """A dense BF16 model with q/k norms over all heads (OLMo 2), or over each."""
    tensors, config = llama(quantize=False, qk_norm=True, model_type="olmo2_like", architectures=["Olmo2LikeForCausalLM"])
    for layer in range(2):
        at = f"model.layers.{layer}.self_attn."
        tensors[at + "q_norm.weight"], tensors[at + "k_norm.weight"] = ("BF16", (512 if whole else 128,)), ("BF16", (256 if whole else 128,))
    return build(folder, tensors, config)


def gated(folder: Path, key: str) -> Path:
    """A block-FP8 model with a narrow BF16 gate in attention, listed under `key`."""
    tensors, config = llama()
    listed = ["lm_head"]
    for layer in range(2):
        listed.append(f"model.layers.{layer}.self_attn.g_proj")
        tensors[listed[-1] + ".weight"] = ("BF16", (64, 512))
    config |= {"quantization_config": {**BLOCK_FP8, key: listed}, "model_type": "laguna", "architectures": ["LagunaForCausalLM"]}
    return build(folder, tensors, config)


def scaled_cache(folder: Path) -> Path:
    """Block FP8 with scales of keys and values."""
    tensors, config = llama()
    for layer in range(2):
        for leaf in ("k_scale", "v_scale"):
            tensors[f"model.layers.{layer}.self_attn.{leaf}"] = ("F32", (1,))
    return build(folder, tensors, config)


def draft(folder: Path, scales: bool) -> Path:
    tensors, config = deepseek(mtp=True)
    for leaf in ("k_scale", "v_scale") if scales else ():
        tensors[f"model.layers.3.self_attn.{leaf}"] = ("F32", (1,))
    return build(folder, tensors, config)


def packed(folder: Path) -> Path:
    """compressed-tensors INT4: packed weights with their true shapes beside them."""
    tensors, config = llama(quantize=False)
    for path in [name.removesuffix(".weight") for name in tensors if "_proj" in name]:
        rows, cols = tensors.pop(path + ".weight")[1]
        tensors |= {path + ".weight_packed": ("I32", (rows, cols // 8)), path + ".weight_scale": ("BF16", (rows, cols // 32)),
                    path + ".weight_shape": ("I64", (2,))}
    weights = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": True, "dynamic": False}
    config["quantization_config"] = {"quant_method": "compressed-tensors", "format": "pack-quantized", "quantization_status": "compressed",
                                     "ignore": ["lm_head"],
                                     "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}}
    return build(folder, tensors, config)


def awq(folder: Path, inter: int) -> Path:
    tensors, config = llama(quantize=False, inter=inter)
    for path in [name.removesuffix(".weight") for name in tensors if "_proj" in name]:
        rows, cols = tensors.pop(path + ".weight")[1]
        tensors |= {path + ".qweight": ("I32", (cols, rows // 8)), path + ".qzeros": ("I32", (cols // 128, rows // 8)),
                    path + ".scales": ("F16", (cols // 128, rows))}
    config |= {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm",
                                       "modules_to_not_convert": None},
               "torch_dtype": "float16"}
    return build(folder, tensors, config)


def fused_qkv(folder: Path) -> Path:
    """q, k and v of eight groups of 1856 rows in one stored weight, as in MiMo-V2.5."""
    tensors, config = llama(heads=64, kv_heads=8, hidden=512)
    for layer in range(2):
        at = f"model.layers.{layer}.self_attn."
        for leaf in "qkv":
            del tensors[f"{at}{leaf}_proj.weight"], tensors[f"{at}{leaf}_proj.weight_scale_inv"]
        tensors[at + "qkv_proj.weight"], tensors[at + "qkv_proj.weight_scale_inv"] = ("F8_E4M3", (14848, 512)), ("F32", (116, 4))
        tensors[at + "o_proj.weight"], tensors[at + "o_proj.weight_scale_inv"] = ("F8_E4M3", (512, 8192)), ("F32", (4, 64))
    config |= {"head_dim": 192, "v_head_dim": 128, "model_type": "mimo_like", "architectures": ["MimoLikeForCausalLM"]}
    return build(folder, tensors, config)


def cut(row: str, runtimes: str, code: str, make: Any, where: str, tp: int, good: dict[str, Any], variant: str) -> Row:
    return Row(row, code, make, make, runtimes, where, settings={"tp": tp}, good_settings=good, variant=variant)


ROWS = [
    cut("E1", "vllm", "WB502", wide_m2, GATE_UP, 8, {"tp": 8, "expert_parallel": True}, "vllm-and-expert-parallel"),
    cut("E1", "vllm", "WB502", wide_m2, "expert TP 1, 2, 3, 4, 6, 12; or EP 8", 8, {"tp": 4}, "vllm-and-a-smaller-tp"),
    cut("E1", "sglang", "WB502", wide_qwen3, GATE_UP, 8, {"tp": 8, "ep": 8}, "sglang-and-ep"),
    cut("E1", "tensorrt-llm", "WB502", wide_qwen3, "1536/8 = 192", 8, {"tp": 8, "moe_tp": 1, "moe_ep": 8}, "tensorrt-llm-and-ep"),
    cut("E3", "vllm,sglang", "WB503", lambda f: build(f, *deepseek(inter=18432, heads=32)), "18432/32 = 576", 32, {"tp": 2},
        "dense-layer-of-deepseek"),
    cut("E3", "tensorrt-llm", "WB503", lambda f: build(f, *llama(inter=2304)), "2304/4 = 576", 4, {"tp": 2}, "dense-llama"),
    cut("E5", "vllm", "WB503", lambda f: build(f, *llama(heads=8, kv_heads=2)), "Weight output_partition_size = 64 is not divisible", 2, {"tp": 1},
        "narrow-key-heads"),
    cut("E5", "vllm", "WB503", lambda f: build(f, *deepseek(moe_inter=256)), "the shared experts cannot be cut 4 ways: 256/4 = 64", 4, {"tp": 2},
        "shared-experts"),
    cut("E5", "sglang", "WB503", lambda f: build(f, *llama(heads=8, hidden=1024, inter=256)), "256/4 = 64", 4, {"tp": 2}, "narrow-dense-layer"),
    cut("E5", "vllm", "WB504", lambda f: awq(f, 640), "640/2 = 320", 2, {"tp": 1}, "awq-group"),
    cut("D4", "vllm", "WB509", fused_qkv, "The size of tensor a (1856) must match the size of tensor b (1792)", 8, {"tp": 4}, "fused-qkv-groups"),
    cut("D9", "transformers", "WB507", packed, "weight_shape is cut 2 ways", 2, {}, "transformers-tp"),
    Row("E8", "WB506", lambda f: normed(f, True), lambda f: normed(f, False), "neuron", "2 ranks hold 2 of 4", "warning", {"tp": 2},
        variant="neuron"),
    Row("E8", "WB506", lambda f: normed(f, True), lambda f: normed(f, False), "vllm", "512 and 256 values", "note", {"tp": 2}, variant="vllm"),
    Row("A7", "WB508", lambda f: gated(f, "ignored_layers"), lambda f: gated(f, "modules_to_not_convert"), "tensorrt-llm", "64/2 rows",
        settings={"tp": 2},
        variant="ignored_layers"),
    Row("M3", "WB802", plain, scaled_cache, "vllm", "0 tensors k_scale", "warning", {"kv_cache_dtype": "fp8"}, variant="vllm"),
    Row("M3", "WB802", plain, plain, "sglang", "fp8_e4m3", "warning", {"kv_cache_dtype": "fp8_e4m3"}, {"kv_cache_dtype": "fp8_e5m2"},
        variant="sglang-e5m2"),
    Row("M4", "WB803", plain, plain, "tensorrt-llm", "'Linear' object has no attribute 'kv_scales'", settings={"kv_cache_dtype": "nvfp4"},
        good_settings={},
        variant="asked-for"),
    Row("L8", "WB804", lambda f: draft(f, True), lambda f: draft(f, False), "vllm", "model.layers.3.self_attn", "warning",
        variant="deepseek-draft-layer"),
]

UNDECIDED: dict[str, str] = {}
