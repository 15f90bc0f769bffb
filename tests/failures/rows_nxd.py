"""Rows that belong to NxD Inference (AWS Neuron): what the contrib port of MiniMax-M2 reports, and a checkpoint in its form.

Read in NxD 2.29, NxDI and its branch contrib/MiniMax-M2 (docs/neuron.md).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.failures.tools import Config, Row, Tensors, build, m2, qwen3_moe

BLOCKS = {"quantization_block_axis": [1, 2], "quantization_block_size": [128, 128]}
EXACT = {"quantization_block_axis": [-2, -1], "quantization_block_size": [1, 128]}
QUANTIZED = {"quantized": True, "quantized_checkpoints_path": ".", "quantization_type": "blockwise_symmetric", "quantization_dtype": "f8e4m3"}
ENV = {"XLA_HANDLE_SPECIAL_SCALAR": "1", "UNSAFE_FP8FNCAST": "1"}


def stacked(layers: int = 2, experts: int = 8, hidden: int = 512, inter: int = 256, heads: int = 8, kv_heads: int = 2, vocab: int = 1024, *,
            attention: str = "exact", experts_block: tuple[int, int] | None = None, norms: int = 0) -> Tensors:
    """Names and shapes of MiniMax-M2 as NxD Inference loads them. `attention`: exact, row, block (which it cannot hold) or bf16.

    `norms` is the length of the q/k norms; 0 takes all heads, as the model has them.
    """
    head, out = 128, Tensors()
    block = experts_block or ((1, 128) if attention == "exact" else (128, 128))
    out |= {"embed_tokens.weight": ("BF16", (vocab, hidden)), "norm.weight": ("BF16", (hidden,)), "lm_head.weight": ("BF16", (vocab, hidden))}
    for layer in range(layers):
        at = f"layers.{layer}."
        out[at + "input_layernorm.weight"] = out[at + "post_attention_layernorm.weight"] = ("BF16", (hidden,))
        out[at + "self_attn.q_norm.weight"] = ("BF16", (norms or heads * head,))
        out[at + "self_attn.k_norm.weight"] = ("BF16", (norms or kv_heads * head,))
        for leaf, shape in (("q", (heads * head, hidden)), ("k", (kv_heads * head, hidden)), ("v", (kv_heads * head, hidden)),
                            ("o", (hidden, heads * head))):
            _attention(out, f"{at}self_attn.{leaf}_proj", shape, attention)
        moe = at + "block_sparse_moe."
        out[moe + "router.linear_router.weight"], out[moe + "router.e_score_correction_bias"] = ("F32", (experts, hidden)), ("F32", (experts,))
        for leaf, (rows, cols) in (("gate_up_proj", (hidden, 2 * inter)), ("down_proj", (inter, hidden))):
            path = f"{moe}expert_mlps.mlp_op.{leaf}"
            out[path + ".weight"], out[path + ".scale"] = ("F8_E4M3", (experts, rows, cols)), ("F32", (experts, rows // block[0], cols // block[1]))
    return out


def _attention(out: Tensors, path: str, shape: tuple[int, int], form: str) -> None:
    if form == "bf16":
        out[path + ".weight"] = ("BF16", shape)
        return
    grid = {"row": (shape[0], 1), "exact": (shape[0], shape[1] // 128), "block": (shape[0] // 128, shape[1] // 128)}[form]
    out[path + ".weight"], out[path + ".scale"] = ("F8_E4M3", shape), ("F32", grid)


def neuron_m2(folder: Path, *, skip: list[str] | None = None, settings: Config | None = None, tensors: Tensors | None = None, index: bool = True,
              config: Config | None = None, **form: Any) -> Path:
    """A MiniMax-M2 checkpoint in the form of NxD Inference, with its neuron_config.json. Without TP in it, since no rule on degrees is asked."""
    given = stacked(**form) if tensors is None else tensors
    claim = m2(layers=2)[1] | {"torch_dtype": "bfloat16"} | (config or {})
    claim.pop("quantization_config", None)
    blocks = EXACT if form.get("attention", "exact") == "exact" else BLOCKS
    own = QUANTIZED | blocks | {"modules_to_not_convert": ["lm_head"] if skip is None else skip, "glu_mlp": True, "batch_size": 4} | (settings or {})
    own = {key: value for key, value in own.items() if value is not ...}
    shards = {"model-1.safetensors": list(given)} if index else None
    return build(folder, given, claim, shards=shards, files={"neuron_config.json": own})


def qwen3(folder: Path, **form: Any) -> Path:
    """Qwen3-MoE in BF16: norms of one head each, so nothing else is to be said under TP."""
    return build(folder, *qwen3_moe(quantize=False, **form))


def _qwen3_blocks(folder: Path) -> Path:
    """Experts of Qwen3-MoE stacked and block-quantized as NxD Inference holds them, attention in BF16."""
    tensors, config = qwen3_moe(quantize=False, heads=8)
    kept = {name.removeprefix("model."): value for name, value in tensors.items() if ".experts." not in name}
    for layer in range(2):
        path = f"layers.{layer}.mlp.expert_mlps.mlp_op."
        for leaf, (rows, cols) in (("gate_up_proj", (512, 512)), ("down_proj", (256, 512))):
            kept[f"{path}{leaf}.weight"], kept[f"{path}{leaf}.scale"] = ("F8_E4M3", (8, rows, cols)), ("F32", (8, rows // 128, cols // 128))
    own = QUANTIZED | {"quantization_block_axis": [-2, -1], "quantization_block_size": [128, 128], "modules_to_not_convert": ["lm_head", "self_attn"],
                       "batch_size": 16}
    config |= {"model_type": "qwen3_moe_like", "architectures": ["Qwen3MoeLikeForCausalLM"]}  # a family without an inventory
    return build(folder, kept, config, files={"neuron_config.json": own})


RANKS = {"tp": 4, "moe_tp": 1, "moe_ep": 4, "batch": 16, "environment": ENV}

ROWS = [
    Row("A13", "WB702", lambda f: neuron_m2(f, attention="block"), lambda f: neuron_m2(f, attention="exact"), "neuron", "8 is not 1024",
        variant="attention-converted"),
    Row("A13", "WB702", lambda f: neuron_m2(f, attention="block", skip=["lm_head", "self_attn"]),
        lambda f: neuron_m2(f, attention="bf16", skip=["lm_head", "self_attn"]),
        "neuron", "verify_scale_dimension", variant="self_attn-listed"),
    Row("A13", "WB702", lambda f: neuron_m2(f, attention="row", skip=["lm_head", "self_attn"]), lambda f: neuron_m2(f, attention="row"), "neuron",
        "no error", variant="per-row-and-listed-is-silent"),
    Row("A13", "WB702", lambda f: build(f, *m2(), shards={"a.safetensors": list(m2()[0])}), lambda f: neuron_m2(f), "neuron",
        "The skip list is not the cause",
        variant="published-files"),
    Row("E6", "WB709", _qwen3_blocks, _qwen3_blocks, "neuron", "256/4 = 64", settings=RANKS | {"moe_tp": 4, "moe_ep": 1}, good_settings=RANKS,
        variant="moe_tp-below-a-block"),
    Row("E9", "WB712", qwen3, qwen3, "neuron", "use batch 4 or more", settings=RANKS | {"batch": 2}, good_settings=RANKS, variant="batch"),
    Row("E9", "WB712", lambda f: qwen3(f, experts=16), lambda f: qwen3(f, experts=16), "neuron",
        "Selective Loading with Expert parallelism is not supported",
        settings=RANKS | {"batch": 7}, good_settings=RANKS | {"batch": 8}, variant="16-experts"),
]
UNDECIDED = {"F4": "the report names no cause, and only running shows it"}
