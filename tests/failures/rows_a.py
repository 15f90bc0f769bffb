"""Rows A: the skip list does not match what is on disk.

Read in: transformers 5.23.0, compressed-tensors 0.20.0, NxD 2.29, stored main branches of vLLM, SGLang and TensorRT-LLM; the issues of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.failures.rows_nxd import neuron_m2, stacked
from tests.failures.tools import BLOCK_FP8, Config, Row, Tensors, build, fp8, llama, m2, qwen3_moe

Write = Callable[[Path], Path]
CHANNEL = {"quant_method": "compressed-tensors", "format": "float-quantized", "quantization_status": "compressed", "config_groups": {"group_0": {
    "targets": ["Linear"], "weights": {"num_bits": 8, "type": "float", "strategy": "channel", "dynamic": False, "symmetric": True},
    "input_activations": {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": True}}}}


def plain(tensors: Tensors, *words: str) -> Tensors:
    """The modules that have one of these words hold BF16 and no scale."""
    out: Tensors = {}
    for name, (dtype, shape) in tensors.items():
        hit = any(word in name for word in words)
        if not hit or not name.endswith(("weight_scale_inv", "weight_scale")):
            out[name] = ("BF16", shape) if hit and dtype == "F8_E4M3" else (dtype, shape)
    return out


def per_channel(tensors: Tensors) -> Tensors:
    """Block scales replaced by one for each row, with the name of compressed-tensors."""
    out: Tensors = {}
    for name, (dtype, shape) in tensors.items():
        if name.endswith("weight_scale_inv"):
            out[name.removesuffix("_inv")] = ("F32", (tensors[name.removesuffix("_scale_inv")][1][0], 1))
        else:
            out[name] = (dtype, shape)
    return out


def renamed(tensors: Tensors, old: str, new: str) -> Tensors:
    return {name.replace(old, new, 1) if name.startswith(old) else name: spec for name, spec in tensors.items()}


def write(make: tuple[Tensors, Config], key: str = "", entries: Iterable[str] | None = None, claim: dict[str, Any] | None = None,
          files: dict[str, Any] | None = None, **config: Any) -> Write:
    """A checkpoint with that claim, and the list under `key` (none where `entries` is None)."""
    def run(folder: Path) -> Path:
        tensors, settings = make[0], {**make[1], **config}
        quantization = dict(claim if claim is not None else settings.get("quantization_config", BLOCK_FP8))
        if key:
            for other in ("modules_to_not_convert", "ignored_layers", "ignore"):
                quantization.pop(other, None)
            if entries is not None:
                quantization[key] = list(entries)
        return build(folder, tensors, settings | {"quantization_config": quantization}, files=files)
    return run


def vlm(prefix: str = "model.language_model.", *, visual: str = "model.visual.", quantized_tower: bool = False) -> tuple[Tensors, Config]:
    """A multimodal checkpoint of Qwen's kind: text below `prefix`, o_proj in BF16, a small tower."""
    tensors, config = llama(model_type="qwen3", qk_norm=True, tied=False)
    tensors = plain(renamed(tensors, "model.", prefix), "o_proj")
    for block in range(2):
        at = f"{visual}blocks.{block}."
        for name, shape in (("attn.qkv", (768, 256)), ("attn.proj", (256, 256)), ("mlp.fc1", (512, 256)), ("mlp.fc2", (256, 512))):
            if quantized_tower:
                fp8(tensors, at + name, shape)
            else:
                tensors[at + name + ".weight"] = ("BF16", shape)
    text = {k: v for k, v in config.items() if k != "quantization_config"} | {"model_type": "qwen3_vl_text"}
    return tensors, {"architectures": ["Qwen3VLForConditionalGeneration"], "model_type": "qwen3_vl", "tie_word_embeddings": False,
                     "text_config": text,
                     "quantization_config": dict(BLOCK_FP8)}


def text_only(entry: str) -> Write:
    made = vlm()
    return write(made, "modules_to_not_convert", ["lm_head", entry.format(0), entry.format(1), "model.visual"], architectures=["Qwen3ForCausalLM"])


def matched_tower(entry: str) -> Write:
    """The same in compressed-tensors, whose entries may be regular expressions."""
    tensors, config = vlm()
    return write((per_channel(tensors), config), "ignore", ["lm_head", "re:.*o_proj$", entry], CHANNEL)


def tower(make: tuple[Tensors, Config], *entries: str) -> Write:
    text = [f"model.language_model.layers.{n}.self_attn.o_proj" for n in range(2)]
    return write(make, "modules_to_not_convert", ["lm_head", *text, *entries])


def tower_list(make: tuple[Tensors, Config], prefix: str) -> list[str]:
    return [f"{prefix}blocks.{n}.{name}" for n in range(2) for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")]


def routers(listed: bool) -> Write:
    tensors, config = qwen3_moe()
    gates = ["re:.*mlp\\.gate$"] if listed else []
    return write((per_channel(tensors), config), "ignore", ["lm_head", *gates], CHANNEL)


def quark(entry: str) -> Write:
    tensors, config = qwen3_moe()
    claim = {"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp8_e4m3", "qscheme": "per_channel"}},
             "exclude": ["lm_head", entry]}
    return write((per_channel(tensors), config), claim=claim)


def shared_experts(name: str) -> Write:
    """A list with the names of another library version, for files that have `shared_experts`."""
    tensors, config = qwen3_moe()
    for layer in range(2):
        for part, shape in (("gate", (256, 512)), ("up", (256, 512)), ("down", (512, 256))):
            tensors[f"model.layers.{layer}.mlp.shared_experts.{part}_proj.weight"] = ("BF16", shape)
    entries = [f"model.layers.{layer}.mlp.{name}.{part}_proj" for layer in range(2) for part in ("gate", "up", "down")]
    return write((per_channel(tensors), config | {"model_type": "some_moe"}), "ignore", ["lm_head", "re:.*mlp\\.gate$", *entries], CHANNEL)


def mixed_experts(mixed: bool) -> Write:
    """Layer 1 has its experts in BF16, and the list says so."""
    tensors, config = qwen3_moe()
    made = plain(per_channel(tensors), "layers.1.mlp.experts") if mixed else per_channel(tensors)
    return write((made, config), "ignore", ["lm_head", "re:.*mlp\\.gate$", *(["re:.*layers\\.1\\.mlp\\.experts.*"] if mixed else [])], CHANNEL)


def neuron(attention: str, entries: list[str], o_proj: bool = False) -> Write:
    """MiniMax-M2 as NxD reads it. `attention` says what its scales are (exact, row, block) or bf16; `o_proj` is in BF16."""
    def run(folder: Path) -> Path:
        tensors = stacked(attention=attention)
        if o_proj:
            tensors = {n: (("BF16", s) if n.endswith("o_proj.weight") else (d, s)) for n, (d, s) in tensors.items() if not n.endswith("o_proj.scale")}
        return neuron_m2(folder, skip=entries, tensors=tensors, attention=attention)
    return run


def lfm2(entry: str) -> Write:
    tensors, config = llama(quantize=True)
    for layer in range(2):
        tensors[f"model.layers.{layer}.conv.in_proj.weight"] = ("BF16", (1536, 512))
    return write((tensors, config | {"model_type": "lfm2", "architectures": ["Lfm2ForCausalLM"]}), "ignored_layers",
                 ["lm_head", *(entry.format(n) for n in range(2))])


def lfm2_good(folder: Path) -> Path:
    tensors, config = llama(quantize=True)
    return write((tensors, config), "ignored_layers", ["lm_head"])(folder)


def eagle3(plain_attention: bool) -> Write:
    tensors, config = llama(layers=1)
    made = plain(tensors, "self_attn") if plain_attention else tensors
    entries = [f"model.layers.0.self_attn.{p}_proj" for p in "qkvo"] if plain_attention else []
    return write((made, config | {"architectures": ["LlamaForCausalLMEagle3"]}), "ignored_layers", ["lm_head", *entries])


def partly_quantized(model_type: str) -> Write:
    """Layer 0 in BF16 and listed whole, as publishers do for the first layers."""
    tensors, config = llama(model_type=model_type, biases=model_type == "qwen2")
    names = [f"model.layers.0.{n}" for n in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj",
                                             "mlp.up_proj", "mlp.down_proj")]
    return write((plain(tensors, ".layers.0."), config), "ignored_layers", ["lm_head", *names])


M2, QWEN = m2(), qwen3_moe()
DENSE = llama()
O_PROJ = (plain(DENSE[0], "o_proj"), DENSE[1])
TOWER = vlm()
_ELEVEN = llama(layers=11)
LAYER_1 = (plain(_ELEVEN[0], ".layers.1."), _ELEVEN[1])
ROUTER_LIST = ["lm_head", *(f"model.layers.{n}.mlp.gate" for n in range(2))]

ROWS = [
    Row("A1", "WB308", text_only("model.language_model.layers.{}.self_attn.o_proj"), text_only("model.layers.{}.self_attn.o_proj"), "transformers",
        "model.layers.{0-1}.self_attn.o_proj"),
    Row("A1", "WB302", write(O_PROJ, "modules_to_not_convert", ["lm_head"]), write(O_PROJ, "modules_to_not_convert", ["lm_head", "o_proj"]),
        "transformers",
        "model.layers.{0-1}.self_attn.o_proj", variant="llama"),
    Row("A3", "WB304", write(DENSE, "ignored_layers", ["lm_head", "mlp.gate"]), write(DENSE, "ignored_layers", ["lm_head"]), "sglang@0.4",
        "gate_up_proj"),
    Row("A3", "WB304", write(LAYER_1, "modules_to_not_convert", ["lm_head", "model.layers.1"]),
        write(LAYER_1, "modules_to_not_convert", ["lm_head", "model.layers.1."]),
        "sglang@0.4", "model.layers.10", variant="layer"),
    Row("A5", "WB312", mixed_experts(True), mixed_experts(False), "vllm@0.11.0", "model.layers.1.mlp.experts"),
    Row("A6", "WB302", routers(False), routers(True), "vllm", "model.layers.{0-1}.mlp.gate"),
    Row("A7", "WB209", write(O_PROJ, "ignored_layers", ["lm_head", "model.layers.0.self_attn.o_proj", "model.layers.1.self_attn.o_proj"]),
        write(O_PROJ, "modules_to_not_convert", ["lm_head", "*.o_proj"]), "tensorrt-llm", "ignored_layers"),
    Row("A7", "WB209", write(O_PROJ, "ignore", ["lm_head", "model.layers.0.self_attn.o_proj", "model.layers.1.self_attn.o_proj"]),
        write(O_PROJ, "ignored_layers", ["lm_head", "model.layers.0.self_attn.o_proj", "model.layers.1.self_attn.o_proj"]), "vllm", "ignore",
        variant="vllm"),
    Row("A8", "WB308", matched_tower(r"re:model\.visual\..*"), matched_tower(r"re:.*visual\..*"), "vllm", "visual.blocks"),
    Row("A11", "WB312", eagle3(True), eagle3(False), "vllm", "self_attn", severity="warning"),
    Row("A12", "WB312", partly_quantized("qwen2"), partly_quantized("llama"), "vllm@0.6.4", "model.layers.0.self_attn"),
    Row("A12", "WB214", write((plain(DENSE[0], "o_proj"), DENSE[1]), "ignored_layers",
                              ["lm_head", *(f"model.layers.{n}.layers.{n}.self_attn.o_proj" for n in range(2))]),
        write(O_PROJ, "ignored_layers", ["lm_head", *(f"model.layers.{n}.self_attn.o_proj" for n in range(2))]), "vllm", "layers", variant="list"),
    Row("A13", "WB301", neuron("block", ["lm_head", "self_attn"]), neuron("exact", ["lm_head"]), "neuron", "AssertionError without a message",
        variant="block-listed"),
    Row("A13", "WB301", neuron("row", ["lm_head", "self_attn"]), neuron("row", ["lm_head"]), "neuron", "no error: codes are cast to BF16",
        variant="row-listed"),
    Row("A13", "WB304", neuron("row", ["gate", "e_score_correction_bias", "lm_head"]), neuron("row", ["lm_head"]), "neuron", "gate_up_proj",
        variant="hf-list"),
    Row("A13", "WB304", neuron("row", ["lm_head", "v_proj"]), neuron("row", ["lm_head"]), "neuron", "qkv_proj.q_proj", variant="v-proj"),
    Row("A13", "WB302", neuron("row", ["lm_head"], o_proj=True), neuron("row", ["lm_head", "o_proj"], o_proj=True), "neuron",
        "Cannot find layers.0.self_attn.o_proj.o_proj.scale", variant="o-proj"),
    Row("A13", "WB302", neuron("bf16", ["lm_head", "o_proj"]), neuron("bf16", ["lm_head", "self_attn"]), "neuron", "qkv_proj.k_proj.scale",
        variant="bf16-attention"),
    Row("A14", "WB312", lfm2("model.layers.{}.conv.in_proj"), lfm2_good, "vllm", "conv", severity="warning"),
    Row("A15", "WB308", shared_experts("shared_expert"), shared_experts("shared_experts"), "transformers", "shared_experts"),
    Row("A16", "WB302", quark("re:.*self_attn\\.nothing$"), quark("*.mlp.gate"), "vllm", "model.layers.{0-1}.mlp.gate"),
    Row("A17", "WB308", tower(TOWER, *tower_list(TOWER, "visual.vision_model.")), tower(TOWER, *tower_list(TOWER, "model.visual.")), "vllm",
        "visual.blocks"),
    Row("A17", "WB302", tower(TOWER), tower(TOWER, *tower_list(TOWER, "model.visual.")), "vllm", "visual.blocks", variant="absent"),
]

UNDECIDED = {"A10": "layers built with an empty prefix: a fault of the reader's class, nothing in the files shows it"}
