"""Numbers of the published MiniMax-M2, from its inventory: what pages quote, nobody types."""

from __future__ import annotations

from functools import cache
from typing import Any

# The sizes of the published config.json that pages use; a test holds it against the whole file.
CONFIG: dict[str, Any] = {
    "model_type": "minimax_m2", "hidden_size": 3072, "num_hidden_layers": 62, "num_attention_heads": 48, "num_key_value_heads": 8, "head_dim": 128,
    "intermediate_size": 1536, "num_local_experts": 256, "num_experts_per_tok": 8, "vocab_size": 200064, "tie_word_embeddings": False,
    "shared_intermediate_size": 0, "max_position_embeddings": 196608,
}
BLOCK = (128, 128)  # its quantization_config.weight_block_size


@cache
def totals() -> dict[str, int]:
    """Tensors, parameters and bytes of the whole model and of one layer, as published and as it would be in BF16.

    The router and its bias are float32 in the files, norms, embedding and lm_head BF16, linear layers F8_E4M3 with F32 scales.
    """
    from weighbridge.models.minimax_m2 import inventory

    made = inventory(CONFIG)
    out = dict.fromkeys(("tensors", "scales", "parameters", "scale_values", "bytes", "bytes_bf16", "layer_bytes", "layer_bytes_bf16", "fp8_bytes"), 0)
    for weight in made.weights.values():
        rows, columns = weight.shape
        grid = -(-rows // BLOCK[0]) * -(-columns // BLOCK[1]) if weight.linear else 0
        item = 1 if weight.linear else 4 if weight.role.startswith("router") else 2
        size, plain = rows * columns * item + 4 * grid, rows * columns * 2
        out["tensors"] += 1 + bool(grid)
        out["scales"] += bool(grid)
        out["parameters"] += rows * columns
        out["scale_values"] += grid
        out["fp8_bytes"] += rows * columns if weight.linear else 0
        out["bytes"] += size
        out["bytes_bf16"] += plain
        if weight.name.startswith("layers.0."):
            out["layer_bytes"] += size
            out["layer_bytes_bf16"] += plain
    return out


def whole_cuts(width: int, most: int = 64) -> list[int]:
    """Into how many equal pieces up to `most` an axis can be cut so that each piece has whole blocks."""
    return [ways for ways in range(1, most + 1) if width % ways == 0 and width // ways % BLOCK[0] == 0]
