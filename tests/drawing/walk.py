"""How tests look into the document of `draw`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from weighbridge.check.case import Case
from weighbridge.check.run import targets
from weighbridge.check.settings import Settings
from weighbridge.checkpoint.source import open_checkpoint
from weighbridge.drawing.document import document

CONTRACT = {"name", "kind", "axes", "encoding", "count", "parameters", "bytes", "children"}
NODE = CONTRACT | {"shape", "role", "rank", "problem", "path"}
ENCODING = {"dtype", "strategy", "block", "scale_dtype", "scale_suffix", "kind", "text"}
KINDS = {"model", "embedding", "layers", "layer", "attention", "router", "experts", "expert", "shared_experts", "mlp", "norm", "lm_head", "weight", "part"}


def case(folder: Path, runtime: str = "", **said: Any) -> Case:
    return Case(open_checkpoint(folder), targets([runtime] if runtime else []), Settings(**said))


def drawn(folder: Path, runtime: str = "", **said: Any) -> dict[str, Any]:
    asked = case(folder, runtime, **said)
    return document(asked, asked.targets[0] if asked.targets else None)


def nodes(root: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield root
    for child in root["children"]:
        yield from nodes(child)


def at(root: dict[str, Any], *names: str) -> dict[str, Any]:
    """The node below `root` with these names."""
    for name in names:
        (root,) = (child for child in root["children"] if child["name"] == name)
    return root


def names(node: dict[str, Any]) -> list[str]:
    return [child["name"] for child in node["children"]]


def sound(root: dict[str, Any]) -> None:
    """The contract's keys on every node, and sums that children add up to."""
    for node in nodes(root):
        assert node.keys() >= NODE, node.keys()
        assert node["kind"] in KINDS
        assert node["encoding"] is None or node["encoding"].keys() >= ENCODING
        assert node["axes"] is None or len(node["axes"]) == len(node["shape"])
        assert node["count"] >= 1
        if node["children"]:
            assert node["parameters"] == sum(child["parameters"] for child in node["children"]), node["name"]
            assert node["bytes"] == sum(child["bytes"] for child in node["children"]), node["name"]
            assert node["shape"] is None
