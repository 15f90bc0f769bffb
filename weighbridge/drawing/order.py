"""What a node is, and its place among its siblings: the order of the forward pass, by roles and by the words that model files use."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from weighbridge.inspection.roles import ATTENTION, ATTENTION_PARENTS, EMBEDDINGS, FEED_FORWARD, HEADS, SHARED, TOWERS

LAYER_WORDS = frozenset({"layers", "blocks", "h", "resblocks", "layer"})
DRAFT_INPUTS = frozenset({"enorm", "hnorm", "eh_proj"})
PATCHES = ("patch_embed", "pos_emb", "position_embedding", "cls_token", "class_embedding")  # where a vision tower begins
DRAFTS = frozenset({"mtp", "mtp_layers", "draft"})
ATTENTION_ORDER = ("qkv", "qkv_a", "q", "q_a", "q_a_norm", "q_b", "k", "kv", "kv_a", "kv_a_norm", "kv_b", "v", "q_norm", "k_norm", "indexer", "sinks",
                   "other", "o")
FEED_ORDER = ("gate_up", "gate", "up", "down")
_NUMBERED_NORM = re.compile(r"^(?:norm|ln_?|layernorm)_?(\d+)$")

INPUTS, TOWER, DRAFT_IN, LAYERS = 0, 1, 2, 5
INPUT_NORM, ATTEND, POST_NORM, ROUTER, FEED, SHARED_FEED, LAST_NORM = 10, 20, 30, 40, 50, 55, 60
UNKNOWN, FINAL_NORM, HEAD, DRAFT, HELPER = 65, 70, 80, 90, 99


def group_kind(name: str, groups: Collection[str], parent_kind: str, numeric: bool, numeric_child: bool) -> str:
    """Kind of a node with children. `groups` are the first words of the roles below it."""
    word = name.rpartition(".")[2]
    if numeric and parent_kind in ("layers", "experts"):
        return "layer" if parent_kind == "layers" else "expert"
    if word in LAYER_WORDS and numeric_child:
        return "layers"
    parts = set(groups) - {"norms", "biases", "helpers"}
    if word == "experts" or parts == {"experts"}:
        return "experts"
    if word in SHARED or parts == {"shared_experts"}:
        return "shared_experts"
    if word in ATTENTION_PARENTS or parts == {"attention"}:
        return "attention"
    if parts == {"router"}:
        return "router"
    if parts == {"mlp"} or (word in ("mlp", "feed_forward", "ffn") and not parts & {"experts", "router"}):
        return "mlp"
    return "norm" if not parts and "norms" in groups else "part"


def leaf_kind(what: str, role: str) -> str:
    """Kind of a node without children."""
    if what != "weight":
        return "part"
    return {"embedding": "embedding", "norms": "norm", "lm_head": "lm_head", "router": "router"}.get(role.partition(".")[0], "weight")


def arranged(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Siblings in the order of the forward pass; equal ones by name, numbers as numbers."""
    if len(nodes) < 2:
        return nodes
    numbered = sorted({int(m[1]) for n in nodes if (m := _NUMBERED_NORM.match(n["name"]))})
    return sorted(nodes, key=lambda node: (*_place(node, numbered), _natural(node["name"])))


def _place(node: dict[str, Any], numbered: list[int]) -> tuple[int, int]:
    name, kind, role = node["name"], node["kind"], node["role"] or ""
    first, last = name.partition(".")[0], name.removesuffix(".bias").rpartition(".")[2]
    if kind == "part" and role == "helpers":
        return HELPER, 0
    if first in DRAFTS:
        return DRAFT, 0
    if first in TOWERS:
        return TOWER, list(TOWERS).index(first)
    if kind in ("layers", "layer", "expert"):
        return LAYERS, 0
    if first == "patch_embed":
        return INPUTS, 0
    if first in DRAFT_INPUTS:
        return DRAFT_IN, (last == "eh_proj")
    if kind == "attention":
        return ATTEND, 0
    if kind in ("experts", "mlp"):
        return FEED, 0
    if kind == "shared_experts":
        return SHARED_FEED, 0
    if kind == "router" or role == "router.bias":
        return ROUTER, role == "router.bias"
    return _of_leaf(name, last, first, kind, role, numbered) if not node["children"] else _of_group(node)


def _of_group(node: dict[str, Any]) -> tuple[int, int]:
    """A part whose name says nothing: where its first child stands, so a block with router and experts comes behind attention."""
    inner = [place for child in node["children"] if (place := _place(child, []))[0] < UNKNOWN]
    return min(inner) if inner else (FINAL_NORM if node["kind"] == "norm" else UNKNOWN, 0)


def _of_leaf(name: str, last: str, first: str, kind: str, role: str, numbered: list[int]) -> tuple[int, int]:
    word = name.removesuffix(".bias").partition(".")[0]
    if last in EMBEDDINGS or role == "embedding" or first.startswith(PATCHES):
        return INPUTS, 0
    if kind == "lm_head" or last in HEADS or first == "shared_head":
        return HEAD, 0
    if "norm" in last or _NUMBERED_NORM.match(last):
        return _norm(last, numbered)
    if word in ATTENTION or role.startswith("attention."):
        part = role.partition(".")[2] if role.startswith("attention.") else ATTENTION[word]
        return ATTEND, ATTENTION_ORDER.index(part) if part in ATTENTION_ORDER else ATTENTION_ORDER.index("other")
    words = (FEED_FORWARD.get(w) for w in (last, word, last.removesuffix("_bias")) if not w.startswith("fc"))  # fc1, fc2: by their numbers
    feed = next((w for w in words if w), role.partition(".")[2] if not word.startswith("fc") else "")
    if feed in FEED_ORDER:
        return FEED, FEED_ORDER.index(feed)
    return UNKNOWN, 0


def _norm(last: str, numbered: list[int]) -> tuple[int, int]:
    inner = {"q_norm": "q_norm", "k_norm": "k_norm", "q_a_layernorm": "q_a_norm", "kv_a_layernorm": "kv_a_norm"}.get(last)
    if inner:
        return ATTEND, ATTENTION_ORDER.index(inner)
    if found := _NUMBERED_NORM.match(last):
        place = numbered.index(int(found[1])) if int(found[1]) in numbered else 0
        return ((INPUT_NORM, POST_NORM, LAST_NORM)[min(place, 2)], place)
    if last.startswith(("input_", "attn_norm", "attention_norm", "pre_attention", "operator_norm")):
        return INPUT_NORM, 0
    if last.startswith(("post_feedforward", "post_mlp", "post_ffn")):
        return LAST_NORM, 0
    if last.startswith(("post_", "pre_", "ffn_norm", "mlp_norm", "mlp_layernorm")):
        return POST_NORM, int(last.startswith("pre_"))
    return FINAL_NORM, 0


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Layer 2 before layer 10, `q_proj` before `q_proj.bias`."""
    words = (word for word in re.split(r"(\d+)|[.,-]", name) if word)
    return [(0, int(word), "") if word.isascii() and word.isdigit() and len(word) < 10 else (1, 0, word) for word in words]
