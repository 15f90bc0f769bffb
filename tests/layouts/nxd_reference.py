"""NxD's load, pad and cut in plain numpy: whole tensors are padded, repeated and split, as its loader does.

Nothing here comes from the package. Names, order of operations and sizes are those of docs/neuron.md.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np

FP8, BF16 = ml_dtypes.float8_e4m3fn, ml_dtypes.bfloat16
MOE = "block_sparse_moe."
OPS = MOE + "expert_mlps.mlp_op."


def zero_heads(tensor: np.ndarray, heads: int, groups: int, target: int, axis: int) -> np.ndarray:
    """After each group of real heads come zero heads, so that there are `target` heads along `axis`."""
    if target == heads:
        return tensor
    tensor = np.moveaxis(tensor, axis, 0)
    by_group = np.split(tensor, groups, 0)
    size = tensor.shape[0] // heads * (target - heads) // groups
    padded = [np.concatenate([g, np.zeros((size, *g.shape[1:]), g.dtype)], 0) for g in by_group]
    return np.moveaxis(np.concatenate(padded, 0), 0, axis)


def repeat_heads(tensor: np.ndarray, heads: int, target: int) -> np.ndarray:
    """Every key/value head as often as the ranks need it, in order."""
    by_head = np.split(tensor, heads, 0)
    return np.concatenate([head for head in by_head for _ in range(target // heads)], 0)


def share(tensor: np.ndarray, axis: int, ways: int, index: int, stride: int = 1) -> np.ndarray:
    """Chunk `index` of `ways`; with a stride, that chunk of each section."""
    per = tensor.shape[axis] // ways
    chunks = np.split(tensor, tensor.shape[axis] // (per // stride), axis)
    return np.concatenate(chunks[index::ways], axis)


class Loader:
    """A file-stage folder on its way to `tp` ranks, experts cut `mt` ways by width and `me` ways by number."""

    def __init__(self, files: dict[str, np.ndarray], config: dict, tp: int, mt: int, me: int) -> None:
        self.files, self.tp, self.mt, self.me = files, tp, mt, me
        self.layers, self.experts = config["num_hidden_layers"], config["num_local_experts"]
        self.heads, self.kv = config["num_attention_heads"], config["num_key_value_heads"]
        self.query = -(-self.heads // tp) * tp
        self.keys = tp if self.kv < tp or self.kv % tp else self.kv

    def shard(self, rank: int) -> dict[str, np.ndarray]:
        """The contents of one rank's file."""
        files, tp, number = self.files, self.tp, np.array([rank], np.int32)
        out = {
            "rank_util.rank": number,
            "embed_tokens.weight": share(files["embed_tokens.weight"], 1, tp, rank),
            "norm.weight": files["norm.weight"],
            "lm_head.weight": share(files["lm_head.weight"], 0, tp, rank),
        }
        for layer in range(self.layers):
            prefix = f"layers.{layer}."
            mine = self._norms(prefix) | self._attention(prefix, rank) | self._experts(prefix, rank)
            mine["self_attn.rank_util.rank"] = mine[MOE + "expert_mlps.spmd_rank.rank"] = number
            out |= {prefix + name: value for name, value in mine.items()}
        return out

    def _norms(self, prefix: str) -> dict[str, np.ndarray]:
        files = self.files
        out = {name: files[prefix + name] for name in ("input_layernorm.weight", "post_attention_layernorm.weight")}
        query, key = files[prefix + "self_attn.q_norm.weight"], files[prefix + "self_attn.k_norm.weight"]
        out["self_attn.q_norm.weight"] = zero_heads(query, self.heads, self.kv, self.query, 0)
        out["self_attn.k_norm.weight"] = repeat_heads(key, self.kv, self.keys)
        for name in ("router.linear_router.weight", "router.e_score_correction_bias"):
            out[MOE + name] = files[prefix + MOE + name].astype(BF16)  # cast_type "config" takes the router along
        return out

    def _attention(self, prefix: str, rank: int) -> dict[str, np.ndarray]:
        out = {}
        for leaf in ("weight", "scale"):
            for p in "qkv":
                tensor = self.files.get(f"{prefix}self_attn.{p}_proj.{leaf}")
                if tensor is not None:
                    wide = (zero_heads(tensor, self.heads, self.kv, self.query, 0) if p == "q"
                            else repeat_heads(tensor, self.kv, self.keys))
                    out[f"self_attn.qkv_proj.{p}_proj.{leaf}"] = share(wide, 0, self.tp, rank)
        weight = self.files[prefix + "self_attn.o_proj.weight"]
        padded = zero_heads(weight, self.heads, self.kv, self.query, 1)
        out["self_attn.o_proj.o_proj.weight"] = share(padded, 1, self.tp, rank)
        scale = self.files.get(prefix + "self_attn.o_proj.scale")
        if scale is not None:  # one scale per row is whole on every rank; block scales lie padded in the file
            out["self_attn.o_proj.o_proj.scale"] = scale if scale.shape[1] == 1 else share(scale, 1, self.tp, rank)
        return out

    def _experts(self, prefix: str, rank: int) -> dict[str, np.ndarray]:
        each, width, group = self.experts // self.me, rank % self.mt, rank // self.mt
        own = slice(group * each, (group + 1) * each)
        out = {}
        for leaf in ("weight", "scale"):
            gate_up, down = (self.files[f"{prefix}{OPS}{m}_proj.{leaf}"] for m in ("gate_up", "down"))
            out[f"{OPS}gate_up_proj.{leaf}"] = share(gate_up, 2, self.mt, width, stride=2)[own]
            out[f"{OPS}down_proj.{leaf}"] = share(down, 1, self.mt, width)[own]
        if self.me > 1:
            out[MOE + "expert_mlps.spmd_rank.local_expert_indices"] = np.arange(own.start, own.stop, dtype=np.int32)[None]
        return out


def halved(codes: np.ndarray) -> np.ndarray:
    """e4m3fn codes of half the value; ml_dtypes rounds to nearest even."""
    return (codes.astype(np.float32) / 2).astype(FP8)


def row_quantized(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes and one scale per row, largest magnitude 240."""
    scale = np.abs(values).max(1, keepdims=True) / np.float32(240)
    return np.clip(values / scale, -240, 240).astype(FP8), scale


def file_stage(source: dict[str, np.ndarray], config: dict, attention: str, tp: int) -> dict[str, np.ndarray]:
    """What `--to neuron` must write, made from the published tensors."""
    out = {name.removeprefix("model."): value for name, value in source.items()
           if "_proj" not in name and MOE not in name}
    for layer in range(config["num_hidden_layers"]):
        old, new = f"model.layers.{layer}.", f"layers.{layer}."
        out[f"{new}{MOE}router.linear_router.weight"] = source[old + MOE + "gate.weight"]
        out[f"{new}{MOE}router.e_score_correction_bias"] = source[old + MOE + "e_score_correction_bias"]
        for p in "qkvo":
            name = f"self_attn.{p}_proj."
            made = _projection(source[f"{old}{name}weight"], source[f"{old}{name}weight_scale_inv"], attention, p, config, tp)
            out |= {f"{new}{name}{leaf}": value for leaf, value in made.items()}
        out |= {f"{new}{name}": value for name, value in _experts(source, old, config["num_local_experts"], attention).items()}
    return out


def _projection(codes: np.ndarray, scale: np.ndarray, attention: str, p: str, config: dict, tp: int) -> dict[str, np.ndarray]:
    scale = scale.astype(np.float32)
    per_element = np.repeat(np.repeat(scale, 128, 0), 128, 1)[: codes.shape[0], : codes.shape[1]]
    values = codes.astype(np.float32) * per_element
    if attention == "bf16" or (attention == "published" and p == "o"):
        return {"weight": values.astype(BF16)}
    if attention != "exact" and codes.shape[1] <= 128:  # the row lies in one block: its scale is kept
        return {"weight": halved(codes), "scale": np.repeat(scale * 2, 128, 0)[: codes.shape[0]]}
    if attention != "exact":
        return dict(zip(("weight", "scale"), row_quantized(values), strict=True))
    rows = np.repeat(scale * 2, 128, 0)[: codes.shape[0]]
    if p == "o":
        target = -(-config["num_attention_heads"] // tp) * tp
        rows = zero_heads(rows, config["num_attention_heads"], config["num_key_value_heads"], target, 1)
    return {"weight": halved(codes), "scale": rows}


def _experts(source: dict[str, np.ndarray], old: str, count: int, attention: str) -> dict[str, np.ndarray]:
    def turned(which: str, leaf: str) -> np.ndarray:
        return np.stack([source[f"{old}{MOE}experts.{e}.{which}.{leaf}"].T for e in range(count)])

    out = {}
    for name, members in (("gate_up_proj", ("w1", "w3")), ("down_proj", ("w2",))):
        out[f"{OPS}{name}.weight"] = halved(np.concatenate([turned(m, "weight") for m in members], 2))
        grid = np.concatenate([turned(m, "weight_scale_inv") for m in members], 2).astype(np.float32) * 2
        out[f"{OPS}{name}.scale"] = np.repeat(grid, 128, 1) if attention == "exact" else grid
    return out
