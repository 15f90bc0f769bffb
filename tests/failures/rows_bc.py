"""Rows B (scale missing, extra or dropped; without B1, B2 and B14) and C (convention: inverse, renamed, wrong family).

Readers: vLLM main (minimax_m2 as of 0.18.0: vllm#37214, #38303), sglang#30234, #33541, #1559, TensorRT-LLM 1.3.0rc25 (#18658), NxDI main
(models/application_base.py), transformers 5.23.0, compressed-tensors 0.20.0. Numbers: DeepSeek-V3 README_WEIGHTS.md.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from pathlib import Path

from tests.failures.quantized import (
    changed,
    compressed_fp8,
    compressed_int4,
    compressed_nvfp4,
    dense,
    experts,
    gptq,
    listed,
    modelopt_nvfp4,
    shapes_of,
    written,
    zeros,
)
from tests.failures.tools import Config, Row, Tensors, build, deepseek, floats, fp8, llama, m2, qwen3_moe


def without(*endings: str) -> Callable[[Tensors, Config], None]:
    def change(tensors: Tensors, _: Config) -> None:
        gone = [name for name in tensors if name.endswith(endings)]
        assert gone, endings
        for name in gone:
            del tensors[name]
    return change


def renamed(old: str, new: str) -> Callable[[Tensors, Config], None]:
    def change(tensors: Tensors, _: Config) -> None:
        for name in [n for n in tensors if n.endswith(old)]:
            tensors[name.removesuffix(old) + new] = tensors.pop(name)
    return change


def kv_scales(*leaves: str) -> Callable[[Tensors, Config], None]:
    def change(tensors: Tensors, config: Config) -> None:
        for layer in range(config["num_hidden_layers"]):
            for leaf in leaves:
                tensors[f"model.layers.{layer}.self_attn.{leaf}"] = ("F32", (1,))
    return change


def typed(model_type: str, architecture: str) -> Callable[[Tensors, Config], None]:
    def change(_: Tensors, config: Config) -> None:
        config.update(model_type=model_type, architectures=[architecture])
    return change


def both(*changes: Callable[[Tensors, Config], None]) -> Callable[[Tensors, Config], None]:
    def change(tensors: Tensors, config: Config) -> None:
        for one in changes:
            one(tensors, config)
    return change


def m2_nvfp4() -> tuple[Tensors, Config]:
    """MiniMax-M2 as NVIDIA publishes it: experts in NVFP4, attention left alone, scales of the KV cache."""
    tensors, config = m2()
    out: Tensors = {}
    for name, (dtype, shape) in tensors.items():
        if name.endswith("weight_scale_inv"):
            continue
        path = name.removesuffix(".weight")
        if dtype == "F8_E4M3" and ".experts." in name:
            out |= {name: ("U8", (shape[0], shape[1] // 2)), path + ".weight_scale": ("F8_E4M3", (shape[0], shape[1] // 16)),
                    path + ".weight_scale_2": ("F32", ()), path + ".input_scale": ("F32", ())}
        else:
            out[name] = ("BF16" if dtype == "F8_E4M3" else dtype, shape)
    attention = [f"model.layers.{layer}.self_attn.{p}_proj" for layer in range(config["num_hidden_layers"]) for p in "qkvo"]
    gates = [f"model.layers.{layer}.block_sparse_moe.gate" for layer in range(config["num_hidden_layers"])]
    config["quantization_config"] = {"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16, "ignore": ["lm_head", *attention, *gates]}
    return out, config


def same_globals(tensors: Tensors) -> dict[str, bytes]:
    """One second scale and one activation scale for all: what calibration with joined parts gives, near enough."""
    values = {"weight_scale_2": 3e-4, "weight_global_scale": 3000.0, "input_scale": 0.01, "input_global_scale": 80.0}
    return {name: floats([values[leaf]] * prod(shape)) for name, (_, shape) in tensors.items() if (leaf := name.rpartition(".")[2]) in values}


def as_reciprocal(tensors: Tensors) -> dict[str, bytes]:
    """Scales as a port that took the name at its word writes them."""
    return {name: floats([1 / (1e-4 * (1 + (i + sum(name.encode())) % 97 / 97)) for i in range(prod(shape))], dtype) for name, (dtype, shape) in tensors.items()
            if name.endswith((".weight_scale_inv", ".weight_scale", ".scale"))}


def inverted(tensors: Tensors) -> dict[str, bytes]:
    """Second scales in the other convention."""
    given = same_globals(tensors)
    return given | {name: floats([3000.0 if name.endswith("_2") else 3e-4]) for name in given if name.endswith(("weight_scale_2", "weight_global_scale"))}


def indexer(quantized: bool) -> Callable[[Tensors, Config], None]:
    def change(tensors: Tensors, config: Config) -> None:
        config.update(model_type="deepseek_v32", architectures=["DeepseekV32ForCausalLM"], index_n_heads=4, index_head_dim=128, index_topk=64)
        for layer in range(config["num_hidden_layers"]):
            at = f"model.layers.{layer}.self_attn.indexer."
            fp8(tensors, at + "wq_b", (512, 256))
            if quantized:
                fp8(tensors, at + "wk", (128, config["hidden_size"]))
            else:
                tensors[at + "wk.weight"] = ("BF16", (128, config["hidden_size"]))
            tensors[at + "k_norm.bias"] = ("BF16", (128,))
            tensors[at + "k_norm.weight"], tensors[at + "weights_proj.weight"] = ("BF16", (128,)), ("BF16", (4, config["hidden_size"]))
        if not quantized:
            config["quantization_config"]["modules_to_not_convert"] = [f"model.layers.{n}.self_attn.indexer.wk" for n in range(config["num_hidden_layers"])]
    return change


def fp4_experts(suffix: str) -> Callable[[], tuple[Tensors, Config]]:
    """Experts one by one as FP4 pairs with exponents, everything else in BF16."""
    def made() -> tuple[Tensors, Config]:
        tensors, config = qwen3_moe(quantize=False)
        out: Tensors = {}
        for name, (dtype, shape) in tensors.items():
            path = name.removesuffix(".weight")
            if ".experts." in name:
                out |= {path + (".weight" if suffix == ".scale" else ".weight_packed"): ("U8", (shape[0], shape[1] // 2)), path + suffix: ("U8", (shape[0], shape[1] // 32))}
            else:
                out[name] = (dtype, shape)
        group = {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32, "symmetric": True, "dynamic": False}}
        ignore = [n.removesuffix(".weight") for n in tensors if n.endswith("_proj.weight") and ".experts." not in n] + listed(tensors)
        config["quantization_config"] = {"quant_method": "compressed-tensors", "format": "mxfp4-pack-quantized", "config_groups": {"group_0": group}, "ignore": ignore}
        return out, config
    return made


def neuron_dense(suffix: str, dtype: str = "F32") -> Callable[[Path], Path]:
    """A dense model for NxD Inference with one scale per row."""
    def write(folder: Path) -> Path:
        tensors, config = llama(quantize=False)
        out: Tensors = {}
        for name, (kind, shape) in tensors.items():
            if name.endswith("_proj.weight"):
                out |= {name: ("F8_E4M3", shape), name.removesuffix(".weight") + suffix: (dtype, (shape[0], 1))}
            else:
                out[name] = (kind, shape)
        settings = {"quantized": True, "quantized_checkpoints_path": ".", "quantization_dtype": "f8e4m3", "quantization_type": "per_channel_symmetric",
                    "modules_to_not_convert": ["lm_head"]}
        return build(folder, out, config, files={"neuron_config.json": settings})
    return write


STARCODER = typed("starcoder2", "Starcoder2ForCausalLM")
FP8_KV = both(kv_scales("k_scale", "v_scale"))
BLOCK = written(llama)

ROWS = [
    Row("B3", "WB413", written(changed(compressed_fp8(dense()), both(STARCODER, FP8_KV))), written(changed(compressed_fp8(dense()), STARCODER)), "vllm",
        "model.layers.0.self_attn.k_scale"),
    Row("B5", "WB413", written(changed(compressed_fp8(dense()), kv_scales("kv_scale"))), written(changed(compressed_fp8(dense()), FP8_KV)), "sglang", "kv_scale"),
    Row("B6", "WB401", written(changed(llama, without("weight_scale_inv"))), BLOCK, "vllm", "weight"),
    Row("B6", "WB401", written(changed(qwen3_moe, without("experts.3.up_proj.weight_scale_inv"))), written(qwen3_moe), "", "experts.3.up_proj", variant="one-expert"),
    Row("B7", "WB401", written(changed(m2, without("layers.1.self_attn.q_proj.weight_scale_inv"))), written(m2), "", "layers.1.self_attn.q_proj"),
    Row("B7", "WB405", written(changed(llama, without("layers.1.mlp.up_proj.weight"))), BLOCK, "", "mlp.up_proj.weight_scale_inv", "warning", variant="other-way"),
    Row("B8", "WB406", written(changed(llama, lambda t, c: t.update({n: ("BF16", s) for n, (d, s) in t.items() if d == "F8_E4M3"}))), BLOCK, "", "weight", variant="cast"),
    Row("B9", "WB403", written(changed(llama, renamed(".weight_scale_inv", ".scale_weight"))), BLOCK, "", "scale_weight"),
    Row("B9", "WB403", written(changed(m2, renamed("w1.weight_scale_inv", "w1.weight_scales"))), written(m2), "vllm", "weight_scales", variant="plural"),
    Row("B10", "WB302", written(changed(modelopt_nvfp4(dense()), lambda t, c: _plain(t, "model.layers.1.mlp.down_proj")), same_globals),
        written(modelopt_nvfp4(dense()), same_globals), "vllm", "down_proj"),
    Row("B11", "WB402", written(changed(modelopt_nvfp4(dense()), without("weight_scale_2")), same_globals), written(modelopt_nvfp4(dense()), same_globals), "vllm",
        "weight_scale_2"),
    Row("B11", "WB402", written(changed(compressed_nvfp4(dense()), without("o_proj.weight_global_scale")), same_globals),
        written(compressed_nvfp4(dense()), same_globals), "sglang", "weight_global_scale", variant="compressed"),
    Row("B13", "WB414", written(changed(deepseek, indexer(True))), written(changed(deepseek, indexer(False))), "tensorrt-llm", "indexer.wk.weight_scale_inv"),
    Row("B15", "WB413", written(changed(m2_nvfp4, kv_scales("k_proj.k_scale", "v_proj.v_scale")), same_globals), written(m2_nvfp4, same_globals), "vllm@0.18.0",
        "layers.0.self_attn.qkv_proj.k_scale"),
    Row("B17", "WB415", written(fp4_experts(".scale")), written(fp4_experts(".weight_scale")), "sglang", ".scale"),
    Row("B18", "WB412", written(changed(modelopt_nvfp4(experts()), without("experts.0.up_proj.input_scale")), same_globals),
        written(modelopt_nvfp4(experts()), same_globals), "tensorrt-llm", "0.up_proj.input_scale"),
    Row("B18", "WB412", written(compressed_fp8(dense(), "tensor", True, False)), written(compressed_fp8(dense(), "tensor", True)), "vllm", "input_scale", variant="static"),
    Row("C1", "WB423", written(m2, as_reciprocal), written(m2), "", "reciprocal"),
    Row("C1", "WB423", written(compressed_fp8(dense()), as_reciprocal), written(compressed_fp8(dense())), "vllm", "reciprocal", variant="per-row"),
    Row("C1", "WB423", written(lambda: qwen3_moe(), lambda t: {n: b for n, b in as_reciprocal(t).items() if "down_proj" in n}), written(qwen3_moe), "", "down_proj",
        variant="down-only"),
    Row("C2", "WB404", written(changed(llama, renamed(".weight_scale_inv", ".weight_scale"))), BLOCK, "sglang", "not found in params_dict"),
    Row("C2", "WB404", written(changed(compressed_fp8(dense(), "block"), renamed(".weight_scale", ".weight_scale_inv"))), written(compressed_fp8(dense(), "block")), "vllm",
        "weight_scale_inv", variant="other-way"),
    Row("C4", "WB425", written(modelopt_nvfp4(dense()), inverted), written(modelopt_nvfp4(dense()), same_globals), "", "weight_scale_2"),
    Row("C4", "WB425", written(compressed_nvfp4(experts()), inverted), written(compressed_nvfp4(experts()), same_globals), "vllm", "weight_global_scale",
        variant="divisor"),
    Row("C4", "WB425", written(changed(compressed_nvfp4(dense()), renamed(".weight_global_scale", ".weight_scale_2")), same_globals),
        written(compressed_nvfp4(dense()), same_globals), "", "weight_global_scale", variant="name"),
    Row("C6", "WB429", written(gptq(dense()), zeros(0x88)), written(gptq(dense()), zeros(0x77)), "vllm", "gptq_v2"),
    Row("C6", "WB429", written(gptq(dense(), "gptq_v2"), zeros(0x77)), written(gptq(dense(), "gptq_v2"), zeros(0x88)), "", "version 1", variant="v2"),
    Row("C6", "WB429", written(gptq(dense(), bits=8), zeros(0x80)), written(gptq(dense(), bits=8), zeros(0x7F)), "", "gptq_v2", variant="8-bit"),
    Row("C7", "WB429", written(gptq(dense()), zeros(0xFF)), written(gptq(dense()), zeros(0x77)), "vllm", "NaN"),
    Row("C9", "WB404", neuron_dense(".qscale_weight"), neuron_dense(".weight_scale"), "neuron", "renames only .weight_scale"),
    Row("C10", "WB411", written(compressed_int4(dense(), True, True), shapes_of), written(compressed_int4(dense(), False, True), shapes_of), "vllm", "weight_zero_point"),
    Row("C10", "WB411", written(compressed_int4(dense(), False, False), shapes_of), written(compressed_int4(dense(), True, False), shapes_of), "", "weight_zero_point",
        variant="missing"),
]


def _plain(tensors: Tensors, path: str) -> None:
    shape = tensors[path + ".weight"][1]
    for suffix in (".weight_scale", ".weight_scale_2", ".input_scale"):
        del tensors[path + suffix]
    tensors[path + ".weight"] = ("BF16", (shape[0], shape[1] * 2))


UNDECIDED: dict[str, str] = {}
