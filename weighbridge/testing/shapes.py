"""Names, dtypes and shapes of every tensor of a MiniMax-M2 checkpoint, from its sizes.

`tensors(sizes)` yields them in the order in which they are dealt out to shards. Within a layer the gate and up
matrices (w1, w3) of all experts come before the down matrices (w2), so that a layer is spread over shards, as the
published one is.
"""
from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

from .safetensors_writer import DTYPE_BYTES

BLOCK = 128
SCALE = "weight_scale_inv"
SCALE_RANGE = (5e-5, 3e-4)  # amax / 448 of usual weights
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Sizes:
    """Sizes of a model; the defaults are those of MiniMax-M2. `inter` is the width of one expert."""

    layers: int = 62
    hidden: int = 3072
    inter: int = 1536
    heads: int = 48
    kv_heads: int = 8
    head_dim: int = 128
    experts: int = 256
    vocab: int = 200064


@dataclass(frozen=True)
class Spec:
    """One tensor as a header describes it."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return DTYPE_BYTES[self.dtype] * prod(self.shape)

    @property
    def is_scale(self) -> bool:
        return self.name.endswith(SCALE)


def grid(shape: tuple[int, int]) -> tuple[int, int]:
    """Shape of the scales of a matrix: one per 128 x 128 block, and the last block may be ragged."""
    return -(-shape[0] // BLOCK), -(-shape[1] // BLOCK)


def tensors(sizes: Sizes, encoding: str = "fp8", scale_dtype: str = "F32") -> Iterator[Spec]:
    """Every tensor of the checkpoint. `encoding` is "fp8" (blocks of 128 x 128) or "bf16" (no scales)."""
    yield Spec("model.embed_tokens.weight", "BF16", (sizes.vocab, sizes.hidden))
    for layer in range(sizes.layers):
        prefix = f"model.layers.{layer}."
        yield from _attention(prefix, sizes, encoding, scale_dtype)
        yield from _router(prefix + "block_sparse_moe.", sizes)
        for group in (("w1", "w3"), ("w2",)):
            for expert in range(sizes.experts):
                for part in group:
                    name = f"{prefix}block_sparse_moe.experts.{expert}.{part}"
                    shape = (sizes.hidden, sizes.inter) if part == "w2" else (sizes.inter, sizes.hidden)
                    yield from _linear(name, shape, encoding, scale_dtype)
    yield Spec("model.norm.weight", "BF16", (sizes.hidden,))
    yield Spec("lm_head.weight", "BF16", (sizes.vocab, sizes.hidden))


def _attention(prefix: str, sizes: Sizes, encoding: str, scale_dtype: str) -> Iterator[Spec]:
    query, key = sizes.heads * sizes.head_dim, sizes.kv_heads * sizes.head_dim
    yield Spec(prefix + "input_layernorm.weight", "BF16", (sizes.hidden,))
    yield from _linear(prefix + "self_attn.q_proj", (query, sizes.hidden), encoding, scale_dtype)
    yield from _linear(prefix + "self_attn.k_proj", (key, sizes.hidden), encoding, scale_dtype)
    yield from _linear(prefix + "self_attn.v_proj", (key, sizes.hidden), encoding, scale_dtype)
    yield from _linear(prefix + "self_attn.o_proj", (sizes.hidden, query), encoding, scale_dtype)
    # The norms of q and k run over all heads at once, before the split into heads.
    yield Spec(prefix + "self_attn.q_norm.weight", "BF16", (query,))
    yield Spec(prefix + "self_attn.k_norm.weight", "BF16", (key,))
    yield Spec(prefix + "post_attention_layernorm.weight", "BF16", (sizes.hidden,))


def _router(prefix: str, sizes: Sizes) -> Iterator[Spec]:
    yield Spec(prefix + "gate.weight", "F32", (sizes.experts, sizes.hidden))
    yield Spec(prefix + "e_score_correction_bias", "F32", (sizes.experts,))


def _linear(name: str, shape: tuple[int, int], encoding: str, scale_dtype: str) -> Iterator[Spec]:
    if encoding == "bf16":
        yield Spec(name + ".weight", "BF16", shape)
    else:
        yield Spec(name + ".weight", "F8_E4M3", shape)
        yield Spec(f"{name}.{SCALE}", scale_dtype, grid(shape))


def deal(specs: list[Spec], shards: int) -> list[list[Spec]]:
    """Cuts the list into `shards` runs of about equal bytes, none of them empty.

    A run ends with the tensor that fills it, mostly a weight: its scale is then in the next shard.
    """
    if not 1 <= shards <= len(specs):
        raise ValueError(f"cannot deal {len(specs)} tensors into {shards} shards")
    runs, run, filled, left = [], [], 0, sum(spec.nbytes for spec in specs)
    for position, spec in enumerate(specs):
        run.append(spec)
        filled += spec.nbytes
        to_fill, to_come = shards - len(runs), len(specs) - position - 1
        if to_fill > 1 and (filled * to_fill >= left or to_come < to_fill):
            runs.append(run)
            left -= filled
            run, filled = [], 0
    return [*runs, run]


def shard_name(number: int, shards: int) -> str:
    """Counted from 0, and the last number is not the count: the published names are like that."""
    return f"model-{number:05d}-of-{max(130, shards + 5):05d}.safetensors"


def config(sizes: Sizes, encoding: str = "fp8") -> dict:
    """The published config.json, with the sizes that were asked for."""
    values = json.loads((HERE / "minimax_m2_config.json").read_text(encoding="utf-8"))
    values |= {
        "num_hidden_layers": sizes.layers, "attn_type_list": [1] * sizes.layers, "hidden_size": sizes.hidden,
        "intermediate_size": sizes.inter, "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.kv_heads, "head_dim": sizes.head_dim, "rotary_dim": sizes.head_dim // 2,
        "num_local_experts": sizes.experts, "num_experts_per_tok": min(8, sizes.experts), "vocab_size": sizes.vocab,
    }
    if encoding == "bf16":
        del values["quantization_config"]
    return values


def write_side_files(
    out: Path, sizes: Sizes, encoding: str, runs: list[list[Spec]], changes: dict | None = None
) -> None:
    """Writes config.json with `changes`, generation_config.json and the index.

    The index's `total_size` counts data bytes, not headers.
    """
    weight_map = {spec.name: shard_name(number, len(runs)) for number, run in enumerate(runs) for spec in run}
    total = sum(spec.nbytes for run in runs for spec in run)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    settings = config(sizes, encoding) | (changes or {})
    for name, values in (("config.json", settings), ("model.safetensors.index.json", index)):
        (out / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    generation = (HERE / "minimax_m2_generation_config.json").read_bytes()
    (out / "generation_config.json").write_bytes(generation)
