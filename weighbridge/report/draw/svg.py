"""The architecture as a picture: what a token passes from the embedding to the head, each weight in the colour of its encoding.

Layers that are alike are one framed block; the residual stream is the line at its left. With `rank` in the document every box tells what one
rank holds. What is no decoder is drawn as boxes in boxes below.
"""

from __future__ import annotations

from typing import Any

from weighbridge.report import palette
from weighbridge.report import svg as elements
from weighbridge.report.draw import facts as draw_facts
from weighbridge.report.draw.block import Builder
from weighbridge.report.draw.pieces import PAD, Card, Frame, Node, Piece, Stack, Strip, Sublayer, leaves
from weighbridge.report.draw.words import line

WIDE, EDGE = 1180.0, 24.0
INNER = WIDE - 2 * EDGE
SPINE = EDGE + 12.0 + Sublayer.SPINE
READING = ("A bar below a weight: its parameters, against the largest one in its block. A pile: many alike. + adds to the residual stream, the line at the left.")
STYLE = ".wire{stroke-width:1.4}.spine{stroke-width:4}.faint{fill-opacity:.22}.dash{stroke-dasharray:4 3}.pill{stroke-width:1.4}"


def svg(document: dict[str, Any], inside_page: bool = False) -> str:
    """The picture of a document of `draw`. Its height follows the content."""
    build = Builder(document)
    head, y = _head(document)
    body = [*head]
    facts, y = draw_facts.panel(document, EDGE, y, INNER)
    body += facts
    stream, others = _sorted(document["children"])
    elements_of_stream, y = _stream(build, stream, y + 20)
    body += elements_of_stream
    drafts = [child for child in others if child["kind"] == "layer"]
    for words, nodes in (("Draft layers", drafts), ("Other parts", [child for child in others if child["kind"] != "layer"])):
        if nodes:
            body.append(line(EDGE, y + 22, words, INNER, "head ink"))
            pieces = Stack([build.layer(n, INNER, adds=False) if n["kind"] == "layer" else build.generic(n, INNER) for n in nodes], 12)
            body += pieces.draw(EDGE, y + 36)
            y += 36 + pieces.height + 12
    says = f"{document['name']}, drawn from the embedding to the head, {len(document['children'])} parts at the top."
    return elements.picture(WIDE, y + 18, f"{document['name']}: {document['source']}", body, says=says, style=STYLE, inside_page=inside_page, name="draw")


def _head(document: dict[str, Any]) -> tuple[list[str], float]:
    kinds = list(palette.names({leaf["encoding"]["kind"] for leaf, _ in leaves(document) if leaf["encoding"]}))
    room = INNER - 86 * len(kinds) - 16
    return [line(EDGE, 38, document["name"], room, "head ink"), line(EDGE, 58, document["source"], room, "small quiet"),
            elements.legend(WIDE - EDGE - 86 * len(kinds), 32, kinds)], 74.0


def _sorted(children: list[Node], deep: int = 0) -> tuple[list[Node], list[Node]]:
    """What lies on the residual stream, in order, and what does not: draft layers, towers, parts of no known kind."""
    stream: list[Node] = []
    others: list[Node] = []
    for child in children:
        layers = child["children"] if child["kind"] == "layers" and not _is_tower(child) else []
        if deep < 4 and child["kind"] == "part" and any(c["kind"] in ("embedding", "layers") and not _is_tower(c) for c in child["children"]):
            inner = _sorted(child["children"], deep + 1)  # a language model beside its towers
            stream, others = [*stream, *inner[0]], [*others, *inner[1]]
        elif layers and all(c["kind"] == "layer" for c in layers):
            for layer in layers:
                (others if _is_draft(layer) else stream).append(layer)
        elif child["kind"] in ("embedding", "lm_head", "norm") and not child["children"]:
            stream.append(child)
        else:
            others.append(child)
    return stream, others


def _is_tower(node: Node) -> bool:
    return all(leaf["role"] in ("vision", "audio") for leaf, _ in leaves(node))


def _is_draft(node: Node) -> bool:
    return any(leaf["role"] == "mtp" for leaf, _ in leaves(node))


def _stream(build: Builder, nodes: list[Node], y: float) -> tuple[list[str], float]:
    """Tokens, embedding, blocks, norm, head, logits, on one line."""
    if not nodes:
        return [], y
    begins = nodes[0]["kind"] == "embedding"
    out, ends = _pill("tokens", y) if begins else ([elements.line(SPINE, y, SPINE, y + 24, "s-accent spine")], y + 24)
    out.append(line(EDGE + 96, y + 16, READING, INNER - 96, "small quiet"))
    build.largest = max([leaf["parameters"] for node in nodes if not node["children"] for leaf, _ in leaves(node)], default=1)
    for node in nodes:
        piece = _piece(build, node)
        out += [elements.line(SPINE, ends, SPINE, ends + 18, "s-accent spine"), *piece.draw(EDGE, ends + 18)]
        if isinstance(piece, Frame):  # the stream goes on through the frame's head and foot
            top, low = ends + 18, ends + 18 + piece.height - piece.pile
            out += [elements.line(SPINE, top, SPINE, top + piece.head, "s-accent spine"), elements.line(SPINE, low - PAD, SPINE, low, "s-accent spine")]
        if isinstance(piece, Card):
            out.append(_role(node, EDGE + piece.width + 16, ends + 18 + piece.height / 2))
        ends += 18 + piece.height - (piece.pile if isinstance(piece, Frame) else 0)
        if isinstance(piece, Frame) and piece.pile:
            out.append(elements.line(SPINE, ends, SPINE, ends + piece.pile, "s-accent spine"))
            ends += piece.pile
    if nodes[-1]["kind"] in ("lm_head", "norm"):
        pill, after = _pill("logits", ends + 18)
        return [*out, elements.line(SPINE, ends, SPINE, ends + 18, "s-accent spine"), *pill], after + 12
    return out, ends + 12


def _piece(build: Builder, node: Node) -> Piece:
    if node["kind"] == "layer":
        return build.layer(node, INNER)
    if len(node["shape"] or ()) < 2:
        return Strip(node, 440)
    build.largest = max(build.largest, 1)
    return Card(node, 440, node["parameters"])


def _role(node: Node, x: float, y: float) -> str:
    words = {"embedding": "one row for each token", "lm_head": "one value for each word of the vocabulary"}.get(node["kind"], "")
    return line(x, y + 4, words, WIDE - EDGE - x, "small quiet") if words else ""


def _pill(words: str, y: float) -> tuple[list[str], float]:
    return [elements.rect(EDGE, y, 76, 24, "paper s-accent pill", round=12), elements.text(EDGE + 38, y + 16.5, words, "small mid ink")], y + 24

