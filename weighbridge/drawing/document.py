"""The document of `draw` (`weighbridge.draw/1`): the tree, what a token costs, what one rank holds, or the way to another layout."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from weighbridge.check.case import Case
from weighbridge.check.settings import Target
from weighbridge.collector import paused
from weighbridge.drawing import tokens
from weighbridge.drawing.axes import Axes, inventory_of
from weighbridge.drawing.collect import Collected
from weighbridge.drawing.tree import Node, Tree
from weighbridge.errors import WeighbridgeError
from weighbridge.models.architecture import Architecture, architecture

if TYPE_CHECKING:
    from weighbridge.plan.plan import Plan

SCHEMA = "weighbridge.draw/1"
INNER = ("groups", "numeric")  # what only the making of the tree needs


def document(case: Case, target: Target | None = None, plan: Plan | None = None) -> dict[str, Any]:
    """The document of one checkpoint: the keys of the root node, and the facts of the whole (docs/schema.md).

    With `target` each node says what the fullest rank of `case.settings` holds of it; with `plan` the document has the flow of the conversion.
    Parameters and bytes are those of `inspect`: children add up to their parents, and the root has all.
    """
    with paused():
        collected = Collected(case)
        tree = Tree(collected, Axes(inventory_of(case, collected.last), case.survey.neuron))
        root = tree.root(case.checkpoint.model_type or "model")
        facts: dict[str, Any] = {
            "sizes": asdict(case.sizes), "decoder": _decoder(case), "active": tokens.active(root, case), "cache": tokens.cache(case, case.settings),
            "rank": None, "flow": None,
        }
        if target is not None:
            from weighbridge.drawing.rank import rank

            facts["rank"] = rank(case, target, tree, root)
        if plan is not None:
            from weighbridge.drawing.flow import flow

            facts["flow"] = flow(plan)
        _strip(root)
    # The root's own share is the sum in `rank`; the key `rank` of the document holds it with its degrees.
    return {"schema": SCHEMA, "source": case.checkpoint.label, "model_type": case.checkpoint.model_type or None, **root, **facts}


def _strip(root: Node) -> None:
    waiting = [root]
    while waiting:
        node = waiting.pop()
        for key in INNER:
            node.pop(key, None)
        waiting += node["children"]


def _decoder(case: Case) -> dict[str, Any] | None:
    """What the layers compute, where the family's forward pass is known."""
    try:
        known = architecture(case.config)
    except WeighbridgeError:
        return None
    routing = known.routing
    return {
        "norm": "rms", "qk_norm": known.qk_norm, "rope": {"dims": known.rope.dims, "theta": known.rope.theta, "kind": known.rope.kind},
        "score": routing.score if routing else None, "bias": routing.bias if routing else False, "normalize": routing.normalize if routing else False,
        "activation": known.activation, "tied": known.tied, "windows": _windows(known),
    }


def _windows(known: Architecture) -> list[list[int]]:
    """Runs of layers with a window, as [first, last, positions]."""
    runs: list[list[int]] = []
    for layer, window in enumerate(known.window):
        if not window:
            continue
        if runs and runs[-1][1] == layer - 1 and runs[-1][2] == window:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer, window])
    return runs
