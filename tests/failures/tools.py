"""Small synthetic checkpoints with true names and shapes: the material of the corpus of failures.

Weights are holes (zero codes); scales get plausible values that differ from tensor to tensor, unless `data` gives their bytes.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from weighbridge.testing import safetensors_writer

Tensors = dict[str, tuple[str, tuple[int, ...]]]
Config = dict[str, Any]

BLOCK_FP8 = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
SCALE_ENDINGS = ("weight_scale_inv", "weight_scale", "_scales", ".scales", ".scale", "_scale_inv", "weight_scale_2", "input_scale", "k_scale", "v_scale",
                 "weight_global_scale", "input_global_scale", "qscale_weight", "activation_scale", ".SCB", ".absmax")


@dataclass(frozen=True)
class Row:
    """One row of the collection of failures. `bad` and `good` write a checkpoint into a folder and return it.

    `code` is the rule that must speak, `where` a text that its finding must hold (in title, where, evidence or fix). `runtimes` is what
    `--runtime` gets, `settings` fields of `check.settings.Settings`, for both; `good_settings` if the twin differs in them.
    """

    id: str
    code: str
    bad: Callable[[Path], Path]
    good: Callable[[Path], Path]
    runtimes: str = ""
    where: str = ""
    severity: str = "error"
    settings: Mapping[str, Any] = field(default_factory=dict)
    good_settings: Mapping[str, Any] | None = None
    variant: str = ""

    @property
    def label(self) -> str:
        return f"{self.id}-{self.variant or self.code}"


def build(folder: Path, tensors: Tensors, config: Config, *, data: Mapping[str, bytes] | None = None, files: Mapping[str, bytes | Config] | None = None,
          metadata: Mapping[str, str] | None = None, shards: Mapping[str, list[str]] | None = None, index: Config | None = None) -> Path:
    """Write a checkpoint: one sparse `model.safetensors`, or `shards` {file: [names]} with an index (`index` replaces its weight_map)."""
    folder.mkdir(parents=True, exist_ok=True)
    given = data or {}
    parts = shards or {"model.safetensors": list(tensors)}
    for file, names in parts.items():
        _write(folder / file, {name: tensors[name] for name in names}, given, metadata)
    if shards or index is not None:
        weight_map = index if index is not None else {name: file for file, names in parts.items() for name in names}
        total = sum(safetensors_writer.DTYPE_BYTES[d] * prod(s) for d, s in tensors.values())
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for name, content in (files or {}).items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return folder


def _write(path: Path, tensors: Tensors, data: Mapping[str, bytes], metadata: Mapping[str, str] | None) -> None:
    start, positions, size = safetensors_writer.place(tensors, metadata)
    with open(path, "wb") as file:
        file.write(start)
        os.truncate(file.fileno(), size)
        for name, position in positions.items():
            dtype, shape = tensors[name]
            raw = data.get(name, plausible(name, dtype, shape) if name.endswith(SCALE_ENDINGS) else None)
            if raw is not None:
                assert len(raw) == safetensors_writer.DTYPE_BYTES[dtype] * prod(shape), name
                safetensors_writer.write_at(file.fileno(), raw, position)


def plausible(name: str, dtype: str, shape: tuple[int, ...]) -> bytes:
    """Scales of usual weights, about 1e-4 in F32 and BF16; an NVFP4 group scale near 1, a divisor near 1,000; kv and input scales 0.02."""
    count, seed = prod(shape), zlib.crc32(name.encode())
    if dtype in ("U8", "F8_E8M0"):
        return (bytes([112 + (seed >> i) % 3 for i in range(24)]) * (count // 24 + 1))[:count]
    if dtype == "F8_E4M3":
        return (bytes([0x38 + (seed >> i) % 16 for i in range(24)]) * (count // 24 + 1))[:count]
    base = 1024.0 if name.endswith("global_scale") else 0.02 if name.endswith(("input_scale", "k_scale", "v_scale", "activation_scale")) else 1e-4
    period = min(count, 997)  # they repeat from there on: some published tensors have millions
    cycle = floats([base * (1 + ((seed + 7919 * i) % 997) / 997) for i in range(period)], dtype)
    return (cycle * (count // period + 1))[: count * (len(cycle) // period)] if count else b""


def floats(values: list[float], dtype: str = "F32") -> bytes:
    """Values as F32, BF16 (cut), F16 or F64 bytes."""
    if dtype == "BF16":
        return b"".join(struct.pack("<f", value)[2:] for value in values)
    return struct.pack(f"<{len(values)}" + {"F32": "f", "F16": "e", "F64": "d"}[dtype], *values)


def grid(shape: tuple[int, int], block: tuple[int, int] = (128, 128)) -> tuple[int, int]:
    return -(-shape[0] // block[0]), -(-shape[1] // block[1])


def fp8(tensors: Tensors, path: str, shape: tuple[int, int], suffix: str = ".weight_scale_inv", scale: tuple[int, ...] | None = None,
        scale_dtype: str = "F32") -> None:
    """Add an FP8 weight with its scale (a block grid, unless `scale` gives the shape)."""
    tensors[path + ".weight"] = ("F8_E4M3", shape)
    tensors[path + suffix] = (scale_dtype, grid(shape) if scale is None else scale)


def m2(layers: int = 2, experts: int = 8, hidden: int = 512, inter: int = 256, heads: int = 8, kv_heads: int = 2, head_dim: int = 128,
       vocab: int = 1024, **config: Any) -> tuple[Tensors, Config]:
    """MiniMax-M2 with fewer and smaller parts; its published names, dtypes and config. `config` changes keys."""
    from weighbridge.testing import shapes

    sizes = shapes.Sizes(layers, hidden, inter, heads, kv_heads, head_dim, experts, vocab)
    settings = shapes.config(sizes) | {"use_mtp": False, "num_mtp_modules": 0} | config
    return {spec.name: (spec.dtype, spec.shape) for spec in shapes.tensors(sizes)}, settings


def llama(layers: int = 2, hidden: int = 512, inter: int = 1024, heads: int = 4, kv_heads: int = 2, vocab: int = 1024, tied: bool = False,
          model_type: str = "llama", quantize: bool = True, suffix: str = ".weight_scale_inv", biases: bool = False, qk_norm: bool = False,
          **config: Any) -> tuple[Tensors, Config]:
    """A dense model with the names of Llama, Qwen2 (`biases`) and Qwen3 (`qk_norm`); linear layers in block FP8, or BF16."""
    dim = hidden // heads
    tensors: Tensors = {"model.embed_tokens.weight": ("BF16", (vocab, hidden))}
    for layer in range(layers):
        at = f"model.layers.{layer}."
        tensors[at + "input_layernorm.weight"] = tensors[at + "post_attention_layernorm.weight"] = ("BF16", (hidden,))
        for path, shape in (("self_attn.q_proj", (heads * dim, hidden)), ("self_attn.k_proj", (kv_heads * dim, hidden)),
                            ("self_attn.v_proj", (kv_heads * dim, hidden)), ("self_attn.o_proj", (hidden, heads * dim)),
                            ("mlp.gate_proj", (inter, hidden)), ("mlp.up_proj", (inter, hidden)), ("mlp.down_proj", (hidden, inter))):
            linear(tensors, at + path, shape, quantize, suffix)
            if biases and path.endswith(("q_proj", "k_proj", "v_proj")):
                tensors[f"{at}{path}.bias"] = ("BF16", (shape[0],))
        if qk_norm:
            tensors[at + "self_attn.q_norm.weight"] = tensors[at + "self_attn.k_norm.weight"] = ("BF16", (dim,))
    tensors["model.norm.weight"] = ("BF16", (hidden,))
    if not tied:
        tensors["lm_head.weight"] = ("BF16", (vocab, hidden))
    settings: Config = {
        "architectures": [{"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}.get(model_type, "LlamaForCausalLM")],
        "model_type": model_type, "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
        "head_dim": dim, "intermediate_size": inter, "vocab_size": vocab, "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "rope_theta": 1e4,
        "hidden_act": "silu", "tie_word_embeddings": tied, "torch_dtype": "bfloat16"}
    if quantize:
        settings["quantization_config"] = {**BLOCK_FP8, "modules_to_not_convert": ["lm_head"]}
    return tensors, settings | config


def qwen3_moe(layers: int = 2, experts: int = 8, hidden: int = 512, inter: int = 256, heads: int = 4, kv_heads: int = 2, head_dim: int = 128,
              vocab: int = 1024, quantize: bool = True, **config: Any) -> tuple[Tensors, Config]:
    """Qwen3-MoE: per-head q/k norms, `mlp.gate`, experts one by one; the list names gates, norms and the head in full, as published."""
    tensors: Tensors = {"model.embed_tokens.weight": ("BF16", (vocab, hidden))}
    listed = ["lm_head"]
    for layer in range(layers):
        at = f"model.layers.{layer}."
        tensors[at + "input_layernorm.weight"] = tensors[at + "post_attention_layernorm.weight"] = ("BF16", (hidden,))
        listed += [at + "input_layernorm", at + "post_attention_layernorm", at + "mlp.gate"]
        for path, shape in (("q", (heads * head_dim, hidden)), ("k", (kv_heads * head_dim, hidden)), ("v", (kv_heads * head_dim, hidden)),
                            ("o", (hidden, heads * head_dim))):
            linear(tensors, f"{at}self_attn.{path}_proj", shape, quantize)
        tensors[at + "self_attn.q_norm.weight"] = tensors[at + "self_attn.k_norm.weight"] = ("BF16", (head_dim,))
        tensors[at + "mlp.gate.weight"] = ("BF16", (experts, hidden))
        for expert in range(experts):
            for part, shape in (("gate", (inter, hidden)), ("up", (inter, hidden)), ("down", (hidden, inter))):
                linear(tensors, f"{at}mlp.experts.{expert}.{part}_proj", shape, quantize)
    tensors["model.norm.weight"], tensors["lm_head.weight"] = ("BF16", (hidden,)), ("BF16", (vocab, hidden))
    settings: Config = {
        "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": hidden, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "head_dim": head_dim, "intermediate_size": 4 * inter,
        "moe_intermediate_size": inter, "num_experts": experts, "num_experts_per_tok": 2, "norm_topk_prob": True, "decoder_sparse_step": 1,
        "mlp_only_layers": [], "vocab_size": vocab, "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "hidden_act": "silu",
        "tie_word_embeddings": False, "torch_dtype": "bfloat16"}
    if quantize:
        settings["quantization_config"] = {**BLOCK_FP8, "modules_to_not_convert": listed}
    return tensors, settings | config


def deepseek(layers: int = 3, experts: int = 8, hidden: int = 512, inter: int = 1024, moe_inter: int = 256, heads: int = 4, vocab: int = 1024,
             mtp: bool = False, **config: Any) -> tuple[Tensors, Config]:
    """DeepSeek-V3: latent attention with the ragged `kv_a_proj_with_mqa` (576 rows, 5 of scales), one dense layer, no list; `mtp` adds the draft layer."""
    tensors: Tensors = {"model.embed_tokens.weight": ("BF16", (vocab, hidden))}
    for layer in range(layers + mtp):
        at = f"model.layers.{layer}."
        tensors[at + "input_layernorm.weight"] = tensors[at + "post_attention_layernorm.weight"] = ("BF16", (hidden,))
        for path, shape in (("q_a_proj", (256, hidden)), ("q_b_proj", (heads * 192, 256)), ("kv_a_proj_with_mqa", (576, hidden)),
                            ("kv_b_proj", (heads * 256, 512)), ("o_proj", (hidden, heads * 128))):
            fp8(tensors, f"{at}self_attn.{path}", shape)
        tensors[at + "self_attn.q_a_layernorm.weight"], tensors[at + "self_attn.kv_a_layernorm.weight"] = ("BF16", (256,)), ("BF16", (512,))
        if layer == 0:
            _mlp(tensors, at + "mlp.", hidden, inter)
            continue
        tensors[at + "mlp.gate.weight"], tensors[at + "mlp.gate.e_score_correction_bias"] = ("BF16", (experts, hidden)), ("F32", (experts,))
        for expert in range(experts):
            _mlp(tensors, f"{at}mlp.experts.{expert}.", hidden, moe_inter)
        _mlp(tensors, at + "mlp.shared_experts.", hidden, moe_inter)
    if mtp:
        at = f"model.layers.{layers}."
        tensors |= {at + "embed_tokens.weight": ("BF16", (vocab, hidden)), at + "enorm.weight": ("BF16", (hidden,)), at + "hnorm.weight": ("BF16", (hidden,)),
                    at + "eh_proj.weight": ("BF16", (hidden, 2 * hidden)), at + "shared_head.norm.weight": ("BF16", (hidden,)),
                    at + "shared_head.head.weight": ("BF16", (vocab, hidden))}
    tensors["model.norm.weight"], tensors["lm_head.weight"] = ("BF16", (hidden,)), ("BF16", (vocab, hidden))
    settings: Config = {
        "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "hidden_size": hidden, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": heads, "q_lora_rank": 256, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
        "v_head_dim": 128, "intermediate_size": inter, "moe_intermediate_size": moe_inter, "n_routed_experts": experts, "n_shared_experts": 1,
        "num_experts_per_tok": 2, "first_k_dense_replace": 1, "moe_layer_freq": 1, "n_group": 1, "topk_group": 1, "vocab_size": vocab,
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "rope_theta": 1e4, "hidden_act": "silu", "tie_word_embeddings": False,
        "num_nextn_predict_layers": int(mtp), "scoring_func": "sigmoid", "topk_method": "noaux_tc", "routed_scaling_factor": 2.5, "norm_topk_prob": True,
        "torch_dtype": "bfloat16", "quantization_config": dict(BLOCK_FP8)}
    return tensors, settings | config


def _mlp(tensors: Tensors, prefix: str, hidden: int, inter: int) -> None:
    for part, shape in (("gate", (inter, hidden)), ("up", (inter, hidden)), ("down", (hidden, inter))):
        fp8(tensors, f"{prefix}{part}_proj", shape)


def linear(tensors: Tensors, path: str, shape: tuple[int, int], quantize: bool = True, suffix: str = ".weight_scale_inv") -> None:
    """A linear layer, in block FP8 or in BF16."""
    if quantize:
        fp8(tensors, path, shape, suffix)
    else:
        tensors[path + ".weight"] = ("BF16", shape)
