"""Tiny models of every family, made from a config and a seed: what the engine's tests and its oracles run."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from weighbridge.checkpoint.source import open_checkpoint
from weighbridge.engine.engine import Engine, load
from weighbridge.models import inventory
from weighbridge.plan.bind import Source, bind
from weighbridge.testing.safetensors_writer import write_file

GOLDEN = Path(__file__).parent / "golden"
VOCAB = 64
# hidden 40 = 1.25 blocks of 32; no width is a multiple of a block in both directions.
COMMON: dict[str, Any] = {
    "hidden_size": 40, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 72, "vocab_size": VOCAB,
    "hidden_act": "silu", "max_position_embeddings": 128, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": False,
    "bos_token_id": 1, "eos_token_id": 2,
}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
MINIMAX: dict[str, Any] = {
    "model_type": "minimax_m2", "num_attention_heads": 6, "head_dim": 16, "rotary_dim": 8, "num_local_experts": 6, "num_experts_per_tok": 2,
    "rope_theta": 50000, "scoring_func": "sigmoid", "use_qk_norm": True, "qk_norm_type": "per_layer", "use_routing_bias": True,
    "attn_type_list": [1, 1, 1],
}
EXPERTS: dict[str, Any] = {"num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 24, "head_dim": 16}
VARIANTS: dict[str, dict[str, Any]] = {
    "minimax_m2": MINIMAX,
    "minimax_m2-parameters": MINIMAX | {"rotary_dim": None, "rope_theta": None,
                                        "rope_parameters": {"rope_type": "default", "rope_theta": 700.0, "partial_rotary_factor": 0.5}},
    "llama": {"model_type": "llama"},
    "llama-tied-llama3": {"model_type": "llama", "tie_word_embeddings": True, "rope_scaling": LLAMA3},
    "llama-biases-linear": {"model_type": "llama", "attention_bias": True, "mlp_bias": True, "rope_scaling": {"type": "linear", "factor": 4.0},
                            "num_key_value_heads": 4, "rms_norm_eps": 1e-5},
    "mistral": {"model_type": "mistral", "sliding_window": 9, "head_dim": 12},
    "mistral-full": {"model_type": "mistral", "sliding_window": None},
    "qwen2": {"model_type": "qwen2", "use_sliding_window": False, "sliding_window": 7, "num_key_value_heads": 1},
    "qwen2-tied-window": {"model_type": "qwen2", "tie_word_embeddings": True, "use_sliding_window": True, "sliding_window": 7,
                          "max_window_layers": 1},
    "qwen3": {"model_type": "qwen3", "head_dim": 16, "rope_theta": 1000000},
    "qwen3-biases-window": {"model_type": "qwen3", "head_dim": 20, "attention_bias": True, "use_sliding_window": True, "sliding_window": 5,
                            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
    "qwen3_moe": {"model_type": "qwen3_moe", "norm_topk_prob": True} | EXPERTS,
    "qwen3_moe-dense-layers": {"model_type": "qwen3_moe", "norm_topk_prob": False, "mlp_only_layers": [0], "decoder_sparse_step": 1,
                               "num_hidden_layers": 4} | EXPERTS,
    "qwen3_moe-steps-window": {"model_type": "qwen3_moe", "decoder_sparse_step": 2, "num_hidden_layers": 4, "use_sliding_window": True,
                               "sliding_window": 6} | EXPERTS,
    "mixtral": {"model_type": "mixtral", "num_local_experts": 5, "num_experts_per_tok": 2},
    "mixtral-window": {"model_type": "mixtral", "num_local_experts": 5, "num_experts_per_tok": 1, "sliding_window": 8, "head_dim": 16},
}
FAMILIES = sorted({config["model_type"] for config in VARIANTS.values()})


def config_of(variant: str) -> dict[str, Any]:
    """config.json of a variant, without the keys that it sets to None for that reason."""
    merged = COMMON | VARIANTS[variant]
    return {key: value for key, value in merged.items() if value is not None or key == "sliding_window"}


def values(name: str, shape: tuple[int, int], seed: int) -> np.ndarray:
    """float32 values of a weight that bfloat16 holds exactly. They hang on its published name and shape and on the seed alone."""
    random = np.random.default_rng([seed, zlib.crc32(name.encode())])
    made = random.standard_normal(shape, dtype=np.float32)
    if name.endswith("e_score_correction_bias"):
        made = 8.5 + made * 0.1
    elif "norm" in name:
        made = 1 + 0.2 * made
    elif name.endswith(".bias"):
        made *= 0.3
    else:
        # Sharp attention and clear choices: a wrong mask or a wrong expert must show.
        made *= shape[-1] ** -0.5 * (2.0 if "q_proj" in name or "k_proj" in name else 1.0)
    return made.astype(ml_dtypes.bfloat16).astype(np.float32)


def write_model(folder: Path, config: dict[str, Any], seed: int = 0, dtype: str = "BF16") -> Path:
    """A checkpoint of one file in the published layout; MiniMax's router and its bias are F32 as in the real one."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for weight in inventory(config).weights.values():
        made = values(weight.published, weight.shape, seed)
        kind = "F32" if "block_sparse_moe.gate" in weight.published or "e_score" in weight.published else dtype
        raw = made.tobytes() if kind == "F32" else made.astype(ml_dtypes.bfloat16).tobytes()
        tensors[weight.published] = (kind, weight.shape[1:] if weight.vector else weight.shape, raw)
    write_file(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    return folder


def source(folder: Path | str) -> Source:
    return bind(open_checkpoint(folder))


def engine(folder: Path | str, **options: Any) -> Engine:
    return load(source(folder), **options)


def all_logits(model: Engine, ids: np.ndarray) -> np.ndarray:
    """float32 [n, V], in one feed."""
    return model.session(len(ids)).feed(ids, rows="all")


def greedy(model: Engine, ids: list[int], tokens: int) -> list[int]:
    """The most likely token, `tokens` times."""
    session = model.session(len(ids) + tokens)
    logits, out = session.feed(ids), []
    for _ in range(tokens):
        out.append(int(logits.argmax()))
        logits = session.feed(out[-1:])
    return out


def gap(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference over the largest magnitude of `b`."""
    return float(np.abs(a - b).max() / np.abs(b).max())
