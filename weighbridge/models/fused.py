"""Which logical weights readers put into one: they share a scale where a format has one for the tensor.

Source: vLLM 0.33 and SGLang 0.5.23 `packed_modules_mapping`; llm-compressor 0.14 makes the same groups for NVFP4's global scale.
"""

from __future__ import annotations

FUSED: tuple[frozenset[str], ...] = (
    frozenset({"q", "k", "v"}), frozenset({"gate", "up"}), frozenset({"q_a", "kv_a"}),  # logical names
    frozenset({"q_proj", "k_proj", "v_proj"}), frozenset({"gate_proj", "up_proj"}), frozenset({"w1", "w3"}),  # names of families that are not known
)


def partners(name: str) -> tuple[str, ...]:
    """The names of a logical weight and of all that would be joined with it."""
    prefix, dot, last = name.rpartition(".")
    group = next((g for g in FUSED if last in g), frozenset({last}))
    return tuple(sorted(prefix + dot + word for word in group))
