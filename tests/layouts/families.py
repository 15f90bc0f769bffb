"""Facts of small models for tests of configurations: which modules there are, and which of them may stay unquantized."""

from __future__ import annotations

from functools import cache
from typing import Any

from weighbridge.formats.scheme import Encoding, filled
from weighbridge.formats.schemes import SCHEMES
from weighbridge.layouts.configs.facts import Facts, Held
from weighbridge.layouts.rows import LayoutRow
from weighbridge.models import inventory

_COMMON = {"hidden_size": 256, "num_attention_heads": 4, "vocab_size": 64, "intermediate_size": 512, "torch_dtype": "bfloat16"}
_HEADS = {"num_key_value_heads": 2, "head_dim": 64}
CONFIGS: dict[str, dict[str, Any]] = {
    "dense": {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 12, **_COMMON, **_HEADS},
    "moe": {"model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "num_hidden_layers": 12, "moe_intermediate_size": 128, "num_experts": 4,
            "num_experts_per_tok": 2, "mlp_only_layers": [1], **_COMMON, **_HEADS},
    "latent": {"model_type": "deepseek_v3", "architectures": ["DeepseekV3ForCausalLM"], "num_hidden_layers": 12, "moe_intermediate_size": 128,
               "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "q_lora_rank": 128, "kv_lora_rank": 128, "qk_nope_head_dim": 64,
               "qk_rope_head_dim": 32, "v_head_dim": 64, "first_k_dense_replace": 2, "num_nextn_predict_layers": 1, **_COMMON},
    "renamed": {"model_type": "minimax_m2", "architectures": ["MiniMaxM2ForCausalLM"], "num_hidden_layers": 12, "num_local_experts": 4, "num_experts_per_tok": 2,
                "rotary_dim": 32, **_COMMON, **_HEADS},
}
# Parts that readers join, so that they are quantized together or not at all.
JOINED = ({"q_proj", "k_proj", "v_proj"}, {"gate_proj", "up_proj"}, {"q_a_proj", "kv_a_proj_with_mqa"})


@cache
def modules(family: str) -> tuple[list[str], dict[str, str]]:
    """(linear modules, other matrices with their roles), draft layers too."""
    found = inventory(CONFIGS[family])
    weights = [*found.weights.values(), *found.optional.values()]
    linear = [w.published.removesuffix(".weight") for w in weights if w.linear]
    return linear, {w.published.removesuffix(".weight"): w.role for w in weights if not w.linear and not w.vector and w.role != "embedding"}


def groups(linear: list[str]) -> list[tuple[str, ...]]:
    """Modules that share a fate: all experts of a layer, the parts of a joined layer, else one alone."""
    found: dict[str, list[str]] = {}
    for module in linear:
        before, at, _ = module.partition(".experts.")
        parent, _, leaf = module.rpartition(".")
        joined = next((n for n, parts in enumerate(JOINED) if leaf in parts), None)
        found.setdefault(before + at if at else module if joined is None else f"{parent}/{joined}", []).append(module)
    return [tuple(group) for group in found.values()]


def encoding(row: LayoutRow, scheme: str = "") -> Encoding:
    return filled(SCHEMES[scheme or row.schemes[0]], row.block or (128, 128), row.group or 128)


def facts(family: str, row: LayoutRow, skipped: frozenset[str] = frozenset(), **more: Any) -> Facts:
    """All linear modules with the layout's usual scheme, but those that are skipped."""
    linear, plain = modules(family)  # cached: not to be changed
    held = (Held(encoding(row), tuple(m for m in linear if m not in skipped)),) if row.schemes else ()
    config = CONFIGS[family] | more.pop("config", {})
    return Facts(config["model_type"], config, row.name, held, {**plain, **dict.fromkeys((m for m in linear if m in skipped), "")},
                 **{"static": row.activations == ("static",), **more})
