"""Small checkpoints of three families in every stored form: the rows of the matrix. Names and shapes are written out here, not asked of the tool."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tests.matrix import values as v
from tests.matrix.values import Parts
from weighbridge.testing import safetensors_writer

Shape = tuple[int, int]
LINEAR, PLAIN, VECTOR = "linear", "plain", "vector"


class Form(NamedTuple):
    """A stored form: `make(w, module)` gives its tensors, `claim` the quantization_config. The rest is what a decoder must know that names do not say."""

    make: Callable[[np.ndarray, str], Parts]
    claim: dict[str, Any] | None
    schemes: tuple[str, ...]
    bits: int = 4
    first_version: bool = False
    block: Shape = (128, 128)
    layout: str = ""  # which writes this form, with the options of `back`
    back: dict[str, Any] | None = None


# ---- models: (name of the module or tensor, its kind, shape)


def dense() -> tuple[dict[str, Any], list[tuple[str, str, tuple[int, ...]]]]:
    """Llama with two key/value heads: 256 wide, a feed-forward of 384."""
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 1, "hidden_size": 256, "intermediate_size": 384,
              "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 64, "torch_dtype": "bfloat16",
              "tie_word_embeddings": False, "max_position_embeddings": 128, "rms_norm_eps": 1e-5}
    return config, [*_ends(256), *_norms(0, 256), *_attention(0, 256), *_mlp("model.layers.0.mlp.", 256, 384)]


def experts() -> tuple[dict[str, Any], list[tuple[str, str, tuple[int, ...]]]]:
    """MiniMax-M2 with two experts: w1, w3, w2, norms of q and k over all heads, a router with a bias."""
    config = {"model_type": "minimax_m2", "architectures": ["MiniMaxM2ForCausalLM"], "num_hidden_layers": 1, "hidden_size": 256, "intermediate_size": 128,
              "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 128, "vocab_size": 64, "torch_dtype": "bfloat16", "num_local_experts": 2,
              "num_experts_per_tok": 1, "rotary_dim": 64, "use_qk_norm": True, "qk_norm_type": "per_layer", "scoring_func": "sigmoid",
              "use_routing_bias": True, "attn_type_list": [1], "tie_word_embeddings": False, "max_position_embeddings": 128, "rms_norm_eps": 1e-6,
              "rope_theta": 5000000, "hidden_act": "silu"}
    at = "model.layers.0."
    found = [*_ends(256), *_norms(0, 256), *_attention(0, 256, 256, 256), (at + "self_attn.q_norm.weight", VECTOR, (256,)),
             (at + "self_attn.k_norm.weight", VECTOR, (256,)), (at + "block_sparse_moe.gate", PLAIN, (2, 256)),
             (at + "block_sparse_moe.e_score_correction_bias", VECTOR, (2,))]
    for e in range(2):
        found += [(f"{at}block_sparse_moe.experts.{e}.{w}", LINEAR, (256, 128) if w == "w2" else (128, 256)) for w in ("w1", "w2", "w3")]
    return config, found


def latent() -> tuple[dict[str, Any], list[tuple[str, str, tuple[int, ...]]]]:
    """DeepSeek-V3: latent attention (160 rows, no multiple of 128), one dense layer, one with experts, and the draft layer behind them."""
    config = {"model_type": "deepseek_v3", "architectures": ["DeepseekV3ForCausalLM"], "num_hidden_layers": 2, "hidden_size": 256, "intermediate_size": 384,
              "moe_intermediate_size": 128, "n_routed_experts": 2, "num_experts_per_tok": 1, "n_shared_experts": 1, "q_lora_rank": 128,
              "kv_lora_rank": 128, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "v_head_dim": 64, "first_k_dense_replace": 1, "n_group": 1,
              "topk_group": 1, "num_nextn_predict_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 64,
              "torch_dtype": "bfloat16", "tie_word_embeddings": False, "max_position_embeddings": 128}
    found = [*_ends(256)]
    for layer in range(3):
        at = f"model.layers.{layer}."
        found += [*_norms(layer, 256), (at + "self_attn.q_a_proj", LINEAR, (128, 256)), (at + "self_attn.q_a_layernorm.weight", VECTOR, (128,)),
                  (at + "self_attn.q_b_proj", LINEAR, (384, 128)), (at + "self_attn.kv_a_proj_with_mqa", LINEAR, (160, 256)),
                  (at + "self_attn.kv_a_layernorm.weight", VECTOR, (128,)), (at + "self_attn.kv_b_proj", LINEAR, (512, 128)),
                  (at + "self_attn.o_proj", LINEAR, (256, 256))]
        if not layer:
            found += _mlp(at + "mlp.", 256, 384)
            continue
        found += [(at + "mlp.gate", PLAIN, (2, 256)), (at + "mlp.gate.e_score_correction_bias", VECTOR, (2,)), *_mlp(at + "mlp.shared_experts.", 256, 128)]
        for e in range(2):
            found += _mlp(f"{at}mlp.experts.{e}.", 256, 128)
    at = "model.layers.2."
    found += [(at + "embed_tokens", PLAIN, (64, 256)), (at + "enorm.weight", VECTOR, (256,)), (at + "hnorm.weight", VECTOR, (256,)),
              (at + "eh_proj", PLAIN, (256, 512)), (at + "shared_head.norm.weight", VECTOR, (256,)), (at + "shared_head.head", PLAIN, (64, 256))]
    return config, found


def _ends(hidden: int) -> list[tuple[str, str, tuple[int, ...]]]:
    return [("model.embed_tokens", PLAIN, (64, hidden)), ("model.norm.weight", VECTOR, (hidden,)), ("lm_head", PLAIN, (64, hidden))]


def _norms(layer: int, hidden: int) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(f"model.layers.{layer}.{norm}.weight", VECTOR, (hidden,)) for norm in ("input_layernorm", "post_attention_layernorm")]


def _attention(layer: int, hidden: int, query: int = 256, key: int = 128) -> list[tuple[str, str, tuple[int, ...]]]:
    at = f"model.layers.{layer}.self_attn."
    return [(at + "q_proj", LINEAR, (query, hidden)), (at + "k_proj", LINEAR, (key, hidden)), (at + "v_proj", LINEAR, (key, hidden)),
            (at + "o_proj", LINEAR, (hidden, query))]


def _mlp(at: str, hidden: int, inter: int) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(at + "gate_proj", LINEAR, (inter, hidden)), (at + "up_proj", LINEAR, (inter, hidden)), (at + "down_proj", LINEAR, (hidden, inter))]


FAMILIES = {"dense": dense, "experts": experts, "latent": latent}


# ---- forms


def _fp8_claim(block: list[int] | None = None, **more: Any) -> dict[str, Any]:
    return {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3", **({"weight_block_size": block} if block else {}), **more}


def _ct(fmt: str, group: int = 0, block: list[int] | None = None, activations: dict[str, Any] | None = None, **weights: Any) -> dict[str, Any]:
    args = {"dynamic": False, "symmetric": True, **weights, **({"group_size": group} if group else {}), **({"block_structure": block} if block else {})}
    return {"quant_method": "compressed-tensors", "format": fmt, "quantization_status": "compressed", "ignore": ["lm_head"],
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": args, "input_activations": activations, "format": fmt}}}


def _modelopt(algo: str, **more: Any) -> dict[str, Any]:
    return {"quant_method": "modelopt", "quant_algo": algo, "ignore": ["lm_head"], **more}


def _ct_int(bits: int, group: int, asymmetric: bool) -> Form:
    strategy = "group" if group else "channel"
    name = "ct-int8-packed" if bits == 8 else f"ct-int{bits}"
    name += ("" if group else "-channel") + ("-zeros" if asymmetric else "")
    claim = _ct("pack-quantized", group, num_bits=bits, type="int", strategy=strategy, symmetric=not asymmetric)
    return Form(lambda w, _: v.ct_int(w, bits, group, asymmetric), claim, (name,), bits)


def _gptq(bits: int, version: int, asymmetric: bool, order: str = "", group: int = 128) -> Form:
    claim = {"quant_method": "gptq", "bits": bits, "group_size": group, "desc_act": order == "act", "sym": not asymmetric,
             "checkpoint_format": "gptq_v2" if version == 2 else "gptq"}
    return Form(lambda w, _: v.gptq(w, bits, version, asymmetric, order, max(0, group)), claim, (f"gptq-int{bits}" + ("" if version == 2 else "-v1"),), bits, version == 1)


def _nvfp4(name: str, last: str, code: str, whole: Callable[[str], float], claim: dict[str, Any]) -> Form:
    shape = (1,) if "global" in last else ()
    return Form(lambda w, module: v.nvfp4(w, code, last, whole(module), shape), claim, (name,))


def _with_input(make: Callable[[np.ndarray, str], Parts], suffix: str, value: float, shape: tuple[int, ...]) -> Callable[[np.ndarray, str], Parts]:
    return lambda w, module: {**make(w, module), suffix: ("F32", np.full(shape, value, np.float32))}


def _mixed(w: np.ndarray, module: str) -> Parts:
    """compressed-tensors with several groups: attention in FP8 by rows, the rest in INT4."""
    return v.fp8(w, ".weight_scale", (1, 0), "BF16") if "self_attn" in module else v.ct_int(w, 4, 128, False)


def _deepseek_v4(w: np.ndarray, module: str) -> Parts:
    """Experts in FP4, the rest in FP8 with blocks of 128x128, all scales bytes under `.scale`."""
    if ".experts." in module:
        return v.mxfp4(w, ".weight", ".scale", ("I8", "F8_E8M0"))
    return v.fp8(w, ".scale", (128, 128), "F8_E8M0")


_NV_CT = _ct("nvfp4-pack-quantized", 16, num_bits=4, type="float", strategy="tensor_group", scale_dtype="torch.float8_e4m3fn")
_NV_MO = _modelopt("W4A16_NVFP4", group_size=16)
_W8 = {"num_bits": 8, "type": "float"}
_A8 = {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False, "symmetric": True}
_BNB = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16"}
_STATIC = {"activation_scheme": "static"}


def _unequal(module: str) -> float:
    """Another factor for each matrix, those that readers join too."""
    return 2.0**-12 * (1 + zlib.crc32(module.encode()) % 7)


FORMS: dict[str, Form] = {
    "bf16": Form(lambda w, _: {".weight": ("BF16", w.astype(v.KIND["BF16"]))}, None, ()),
    "f16": Form(lambda w, _: {".weight": ("F16", w.astype(np.float16))}, None, ()),
    "f32": Form(lambda w, _: {".weight": ("F32", w)}, None, ()),
    "fp8-block F32": Form(lambda w, _: v.fp8(w, ".weight_scale_inv", (128, 128), "F32"), _fp8_claim([128, 128]), ("fp8-block",)),
    "fp8-block BF16": Form(lambda w, _: v.fp8(w, ".weight_scale_inv", (128, 128), "BF16"), _fp8_claim([128, 128]), ("fp8-block",)),
    "fp8-block E8M0": Form(lambda w, _: v.fp8(w, ".weight_scale_inv", (128, 128), "F8_E8M0"), _fp8_claim([128, 128], scale_fmt="ue8m0"), ("fp8-block",)),
    "fp8-block 32x32": Form(lambda w, _: v.fp8(w, ".weight_scale_inv", (32, 32), "F32"), _fp8_claim([32, 32]), ("fp8-block",), block=(32, 32)),
    "fp8-block FNUZ": Form(lambda w, _: v.fp8(w, ".weight_scale_inv", (128, 128), "F32", held="F8_E4M3FNUZ"), _fp8_claim([128, 128]), ("fp8-block-fnuz",)),
    "fp8-block E5M2": Form(lambda w, _: v.fp8(w, ".weight_scale_inv", (128, 128), "F32", held="F8_E5M2"), _fp8_claim([128, 128]), ("fp8-block-e5m2",)),
    "fp8 and fp4 (DeepSeek-V4)": Form(_deepseek_v4, _fp8_claim([128, 128], scale_fmt="ue8m0"), ("fp8-block-dot", "mxfp4-dot")),
    "fp8-tensor (Mistral)": Form(_with_input(lambda w, _: v.fp8(w, ".weight_scale_inv", (0, 0), "BF16", ()), ".activation_scale", 0.25, ()),
                                 _fp8_claim(**_STATIC), ("fp8-tensor-inv",)),
    "fp8-tensor (Mistral, consolidated)": Form(lambda w, _: v.fp8(w, ".qscale_weight", (0, 0), "BF16", ()), _fp8_claim(**_STATIC), ("fp8-tensor-qscale",)),
    "mxfp8 (MiniMax-M3)": Form(lambda w, _: v.fp8(w, ".weight_scale_inv", (1, 32), "U8"), {"quant_method": "mxfp8", "weight_block_size": [1, 32]}, ("mxfp8-inv",)),
    "int8-block": Form(lambda w, _: v.int8(w, ".weight_scale_inv", (128, 128), "F32"), {"quant_method": "blockwise_int8", "weight_block_size": [128, 128]}, ("int8-block",)),
    "w4afp8": Form(lambda w, _: v.w4afp8(w), {"quant_method": "w4afp8", "group_size": 128}, ("w4afp8",)),
    "fbgemm-fp8": Form(lambda w, _: v.fp8(w, ".weight_scale", (1, 0), "F32"), {"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0}, ("fbgemm-fp8",)),
    "ct-fp8-tensor": Form(lambda w, _: v.fp8(w, ".weight_scale", (0, 0), "F32", (1,)), _ct("float-quantized", **_W8, strategy="tensor"), ("ct-fp8-tensor",)),
    "ct-fp8-tensor static": Form(_with_input(lambda w, _: v.fp8(w, ".weight_scale", (0, 0), "BF16", (1,)), ".input_scale", 0.25, (1,)),
                                 _ct("float-quantized", activations=_A8, **_W8, strategy="tensor"), ("ct-fp8-tensor",)),
    "ct-fp8-channel": Form(lambda w, _: v.fp8(w, ".weight_scale", (1, 0), "BF16"), _ct("float-quantized", **_W8, strategy="channel"), ("ct-fp8-channel",)),
    "ct-fp8-block": Form(lambda w, _: v.fp8(w, ".weight_scale", (128, 128), "BF16"), _ct("float-quantized", block=[128, 128], **_W8, strategy="block"), ("ct-fp8-block",)),
    "ct-mxfp8": Form(lambda w, _: v.fp8(w, ".weight_scale", (1, 32), "U8"), _ct("mxfp8-quantized", 32, **_W8, strategy="group", scale_dtype="torch.uint8"), ("ct-mxfp8",)),
    "ct-int8": Form(lambda w, _: v.int8(w, ".weight_scale", (1, 0), "BF16"), _ct("int-quantized", num_bits=8, type="int", strategy="channel"), ("ct-int8",)),
    "ct-int8-tensor": Form(lambda w, _: v.int8(w, ".weight_scale", (0, 0), "F32", (1,)), _ct("int-quantized", num_bits=8, type="int", strategy="tensor"), ("ct-int8-tensor",)),
    "ct-nvfp4": _nvfp4("ct-nvfp4", ".weight_global_scale", ".weight_packed", lambda _: 2.0**13, _NV_CT),
    "ct-nvfp4 odd": _nvfp4("ct-nvfp4", ".weight_global_scale", ".weight_packed", lambda _: 7654.0, _NV_CT),
    "ct-nvfp4 unequal": _nvfp4("ct-nvfp4", ".weight_global_scale", ".weight_packed", lambda m: 1 / _unequal(m), _NV_CT),
    "ct-mxfp4": Form(lambda w, _: v.mxfp4(w, ".weight_packed", ".weight_scale", ("U8", "U8")), _ct("mxfp4-pack-quantized", 32, num_bits=4, type="float", strategy="group", scale_dtype="torch.uint8"), ("ct-mxfp4",)),
    "ct-mixed": Form(_mixed, {"quant_method": "compressed-tensors", "format": "mixed-precision", "ignore": ["lm_head"], "config_groups": {
        "group_0": {"targets": ["re:.*self_attn.*"], "format": "float-quantized", "weights": {**_W8, "strategy": "channel", "symmetric": True, "dynamic": False}},
        "group_1": {"targets": ["re:.*(mlp|moe).*"], "format": "pack-quantized", "weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128, "symmetric": True, "dynamic": False}}}}, ("ct-fp8-channel", "ct-int4")),
    **{f"{f.schemes[0]} ": f for bits in (4, 8, 2, 3, 5, 6, 7) for asymmetric in (False, True) for group in (128, 0) for f in [_ct_int(bits, group, asymmetric)]},
    "ct-int4 g32 ": Form(lambda w, _: v.ct_int(w, 4, 32, False), _ct("pack-quantized", 32, num_bits=4, type="int", strategy="group"), ("ct-int4",)),
    "modelopt-fp8": Form(_with_input(lambda w, _: v.fp8(w, ".weight_scale", (0, 0), "F32", ()), ".input_scale", 0.25, ()), _modelopt("FP8"), ("modelopt-fp8",)),
    "modelopt-fp8-channel": Form(lambda w, _: v.fp8(w, ".weight_scale", (1, 0), "F32", (len(w),)), _modelopt("FP8_PER_CHANNEL_PER_TOKEN"), ("modelopt-fp8-channel",)),
    "modelopt-fp8-block": Form(lambda w, _: v.fp8(w, ".weight_scale", (128, 128), "F32", (-(-len(w) // 128), 1, -(-w.shape[1] // 128), 1)), _modelopt("FP8_PB_WO"), ("modelopt-fp8-block",)),
    "modelopt-nvfp4": _nvfp4("modelopt-nvfp4", ".weight_scale_2", ".weight", lambda _: 2.0**-13, _NV_MO),
    "modelopt-nvfp4 odd": _nvfp4("modelopt-nvfp4", ".weight_scale_2", ".weight", lambda _: 0.00013171, _NV_MO),
    "modelopt-nvfp4 unequal": _nvfp4("modelopt-nvfp4", ".weight_scale_2", ".weight", _unequal, _NV_MO),
    "modelopt-mxfp8": Form(lambda w, _: v.fp8(w, ".weight_scale", (1, 32), "U8"), _modelopt("MXFP8", group_size=32), ("modelopt-mxfp8",)),
    "modelopt-mxfp4": Form(lambda w, _: v.mxfp4(w, ".weight", ".weight_scale", ("U8", "U8")), _modelopt("W4A16_MXFP4", group_size=32), ("modelopt-mxfp4",)),
    "modelopt-int8": Form(lambda w, _: v.int8(w, ".weight_scale", (1, 0), "F32", (len(w),)), _modelopt("INT8_WO"), ("modelopt-int8",)),
    "modelopt-int4": Form(lambda w, _: v.modelopt_int4(w), _modelopt("W4A16_AWQ", group_size=128), ("modelopt-int4",)),
    "quark-fp8": Form(lambda w, _: v.fp8(w, ".weight_scale", (0, 0), "F32", ()), {"quant_method": "quark"}, ("quark-fp8",)),
    "quark-fp8-channel": Form(lambda w, _: v.fp8(w, ".weight_scale", (1, 0), "F32", (len(w),)), {"quant_method": "quark"}, ("quark-fp8-channel",)),
    "quark-mxfp4": Form(lambda w, _: v.mxfp4(w, ".weight", ".weight_scale", ("U8", "U8")), {"quant_method": "quark"}, ("quark-mxfp4",)),
    **{f"gptq-int{bits} v{version}{' asymmetric' if asymmetric else ''}": _gptq(bits, version, asymmetric)
       for bits in (4, 8, 2, 3) for version in (1, 2) for asymmetric in (False, True)},
    "gptq-int4 v2 g-1": _gptq(4, 2, True, group=-1),
    "gptq-int4 v2 g_idx": _gptq(4, 2, False, "trivial"),
    "gptq-int4 v2 desc_act": _gptq(4, 2, False, "act"),
    "gptq-int4 v1 desc_act": _gptq(4, 1, False, "act"),
    "awq-int4": Form(lambda w, _: v.awq(w), {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}, ("awq-int4",)),
    "awq-int4 BF16": Form(lambda w, _: v.awq(w, "BF16"), {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}, ("awq-int4",)),
    **{f"bnb-{book}{'-nested' if nested else ''}": Form(lambda w, _, b=book, n=nested: v.bnb4(w, b, n), {**_BNB, "bnb_4bit_quant_type": book, "bnb_4bit_use_double_quant": nested}, (f"bnb-{book}" + ("-nested" if nested else ""),))
       for book in ("nf4", "fp4") for nested in (False, True)},
    "bnb-int8": Form(lambda w, _: v.bnb8(w), {"quant_method": "bitsandbytes", "load_in_8bit": True}, ("bnb-int8",)),
}
# How each form is written: the layout, and what it must be told. What is not here is read only.
WRITTEN: dict[str, tuple[str, dict[str, Any]]] = {
    "bf16": ("hf-bf16", {}), "f16": ("hf-f16", {}), "fp8-block F32": ("hf-fp8", {"scale_dtype": "F32"}), "fp8-block BF16": ("hf-fp8", {"scale_dtype": "BF16"}),
    "fp8-block E8M0": ("hf-fp8", {"scale_dtype": "E8M0"}), "fp8-block 32x32": ("hf-fp8", {"block": (32, 32)}),
    "ct-int4-zeros": ("ct-int4", {"zero_points": True}), "ct-int4 g32": ("ct-int4", {"group": 32}),
    "ct-nvfp4 odd": ("ct-nvfp4", {}), "modelopt-nvfp4 odd": ("modelopt-nvfp4", {}), "awq-int4 BF16": ("awq-int4", {}),
    "gptq-int4 v2": ("gptq-int4", {}), "gptq-int4 v2 asymmetric": ("gptq-int4", {}), "gptq-int4 v2 g_idx": ("gptq-int4", {}),
    "ct-fp8-tensor static": ("ct-fp8-tensor", {}),
    **{name: (name, {}) for name in ("ct-fp8-tensor", "ct-fp8-channel", "ct-fp8-block", "ct-mxfp8", "ct-int8", "ct-int4", "ct-nvfp4", "ct-mxfp4", "modelopt-fp8",
                                     "modelopt-fp8-channel", "modelopt-fp8-block", "modelopt-nvfp4", "modelopt-mxfp8", "awq-int4")},
}
FORMS = {name: form._replace(layout=WRITTEN[name][0], back=WRITTEN[name][1]) if name in WRITTEN else form
         for spelled, form in FORMS.items() for name in [spelled.strip()]}


def forms_of(family: str) -> list[str]:
    """The forms of a family: widths that nobody publishes are tried on one."""
    return [name for name in FORMS if family == "dense" or not any(f"int{bits}" in name for bits in (2, 3, 5, 6, 7))]


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float32: Gaussian rows of different size, in the order of real weights."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    w = random.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
    return w * np.exp2(random.uniform(-1, 1, (shape[0], 1))).astype(np.float32) if len(shape) == 2 else 1 + w


class Made(NamedTuple):
    """A written checkpoint: its folder, the modules that are quantized with their shapes, and its form."""

    name: str
    folder: Path
    linear: dict[str, Shape]
    form: Form

    def decoded(self, module: str) -> np.ndarray:
        """float32 [N, K] by plain numpy."""
        return v.decode(read_parts(self.folder, module), self.linear[module], block=self.form.block, bits=self.form.bits, first_version=self.form.first_version)


def write(folder: Path, family: str, name: str) -> Made:
    """One family in one form."""
    config, listed = FAMILIES[family]()
    form = FORMS[name]
    tensors: dict[str, tuple[str, tuple[int, ...], bytes]] = {}
    linear = {module: shape for module, kind, shape in listed if kind == LINEAR}
    for module, kind, shape in listed:
        w = weight(module, shape)
        if kind == LINEAR:
            parts = form.make(w, module)
        elif "e_score_correction_bias" in module:
            parts = {"": ("F32", w)}
        else:
            plain = "F16" if name == "f16" else "BF16"
            parts = {".weight" if kind == PLAIN else "": (plain, w.astype(v.KIND[plain]))}
        put(tensors, module, parts)
    claim = {"quantization_config": form.claim} if form.claim else {}
    return Made(f"{family}, {name}", written(folder, config | claim, tensors), linear, form)  # type: ignore[arg-type]


def put(tensors: dict[str, tuple[str, tuple[int, ...], bytes]], stem: str, parts: Parts) -> None:
    for suffix, (dtype, array) in parts.items():
        tensors[stem + suffix] = (dtype, array.shape, np.ascontiguousarray(array).tobytes())


def written(folder: Path, config: dict[str, Any], tensors: dict[str, tuple[str, tuple[int, ...], bytes]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    safetensors_writer.write_file(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def read_parts(folder: Path, stem: str) -> Parts:
    """All tensors of a module, by suffix, read by position."""
    found: Parts = {}
    for name, dtype, array in _tensors(folder):
        if name.startswith(stem) and name[len(stem) : len(stem) + 1] in ("", ".", "_"):
            found[name[len(stem) :]] = (dtype, array)
    return found


def tensors_of(folder: Path) -> dict[str, tuple[str, np.ndarray]]:
    """Every tensor of a folder."""
    return {name: (dtype, array) for name, dtype, array in _tensors(folder)}


def _tensors(folder: Path) -> Iterator[tuple[str, str, np.ndarray]]:
    for path in sorted(folder.glob("*.safetensors")):
        header, start = safetensors_writer.read_header(path)
        data = path.read_bytes()[start:]
        for name, entry in header.items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                yield name, entry["dtype"], np.frombuffer(data[begin:end], v.KIND[entry["dtype"]]).reshape(entry["shape"])
