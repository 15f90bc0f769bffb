"""What one token costs: the parameters that it meets, and the values that it leaves in the key/value cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from weighbridge.check import budget
from weighbridge.check.case import Case
from weighbridge.check.cuts import Degrees
from weighbridge.check.settings import Settings
from weighbridge.drawing.order import DRAFTS
from weighbridge.drawing.tree import Node
from weighbridge.inspection.roles import TOWERS

ORDER = ("embedding", "attention", "router", "experts", "shared experts", "dense layers", "norms and the rest", "head", "towers", "draft layers",
         "helpers")


def active(root: Node, case: Case) -> dict[str, Any]:
    """Parameters and stored bytes (scales with them) that one token of text meets.

    `top_k` of the routed experts count, shared experts count whole, and one row of the embedding; a tied embedding is the head too, and
    counts whole. Towers (vision, audio) and draft layers count nothing. Where the config does not say how many experts a token has, all count.
    """
    sizes = case.sizes
    share = (sizes.top_k, sizes.experts) if 0 < sizes.top_k <= sizes.experts else (1, 1)
    tied = sizes.tied and not any(node["role"] == "lm_head" for node, _ in _leaves(root, ()))
    found: dict[str, list[int]] = {}
    for node, above in _leaves(root, ()):
        name, numerator, denominator = _part(node, above, share, sizes.layers, tied)
        sums = found.setdefault(name, [0, 0, 0, 0])
        for place, value in ((0, node["parameters"]), (2, node["bytes"])):
            sums[place] += value
            sums[place + 1] += value * numerator // denominator
    parts = [{"name": name, "parameters": found[name][0], "active": found[name][1], "bytes": found[name][2], "active_bytes": found[name][3]}
             for name in sorted(found, key=ORDER.index)]
    parameters = sum(part["active"] for part in parts)
    return {"parameters": parameters, "bytes": sum(part["active_bytes"] for part in parts),
            "share": parameters / root["parameters"] if root["parameters"] else 0.0, "parts": parts, "says": _says(share, tied, found)}


def _leaves(node: Node, above: tuple[Node, ...]) -> Iterator[tuple[Node, tuple[Node, ...]]]:
    if not node["children"]:
        yield node, above
    for child in node["children"]:
        yield from _leaves(child, (*above, node))


def _part(node: Node, above: tuple[Node, ...], share: tuple[int, int], layers: int, tied: bool) -> tuple[str, int, int]:
    """(part, numerator, denominator): which share of a leaf a token meets."""
    words = {word for n in (*above, node) for word in n["name"].split(".")}
    group = (node["role"] or "").partition(".")[0]
    if words & TOWERS.keys() or group in ("vision", "audio"):
        return "towers", 0, 1
    drafts, all_layers = _drafts(above, layers)
    if words & DRAFTS or drafts == all_layers > 0:
        return "draft layers", 0, 1
    if node["kind"] == "part" and group == "helpers":
        return "helpers", 1, 1
    rest = (all_layers - drafts, all_layers) if drafts else (1, 1)
    if group == "experts" or any(n["kind"] in ("experts", "expert") for n in above):
        return "experts", share[0] * rest[0], share[1] * rest[1]
    if group == "embedding":
        rows = node["shape"][0] if node["shape"] else 1
        return "embedding", rows if tied else 1, rows
    named = {"attention": "attention", "router": "router", "shared_experts": "shared experts", "mlp": "dense layers", "lm_head": "head"}
    return named.get(group, "norms and the rest"), *rest


def _drafts(above: tuple[Node, ...], layers: int) -> tuple[int, int]:
    """How many of the layers that a leaf stands for lie behind the model's own, and how many they are."""
    for node in above:
        if node["kind"] == "layer" and layers:
            numbers = [n for part in node["name"].split(",") for n in _numbers(part)]
            return sum(1 for n in numbers if n >= layers), len(numbers)
    return 0, 0


def _numbers(part: str) -> range:
    first, _, last = part.partition("-")
    return range(int(first), int(last or first) + 1)


def _says(share: tuple[int, int], tied: bool, found: dict[str, list[int]]) -> str:
    words = []
    if "experts" in found:
        words.append(f"{share[0]} of {share[1]} experts" if share != (1, 1) else "all experts: the config does not say how many a token has")
    if "shared experts" in found:
        words.append("shared experts whole")
    if "embedding" in found:
        words.append("the embedding whole, since it is the head too" if tied else "one row of the embedding")
    without = [name for name in ("towers", "draft layers") if name in found]
    return ", ".join(words) + (f"; without {' and '.join(without)}" if without else "")


def cache(case: Case, settings: Settings | None = None) -> dict[str, Any] | None:
    """Key/value cache of one token that every layer still sees, and which layers drop it behind a window. None where the config has no sizes."""
    settings = settings or Settings()
    windows = list(budget.windows(case))
    values = sum(budget.values_of_layer(case, Degrees(), windowed=window > 0) for window in windows)
    if not values:
        return None
    each = budget.value_bytes(settings)
    found: dict[int, int] = {}
    for window in windows:
        if window:
            found[window] = found.get(window, 0) + 1
    return {"values_per_token": values, "bytes_per_token": values * each, "dtype": "BF16" if each == 2 else "F8_E4M3",
            "full_layers": sum(1 for window in windows if not window), "windowed": [[window, found[window]] for window in sorted(found)],
            "context": case.sizes.context, "bytes_at_context": budget.cache_bytes(case, replace(settings, context=0, batch=1, pp=0), Degrees())}
