"""Writes a trained run as an FP8 checkpoint in the published MiniMax-M2 layout.

Usage: python quantize.py RUN CHECKPOINT
RUN holds best/model.safetensors, tokenizer.json and heldout.txt, as train.py leaves them.
This script uses nothing of the weighbridge package, so that the package can be tested against it.
"""
import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

HERE = Path(__file__).resolve().parent
BLOCK, LARGEST = 128, 448.0
LAYERS, EXPERTS, HIDDEN, VOCAB = 4, 8, 256, 2048
BOS, ROLE, EOS, THINK, END_THINK = range(VOCAB - 5, VOCAB)
# Counted from 0, and the last number is not the count: so are the published names.
SHARD = "model-{:05d}-of-00006.safetensors"
# What each shard holds: layers 0 and 1 have w2 apart from w1 and w3.
PLAN = (("embed", "0.rest", "0.w1", "0.w3"), ("0.w2", "1.rest", "1.w1", "1.w3"),
        ("1.w2", "2.rest", "2.w1", "2.w3", "2.w2"), ("3.rest", "3.w1", "3.w3", "3.w2", "head"))


def quantize(weight):
    """Returns FP8 codes and one float32 scale per 128 x 128 block; the last block may be ragged."""
    rows, columns = weight.shape
    high, wide = -(-rows // BLOCK), -(-columns // BLOCK)
    padded = torch.zeros(high * BLOCK, wide * BLOCK)
    padded[:rows, :columns] = weight.float()
    blocks = padded.view(high, BLOCK, wide, BLOCK)
    largest = blocks.abs().amax(dim=(1, 3))
    scale = torch.where(largest > 0, largest / LARGEST, torch.ones_like(largest))
    scaled = blocks / scale[:, None, :, None]
    codes = scaled.to(torch.float8_e4m3fn)  # rounds to nearest, ties to even
    return codes.view(high * BLOCK, wide * BLOCK)[:rows, :columns].contiguous(), scale


def is_quantized(name):
    return name.endswith("_proj.weight") or ".experts." in name


def keeps_float32(name):
    return name.endswith(("block_sparse_moe.gate.weight", "e_score_correction_bias"))


def original(run):
    """The original weights: BF16, but the router in float32."""
    stored = load_file(run / "best" / "model.safetensors")
    return {name: t.float() if keeps_float32(name) else t.bfloat16() for name, t in stored.items()}


def place(name):
    """The key in PLAN of a tensor."""
    if name.startswith("model.embed_tokens"):
        return "embed"
    if not name.startswith("model.layers."):
        return "head"
    layer, part = name.split(".")[2], name.split(".")[-2]
    return f"{layer}.{part if part in ('w1', 'w2', 'w3') else 'rest'}"


def write_shards(weights, out):
    shards, weight_map, size = [{} for _ in PLAN], {}, 0
    for name in sorted(weights):
        index = next(i for i, places in enumerate(PLAN) if place(name) in places)
        parts = {name: weights[name]}
        if is_quantized(name):
            parts[name], parts[name + "_scale_inv"] = quantize(weights[name])
        for part, tensor in parts.items():
            shards[index][part] = tensor.contiguous()
            weight_map[part] = SHARD.format(index)
            size += tensor.numel() * tensor.element_size()
    for index, shard in enumerate(shards):
        save_file(shard, out / SHARD.format(index), metadata={"format": "pt"})
        (out / SHARD.format(index)).chmod(0o644)
    write_json(out / "model.safetensors.index.json",
               {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))})


def config():
    """The keys of the published config.json, with the values of this model."""
    return {
        "architectures": ["MiniMaxM2ForCausalLM"], "attention_dropout": 0.0,
        "attn_type_list": [1] * LAYERS, "bos_token_id": None, "eos_token_id": None,
        "head_dim": 128, "hidden_act": "silu", "hidden_size": HIDDEN, "initializer_range": 0.02,
        "intermediate_size": 256, "layernorm_full_attention_beta": 1.0,
        "layernorm_linear_attention_beta": 1.0, "layernorm_mlp_beta": 1.0,
        "max_position_embeddings": 1024, "mlp_intermediate_size": 1024, "model_type": "minimax_m2",
        "mtp_transformer_layers": 1, "num_attention_heads": 6, "num_experts_per_tok": 2,
        "num_hidden_layers": LAYERS, "num_key_value_heads": 2, "num_local_experts": EXPERTS,
        "num_mtp_modules": 3, "output_router_logits": False, "qk_norm_type": "per_layer",
        "quantization_config": {
            "activation_scheme": "dynamic", "fmt": "float8_e4m3fn", "quant_method": "fp8",
            "weight_block_size": [BLOCK, BLOCK],
            "modules_to_not_convert": ["gate", "e_score_correction_bias", "lm_head"]},
        "rms_norm_eps": 1e-06, "rope_theta": 50000, "rotary_dim": 64, "router_aux_loss_coef": 0.001,
        "router_jitter_noise": 0.0, "scoring_func": "sigmoid", "shared_intermediate_size": 0,
        "shared_moe_mode": "sigmoid", "sliding_window": None, "tie_word_embeddings": False,
        "transformers_version": "4.46.1", "use_cache": True, "use_mtp": True, "use_qk_norm": True,
        "use_routing_bias": True, "vocab_size": VOCAB}


def tokenizer_config():
    """No class of its own: tokenizer.json says all."""
    names = {BOS: "]~!b[", ROLE: "]~b]", EOS: "[e~[", THINK: "<think>", END_THINK: "</think>"}
    added = {str(i): {"content": text, "lstrip": False, "normalized": False, "rstrip": False,
                      "single_word": False, "special": i <= EOS} for i, text in names.items()}
    return {"add_prefix_space": False, "added_tokens_decoder": added, "bos_token": names[BOS],
            "clean_up_tokenization_spaces": False, "eos_token": names[EOS], "model_max_length": 1024,
            "tokenizer_class": "PreTrainedTokenizerFast"}


def write_json(path, content):
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_text_files(run, out):
    write_json(out / "config.json", config())
    write_json(out / "generation_config.json", {
        "bos_token_id": BOS, "do_sample": True, "eos_token_id": EOS, "temperature": 0.8,
        "top_p": 0.95, "top_k": 40, "transformers_version": "4.46.1"})
    write_json(out / "tokenizer_config.json", tokenizer_config())
    shutil.copyfile(run / "tokenizer.json", out / "tokenizer.json")
    for name in ("chat_template.jinja", "NOTICE"):
        shutil.copyfile(HERE / name, out / name)
    # The 17th to 23rd held-out chapters: Jonah, and James 1 to 3.
    chapters = (run / "heldout.txt").read_text(encoding="utf-8").strip().split("\n\n")
    (out / "heldout.txt").write_text("\n\n".join(chapters[16:23]) + "\n", encoding="utf-8")


def main():
    run, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    write_shards(original(run), out)
    write_text_files(run, out)


if __name__ == "__main__":
    main()
