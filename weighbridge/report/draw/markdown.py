"""`draw` as Markdown: a flowchart in Mermaid, which GitHub and others draw, then the tree as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from weighbridge.drawing.order import DRAFTS
from weighbridge.inspection.roles import TOWERS
from weighbridge.report import palette
from weighbridge.report.draw.text import (
    HEAD,
    RANK_HEAD,
    RIGHT,
    Node,
    flow,
    lines,
    many,
    problems,
    rank_sums,
    row,
    short_encoding,
    short_name,
    sums,
    title,
)
from weighbridge.report.markdown import code, escaped, fenced, rows
from weighbridge.report.units import size
from weighbridge.report.visible import visible

HOLDS = ("layers", "router", "experts", "shared_experts")  # what has one of these kinds is drawn as its children


def markdown(document: dict[str, Any]) -> str:
    """Chart, table and sums; with a flow, its bands as a table."""
    first, *rest = title(document).split("\n")
    blocks = [f"## {escaped(first)}", *([escaped(", ".join(rest))] if rest else [])]
    if document["flow"] is not None:
        says, *parts = flow(document["flow"], table, _list)
        return "\n\n".join([*blocks, escaped(says), *parts])
    rank = document["rank"] is not None
    head = ("part", *(RANK_HEAD if rank else HEAD)[1:])
    cells = [("&emsp;" * len(more) + code(text), *map(escaped, row(node, rank))) for node, (text, more) in lines(document)]
    blocks += [fenced(mermaid(document), "mermaid"), rows(head, [name in RIGHT for name in head], cells)]
    told = problems([node for node, _ in lines(document)]) + rank_sums(document) + sums(document)
    return "\n\n".join([*blocks, _list(told)])


def _list(pairs: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"- {f'**{escaped(label)}**: ' if label else ''}{escaped(words)}" for label, words in pairs)


def table(head: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A Markdown table of texts; columns of numbers stand right."""
    return rows(head, [name in RIGHT for name in head], [list(map(escaped, line)) for line in cells])


# The flowchart.

def mermaid(document: dict[str, Any]) -> str:
    """From the embedding to the head; a folded layer is one subgraph, coloured by encoding."""
    chart = _Chart()
    for child in document["children"]:
        chart.draw(child, "  ")
    return "\n".join(["flowchart TB", *chart.lines, *(f"  classDef {kind} fill:{shade.fill},stroke:{shade.edge},color:{shade.text}"
                                                      for kind, (_, shade, _) in palette.KINDS.items() if kind in chart.used)])


class _Chart:
    """Lines of the chart. Nodes follow one another in the order of the forward pass; ids are numbers, never names.

    `before` are the nodes that the next one follows. Shared experts stand beside the routed ones, towers beside the embedding, draft layers
    lead nowhere.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.used: set[str] = set()
        self.before: list[str] = []
        self.fork: list[str] = []  # what stands before the router
        self.ids: Iterator[int] = iter(range(1, 1 << 30))

    def draw(self, node: Node, indent: str) -> None:
        """One node behind the last one; what only holds others (layers, a block with a router) is drawn as these."""
        kept, tower = list(self.before), node["name"].partition(".")[0] in TOWERS
        if node["role"] in ("router.bias", "biases", "helpers"):
            return  # the table has them
        if node["kind"] == "layer":
            self._layer(node, indent)
        elif not tower and (node["kind"] == "layers" or any(c["kind"] in HOLDS for c in node["children"])):
            for child in node["children"]:
                self.draw(child, indent)
        else:
            self._beside(node, indent)
        if node.get("draft") or node["name"].partition(".")[0] in DRAFTS:
            self.before = kept

    def _beside(self, node: Node, indent: str) -> None:
        kept = list(self.before)
        if node["kind"] == "router":
            self.fork = kept
        if node["kind"] == "shared_experts":
            self.before = self.fork or kept
        if node["name"].partition(".")[0] in TOWERS:
            self.before = []
        self._box(node, indent)
        if node["kind"] == "shared_experts" or node["name"].partition(".")[0] in TOWERS:
            self.before = [*kept, *self.before]

    def _layer(self, node: Node, indent: str) -> None:
        own, outside = f"n{next(self.ids)}", list(self.before)
        name = f"{'layers' if node['count'] > 1 else 'layer'} {short_name(node['name'])}" + (" (draft)" if node.get("draft") else "")
        self.lines += [f'{indent}subgraph {own}["{label(f"{name} ({_weight(node)})")}"]', f"{indent}  direction LR"]
        self.before, self.fork = [], []
        for child in node["children"]:
            self.draw(child, indent + "  ")
        self.lines.append(f"{indent}end")
        self._follow(own, outside, indent)

    def _box(self, node: Node, indent: str) -> None:
        own = f"n{next(self.ids)}"
        inner = [child["name"] for child in node["children"] if child["kind"] == "expert"]
        name = " ".join([short_name(node["name"]), *map(short_name, inner[:3])])
        encoding = node["encoding"] or _matrices(node)
        kind = encoding["kind"] if encoding else ""
        self.used.add(kind)
        self.lines.append(f'{indent}{own}["{label(name, short_encoding(encoding), _weight(node))}"]' + (f":::{kind}" if kind else ""))
        self._follow(own, self.before, indent)

    def _follow(self, own: str, before: list[str], indent: str) -> None:
        self.lines += [f"{indent}{one} --> {own}" for one in before]
        self.before = [own]


def _matrices(node: Node) -> dict[str, Any] | None:
    """The encoding that all matrices below a node share, whatever its norms and biases have; None where they differ."""
    found, waiting = [], list(node["children"])
    while waiting:
        child = waiting.pop()
        waiting += child["children"]
        if not child["children"] and child["kind"] not in ("norm", "part") and len(child["shape"]) > 1:
            found.append(child["encoding"])
    return found[0] if found and all(encoding == found[0] for encoding in found) else None


def _weight(node: Node) -> str:
    return f"{many(node['parameters'])}, {size(node['bytes'])}"


def label(*parts: str) -> str:
    """Text for a quoted label, one line for each part. Letters and digits stand as they are, all else as Mermaid's character codes."""
    return "<br/>".join("".join(c if (c.isascii() and c.isalnum()) or c in " _-.,/()" else f"#{ord(c)};" for c in visible(part)[:200])
                        for part in parts if part)
