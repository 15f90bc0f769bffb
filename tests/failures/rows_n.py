"""Rows N (the claim), B1, B2, B10, B14 (scales that have no place, or none where one is due), C8, D8, D13, L1 to L4 (draft layers).

Read in: transformers 5.23.0, llama.cpp master, stored main branches of vLLM and SGLang; the issues of the rows.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.failures.quantized import gptq
from tests.failures.rows_a import CHANNEL, per_channel, plain, write
from tests.failures.tools import BLOCK_FP8, Config, Row, Tensors, build, deepseek, fp8, llama, m2, qwen3_moe

Write = Callable[[Path], Path]
INT4 = {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": True, "dynamic": False}}


def unclaimed(make: tuple[Tensors, Config], **files: Any) -> Write:
    def run(folder: Path) -> Path:
        return build(folder, make[0], {k: v for k, v in make[1].items() if k != "quantization_config"}, files=files.get("files"))
    return run


def gpt_oss(quantized: bool, claim: bool = True) -> Write:
    """Experts as MXFP4 blocks, or decoded to BF16."""
    tensors: Tensors = {"model.embed_tokens.weight": ("BF16", (1024, 576)), "model.norm.weight": ("BF16", (576,)),
                        "lm_head.weight": ("BF16", (1024, 576))}
    for layer in range(2):
        at = f"model.layers.{layer}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{at}{norm}.weight"] = ("BF16", (576,))
        for name, rows in (("q", 512), ("k", 128), ("v", 128), ("o", 576)):
            tensors[f"{at}self_attn.{name}_proj.weight"] = ("BF16", (rows, 576 if name != "o" else 512))
            tensors[f"{at}self_attn.{name}_proj.bias"] = ("BF16", (rows,))
        tensors[at + "self_attn.sinks"] = ("BF16", (8,))
        tensors[at + "mlp.router.weight"], tensors[at + "mlp.router.bias"] = ("BF16", (4, 576)), ("BF16", (4,))
        for name, rows in (("gate_up_proj", 1152), ("down_proj", 576)):
            path = f"{at}mlp.experts.{name}"
            tensors[path + "_bias"] = ("BF16", (4, rows))
            if quantized:
                tensors[path + "_blocks"], tensors[path + "_scales"] = ("U8", (4, rows, 18, 16)), ("U8", (4, rows, 18))
            else:
                tensors[path] = ("BF16", (4, 576, rows))
    config: Config = {"architectures": ["SomeOssForCausalLM"], "model_type": "some_oss", "hidden_size": 576, "num_hidden_layers": 2,
                      "num_attention_heads": 8,
                      "num_key_value_heads": 2, "head_dim": 64, "intermediate_size": 576, "num_local_experts": 4, "num_experts_per_tok": 2,
                      "vocab_size": 1024,
                      "max_position_embeddings": 4096, "tie_word_embeddings": False}
    if claim:
        config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router",
                                                                                             "lm_head"]}

    def run(folder: Path) -> Path:
        return build(folder, tensors, config)
    return run


def layer_types(count: int, key: str = "layer_types", nested: bool = False) -> Write:
    tensors, config = llama(layers=4)
    values = ["full_attention"] * count
    if nested:
        text = {k: v for k, v in config.items() if k != "quantization_config"} | {key: values}
        tensors = {n.replace("model.", "language_model.model.", 1) if n.startswith("model.") else "language_model." + n: s for n,
                   s in tensors.items()}
        config = {"model_type": "some_vlm", "architectures": ["SomeVLM"], "tie_word_embeddings": False, "text_config": text,
                  "quantization_config": {**BLOCK_FP8, "modules_to_not_convert": ["lm_head"]}}
        return lambda folder: build(folder, tensors, config)
    return lambda folder: build(folder, tensors, config | {key: values})


def bitsandbytes(bits: int, claim: bool = True) -> Write:
    tensors, config = llama(quantize=False)
    out: Tensors = {}
    for name, (dtype, shape) in tensors.items():
        path = name.removesuffix(".weight")
        if not path.endswith("_proj"):
            out[name] = (dtype, shape)
        elif bits == 8:
            out |= {name: ("I8", shape), path + ".SCB": ("F32", (shape[0],)), path + ".weight_format": ("U8", ())}
        else:
            size = shape[0] * shape[1]
            out |= {name: ("U8", (size // 2, 1)), name + ".absmax": ("F32", (size // 64,)), name + ".quant_map": ("F32", (16,)),
                    name + ".quant_state.bitsandbytes__nf4": ("U8", (90,))}
    quantization = {"quant_method": "bitsandbytes", "load_in_4bit": bits == 4, "load_in_8bit": bits == 8}
    return lambda folder: build(folder, out, config | ({"quantization_config": quantization} if claim else {}))


def two_groups(groups: int) -> Write:
    tensors, config = llama()
    weights = CHANNEL["config_groups"]["group_0"]  # type: ignore[index]
    claim = {**CHANNEL, "ignore": ["lm_head"], "config_groups": {"group_0": {**weights,
                                                                             "targets": ["re:.*self_attn.*"] if groups > 1 else ["Linear"]}}}
    if groups > 1:
        claim["config_groups"]["group_1"] = {**weights, "targets": ["re:.*mlp.*"]}  # type: ignore[index]
    return write((per_channel(tensors), config), claim=claim)


def channel(claim: dict[str, Any] = CHANNEL, blocks: bool = False) -> Write:
    tensors, config = llama(suffix=".weight_scale") if blocks else (per_channel(llama()[0]), llama()[1])
    return write((tensors, config), claim={**claim, "ignore": ["lm_head"]})


def dequantized(claim: dict[str, Any] | None) -> Write:
    tensors, config = llama(quantize=False)
    return lambda folder: build(folder, tensors, config | ({"quantization_config": claim} if claim else {}))


def per_tensor(block: object) -> Write:
    tensors, config = llama()
    return write((tensors, config), claim={**BLOCK_FP8, "weight_block_size": block, "modules_to_not_convert": ["lm_head"]})


def head(quantized: bool) -> Write:
    tensors, config = per_channel(llama()[0]), llama()[1]
    if quantized:
        fp8(tensors, "lm_head", (1024, 512), ".weight_scale", (1024, 1))
    return write((tensors, config), "ignore", [] if quantized else ["lm_head"], CHANNEL)


def draft(head_coded: bool = False, plain_words: tuple[str, ...] = (), eh_coded: bool = False, entries: tuple[str, ...] = (),
          reader_key: str = "modules_to_not_convert",
          claim: dict[str, Any] | None = None, channels: bool = False) -> Write:
    """DeepSeek's draft layer (layer 2 of 2): its head, its eh_proj and its projections with codes or without."""
    tensors, config = deepseek(layers=2, mtp=True)
    at = "model.layers.2."
    hidden = config["hidden_size"]
    for name, coded, shape in (("shared_head.head", head_coded, (1024, hidden)), ("eh_proj", eh_coded, (hidden, 2 * hidden))):
        tensors[f"{at}{name}.weight"] = ("BF16", shape)
        if coded:
            fp8(tensors, at + name, shape)
    if plain_words:
        tensors = plain(tensors, *(at + word for word in plain_words))
    if channels:
        tensors = per_channel(tensors)
    config = config | {"model_type": "some_moe_mtp"}
    return write((tensors, config), reader_key, list(entries), claim or BLOCK_FP8)


def draft_table(whole: bool) -> Write:
    tensors, config = deepseek(layers=2, mtp=True)
    layers = range(3 if whole else 2)
    table = {f"model.layers.{n}.{part}": {"quant_algo": "FP8"} for n in layers for part in ("self_attn", "mlp")}
    claim = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": table, "ignore": ["lm_head"]}
    tensors = {n.removesuffix("_inv"): (d, () if n.endswith("_scale_inv") else s) for n, (d, s) in tensors.items()}
    return write((tensors, config | {"model_type": "some_moe_mtp"}), claim=claim)


def gptq_draft(plain_draft: bool) -> Write:
    """A GPTQ model whose draft layer is BF16, with and without a rule in `dynamic`."""
    tensors, config = gptq(lambda: llama(layers=3, quantize=False))()
    out = dict(tensors)
    for name in tensors:
        if ".layers.2." in name and name.endswith((".qweight", ".qzeros", ".scales", ".g_idx")):
            del out[name]
            path = name.rpartition(".")[0]
            rows, columns = (512, 1024) if path.endswith("down_proj") else (1024, 512) if path.endswith(("gate_proj", "up_proj")) else (
                256, 512) if path.endswith(("k_proj", "v_proj")) else (512, 512)
            out[path + ".weight"] = ("BF16", (rows, columns))
    out["model.layers.2.eh_proj.weight"] = ("BF16", (512, 1024))
    claim = dict(config["quantization_config"])
    if not plain_draft:
        claim["dynamic"] = {"-:model\\.layers\\.2\\..*": {}}
    config = {**config, "model_type": "some_mtp", "num_hidden_layers": 2, "num_nextn_predict_layers": 1, "quantization_config": claim}
    data = {n: b"\x77" * (4 * s[0] * s[1]) for n, (_, s) in out.items() if n.endswith("qzeros")}
    data |= {n: b"".join((i // 128).to_bytes(4, "little") for i in range(s[0])) for n, (_, s) in out.items() if n.endswith("g_idx")}
    return lambda folder: build(folder, out, config, data=data)


def packed_experts(said: bool) -> Write:
    """Experts as DeepSeek-V4 has them: two codes in a byte, one E8M0 scale for 32 of them."""
    tensors, config = qwen3_moe()
    out: Tensors = {}
    for name, (dtype, shape) in tensors.items():
        if ".experts." in name and name.endswith(".weight"):
            out[name], out[name.removesuffix("weight") + "scale"] = ("I8", (shape[0], shape[1] // 2)), ("F8_E8M0", (shape[0], shape[1] // 32))
        elif ".experts." not in name:
            out[name] = (dtype, shape)
    extra = {"expert_dtype": "fp4"} if said else {}
    return lambda folder: build(folder, out, config | {"model_type": "some_moe"} | extra)


def packed_int4(claimed: str) -> Write:
    """Experts as words of eight INT4 codes."""
    tensors, config = qwen3_moe()
    out: Tensors = {}
    for name, (dtype, shape) in tensors.items():
        path = name.removesuffix(".weight")
        if ".experts." in name and name.endswith(".weight"):
            out |= {path + ".weight_packed": ("I32", (shape[0], shape[1] // 8)), path + ".weight_scale": ("BF16", (shape[0], shape[1] // 32)),
                    path + ".weight_shape": ("I32", (2,))}
        elif ".self_attn." in name and dtype == "F8_E4M3":
            out[name] = ("BF16", shape)
        elif not name.endswith("weight_scale_inv"):
            out[name] = (dtype, shape)
    int4 = {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"group_0": INT4},
            "ignore": ["lm_head", "re:.*self_attn.*", "re:.*mlp\\.gate$"]}
    shapes = {name: b"".join(n.to_bytes(4, "little") for n in tensors[name.removesuffix("_shape")][1]) for name in out
              if name.endswith("weight_shape")}
    claim = int4 if claimed == "int4" else {**BLOCK_FP8, "modules_to_not_convert": ["lm_head", "self_attn", "gate"]}
    return lambda folder: build(folder, out, config | {"model_type": "some_moe", "quantization_config": claim}, data=shapes)


def nested(prefix: str) -> Write:
    tensors, config = llama()
    out = {prefix + name: spec for name, spec in tensors.items()}
    settings = {k: v for k, v in config.items() if k != "quantization_config"}
    return lambda folder: build(folder, out, {"model_type": "some_vlm", "architectures": ["SomeVLM"], "tie_word_embeddings": False,
                                              "text_config": settings,
                                              "quantization_config": {**BLOCK_FP8, "modules_to_not_convert": ["lm_head"]}})


def nvfp4(listed: bool) -> Write:
    """ModelOpt NVFP4 with o_proj in BF16."""
    tensors, config = llama(quantize=False)
    out: Tensors = {}
    for name, (dtype, shape) in tensors.items():
        path = name.removesuffix(".weight")
        if not path.endswith("_proj") or path.endswith("o_proj"):
            out[name] = (dtype, shape)
            continue
        out |= {name: ("U8", (shape[0], shape[1] // 2)), path + ".weight_scale": ("F8_E4M3", (shape[0], shape[1] // 16)),
                path + ".weight_scale_2": ("F32", ()),
                path + ".input_scale": ("F32", ())}
    same = b"\x00\x00\x80\x3a"
    data = {name: same for name in out if name.endswith(("weight_scale_2", "input_scale"))}
    claim = {"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16,
             "ignore": ["lm_head", *(["model.layers.*.self_attn.o_proj"] if listed else [])]}
    return lambda folder: build(folder, out, config | {"quantization_config": claim}, data=data)


def v32_cast(claim: bool) -> Write:
    """A half-decoded checkpoint: the script left the tensors that it did not know in FP8, and took the claim out."""
    tensors, config = deepseek(layers=2)
    out = {n: (("BF16", s) if d == "F8_E4M3" and "kv_b_proj" not in n else (d, s)) for n, (d, s) in tensors.items()
           if not n.endswith("weight_scale_inv") or "kv_b_proj" in n}
    full = {k: v for k, v in config.items() if k != "quantization_config"}
    return lambda folder: build(folder, tensors, config) if claim else build(folder, out, full)


GLM = {**CHANNEL, "ignore": ["lm_head", "re:.*mlp\\.gate$", "re:.*eh_proj$", "re:.*shared_head.*"]}
FLAG = {"quantization": "fp8"}

ROWS = [
    Row("N1", "WB202", gpt_oss(False), gpt_oss(True), "vllm", "layers.0.mlp.experts.w2_weight"),
    Row("N1", "WB202", gpt_oss(False), gpt_oss(False, claim=False), "", "mxfp4", variant="no-claim"),
    Row("N3", "WB212", layer_types(3), layer_types(4), "", "3 values for 4 layers"),
    Row("N3", "WB212", layer_types(6, nested=True), layer_types(4, nested=True), "vllm", "text_config.layer_types", variant="nested"),
    Row("N5", "WB202", dequantized({**CHANNEL, "quantization_status": "frozen"}), dequantized(None), "transformers",
        "run_compressed is only supported"),
    Row("N5", "WB202", dequantized({**BLOCK_FP8}), dequantized(None), "sglang", "quantization_config", variant="fp8"),
    Row("N7", "WB213", bitsandbytes(8), dequantized(None), "vllm@0.6.5", ".SCB'"),
    Row("N7", "WB213", bitsandbytes(4), dequantized(None), "vllm@0.6.5", ".weight.absmax'", variant="nf4"),
    Row("N8", "WB211", two_groups(2), two_groups(1), "llama.cpp", "Can't handle multiple config groups for compressed-tensors yet"),
    Row("N9", "WB216", unclaimed(llama()), dequantized(None), "vllm", "Promotion for Float8 Types is not supported", settings=FLAG),
    Row("N9", "WB201", unclaimed(m2()), lambda folder: build(folder, *m2()), "", "Promotion for Float8 Types is not supported", variant="claim"),
    Row("N10", "WB201", v32_cast(False), v32_cast(True), "", "kv_b_proj"),
    Row("B1", "WB310", draft(head_coded=True, channels=True, claim=GLM, reader_key="ignore", entries=tuple(GLM["ignore"][:3])),
        draft(channels=True, claim=GLM, reader_key="ignore", entries=tuple(GLM["ignore"])), "vllm", "model.layers.2.shared_head.head.weight_scale'",
        severity="warning"),
    Row("B2", "WB301", write(llama(), "ignored_layers", ["lm_head", "model.layers.0.mlp.down_proj"]), write(llama(), "ignored_layers", ["lm_head"]),
        "vllm",
        "KeyError: 'layers.0.mlp.down_proj.weight_scale_inv'"),
    Row("B2", "WB301", write((per_channel(llama()[0]), llama()[1]), "ignore", ["lm_head", "re:.*down_proj$"], CHANNEL),
        write((per_channel(llama()[0]), llama()[1]), "ignore", ["lm_head"], CHANNEL), "vllm", "KeyError: 'layers.0.mlp.down_proj.weight_scale'",
        variant="channel"),
    Row("B2", "WB303", head(True), head(False), "vllm", "KeyError: 'lm_head.weight_scale'", variant="head"),
    Row("B2", "WB307", write(llama(), "ignored_layers", ["lm_head", "model.layers.0.self_attn.q_proj"]),
        write(llama(), "ignored_layers", ["lm_head"]), "vllm,sglang",
        "Detected some but not all shards of model.layers.0.self_attn.qkv_proj are quantized.", variant="fused"),
    Row("B10", "WB302", nvfp4(False), nvfp4(True), "vllm", "the scale stays uninitialised"),
    Row("B14", "WB201", unclaimed(llama()), lambda folder: build(folder, *llama()), "llama.cpp", "Can not map tensor 'model.layers"),
    Row("C8", "WB210", packed_experts(False), packed_experts(True), "", "expert_dtype"),
    Row("D8", "WB204", packed_int4("fp8"), packed_int4("int4"), "", "weight_packed"),
    Row("D1", "WB205", channel(blocks=True), channel(), "", "strategy block", variant="channel-claimed"),
    Row("D1", "WB205", per_tensor(None), per_tensor([128, 128]), "", "weight_block_size", variant="null"),
    Row("D1", "WB206", per_tensor([64, 64]), per_tensor([128, 128]), "", "[128, 128]", variant="size"),
    Row("D13", "WB214", nested("language_model.language_model."), nested("language_model."), "", "language_model.language_model"),
    Row("L1", "WB310", draft(plain_words=("self_attn.o_proj",), entries=("lm_head",)),
        draft(plain_words=("self_attn.o_proj",), entries=("lm_head", "model.layers.2.self_attn.o_proj")), "vllm,sglang",
        "model.layers.2.self_attn.o_proj",
        severity="warning"),
    Row("L2", "WB310", draft_table(False), draft_table(True), "vllm", "quantized_layers", severity="warning"),
    Row("L3", "WB310", draft(eh_coded=True, entries=("lm_head",)), draft(entries=("lm_head",)), "vllm", "raw codes are taken for values",
        severity="warning"),
    Row("L4", "WB310", gptq_draft(True), gptq_draft(False), "vllm", "model.layers.2.self_attn", severity="warning"),
    Row("L4", "WB310", draft(plain_words=("mlp.experts",), entries=("lm_head",)),
        draft(plain_words=("mlp.experts",), entries=("lm_head", "model.layers.2.mlp.experts")),
        "vllm", "model.layers.2.mlp.experts", severity="warning", variant="experts"),
]

UNDECIDED = {"N11": "a clamp limit that a class does not take from the config: nothing in the files is wrong"}
