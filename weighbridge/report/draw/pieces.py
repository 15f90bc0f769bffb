"""The pieces of an architecture picture: cards for weights, frames around them, and the lines between.

A piece knows its width when it is made and its height from its content, so that nothing overlaps; `draw(x, y)` gives its elements. `ins` and
`outs` are the heights at which lines reach and leave it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any

from weighbridge.report import palette, svg
from weighbridge.report.draw.words import fit, line, width, wrapped
from weighbridge.report.units import count, size

Node = dict[str, Any]
LINE, GUTTER, PAD = 14.5, 30.0, 12.0
PACKED = frozenset({"U8", "I8", "U32", "I32", "I16", "I64"})
SHORT = {"F8_E4M3": "F8", "F8_E5M2": "F8 E5M2", "F8_E8M0": "E8M0"}


def leaves(node: Node, above: str = "") -> Iterator[tuple[Node, str]]:
    """Nodes without children below `node`, with their names from here."""
    waiting = [(node, above)]
    while waiting:
        one, name = waiting.pop()
        if not one["children"]:
            yield one, name or one["name"]
        waiting += [(child, f"{name}.{child['name']}" if name else child["name"]) for child in reversed(one["children"])]


def parameters(number: int) -> str:
    """`228.69 B`, `614.6 M`: parameters as people say them."""
    for step, word in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= step:
            return f"{number / step:.2f} {word}" if number >= 1e9 else f"{number / step:.1f} {word}"
    return str(number)


def short_encoding(encoding: dict[str, Any] | None) -> str:
    """`F8 128x128, F32 scale`: the encoding in the width of a card."""
    if not encoding:
        return "mixed encodings"
    dtype = SHORT.get(encoding["dtype"], encoding["dtype"])
    if dtype in PACKED:
        dtype = palette.KINDS[encoding["kind"]][0] if encoding["kind"] in ("fp4", "int4", "int8") else dtype
    if not encoding["block"] and not encoding["scale_dtype"]:
        return str(encoding["text"]) if encoding["strategy"] != "none" else dtype
    grid = "x".join(map(str, encoding["block"])) if encoding["block"] else {"channel": "per channel", "tensor": "one"}.get(encoding["strategy"], encoding["strategy"])
    scale = SHORT.get(encoding["scale_dtype"], encoding["scale_dtype"])
    return f"{dtype} {grid}" + (f", {scale} scale" if scale else "")


def kind(node: Node) -> str:
    return str(node["encoding"]["kind"]) if node["encoding"] else "plain"


def shape_text(shape: Sequence[int] | None) -> str:
    return " × ".join(f"{n:,}" for n in shape) if shape else "one value"


def facts(node: Node) -> str:
    """Everything that the document says of a node, for its title."""
    out = [str(node.get("path") or node["name"]) + (f" (× {node['count']:,})" if node["count"] > 1 else "")]
    if node["shape"] is not None:
        out.append(f"shape [{', '.join(map(str, node['shape']))}]" + (f", axes [{', '.join(node['axes'])}]" if node["axes"] else ""))
    if node["encoding"]:
        out.append(node["encoding"]["text"])
    out.append(f"{count(node['parameters'], 'parameter')}, {size(node['bytes'])} in all")
    held = node.get("rank")
    if held:
        shape = f"[{', '.join(map(str, held['shape']))}], " if held["shape"] is not None else ""
        out.append(f"one rank: {shape}{size(held['bytes'])}" + (f", {held['how']}" if held["how"] else ""))
    if node.get("problem"):
        out.append(f"problem: {node['problem']}")
    return "; ".join(out)


class Piece:
    """What has a place in the picture."""

    width: float = 0
    height: float = 0

    def draw(self, x: float, y: float) -> list[str]:
        raise NotImplementedError

    def ins(self, y: float) -> list[float]:
        return [y + self.height / 2]

    def outs(self, y: float) -> list[float]:
        return self.ins(y)


class Card(Piece):
    """One weight: name, bytes, axes with sizes, encoding; with a rank, its share. A bar tells the parameters against `largest`."""

    def __init__(self, node: Node, wide: float, largest: int) -> None:
        self.node, self.width, self.inner = node, wide, wide - 20
        held = node.get("rank")
        self.bytes = size(held["bytes"] if held else node["bytes"])
        self.share = min(1.0, prod(node["shape"] or [1]) / max(1, largest))
        self.lines = self._shapes()
        self.coded = len(self.lines)
        self.lines.append(short_encoding(node["encoding"]))
        if held and held["shape"] is not None:
            self.lines.append(f"one rank: {shape_text(held['shape'])}")
        if held and held["how"]:
            self.lines += wrapped(held["how"], self.inner, "small", most=2)
        self.height = 22 + LINE * len(self.lines) + 13

    def _shapes(self) -> list[str]:
        shape, axes = self.node["shape"], self.node["axes"]
        if not axes or not shape or len(axes) != len(shape):
            return [shape_text(shape)]
        both = " × ".join(f"{axis} {n:,}" for axis, n in zip(axes, shape, strict=True))
        return [both] if width(both, "small") <= self.inner else [shape_text(shape), " × ".join(axes)]

    def draw(self, x: float, y: float) -> list[str]:
        look = kind(self.node)
        ink, top = f"t-{look}", y + 18
        name = self.node["name"] + (f" × {self.node['count']:,}" if self.node["count"] > 1 else "")
        beside = width(self.bytes, "small") + 8
        # The bytes stand beside the name, or beside the encoding where the name needs the whole line.
        row = 0 if width(name, "bold") + beside <= self.inner or width(self.lines[self.coded], "small") + beside > self.inner else self.coded + 1
        out = [svg.rect(x, y, self.width, self.height, f"e-{look}", round=6, title=facts(self.node)),
               line(x + 10, top, name, self.inner - (0 if row else beside), f"bold {ink}"),
               svg.text(x + self.width - 10, top + LINE * row, self.bytes, f"small end {ink}")]
        out += [line(x + 10, top + LINE * place, words, self.inner - (beside if place == row else 0), f"small {ink}")
                for place, words in enumerate(self.lines, 1)]
        bar = y + self.height - 9
        out += [svg.rect(x + 10, bar, self.inner, 3, f"{ink} faint", round=1.5), svg.rect(x + 10, bar, max(2.0, self.inner * self.share), 3, ink, round=1.5)]
        return out + problem(self.node, x, y, self.width, self.height)


class Strip(Piece):
    """A weight in one line: norms, biases, and what the picture does not know."""

    def __init__(self, node: Node, wide: float) -> None:
        self.node, self.width, self.height = node, wide, 23.0

    def draw(self, x: float, y: float) -> list[str]:
        node, look = self.node, kind(self.node)
        held = node.get("rank")
        ink, weight = f"t-{look}", size(held["bytes"] if held else node["bytes"])
        room = self.width - 16 - width(weight, "small") - 10
        name = node["name"] + (f" × {node['count']:,}" if node["count"] > 1 else "")
        name = fit(name, room if width(name, "small bold") <= room else room * 0.7, "small bold")
        after = width(name, "small bold") + 8
        told = next((words for words in self._told() if width(words, "small") <= room - after), "")
        return [svg.rect(x, y, self.width, self.height, f"e-{look}", round=5, title=facts(node)),
                line(x + 8, y + 15.5, name, room, f"small bold {ink}"), *([svg.text(x + 8 + after, y + 15.5, told, f"small {ink}")] if told else []),
                svg.text(x + self.width - 8, y + 15.5, weight, f"small end {ink}"), *problem(node, x, y, self.width, self.height)]

    def _told(self) -> Iterator[str]:
        """What stands behind the name, the longest form first: the colour tells the encoding, too."""
        shape, held = shape_text(self.node["shape"]), self.node.get("rank")
        encoding = short_encoding(self.node["encoding"])
        if held and held["shape"] is not None and held["shape"] != self.node["shape"]:
            yield f"{shape} → {shape_text(held['shape'])}, {encoding}"
            shape = f"→ {shape_text(held['shape'])}"
        yield f"{shape}, {encoding}"
        yield f"{shape}, {encoding.partition(' ')[0].rstrip(',')}"
        yield shape


def problem(node: Node, x: float, y: float, wide: float, high: float) -> list[str]:
    """A red edge and a mark at the corner of what does not fit together."""
    if not node.get("problem"):
        return []
    return [svg.rect(x - 2, y - 2, wide + 4, high + 4, "none s-error thick", round=7, extra=' pointer-events="none"'),
            f'<circle class="error" cx="{svg.number(x + wide)}" cy="{svg.number(y)}" r="8"/>', svg.text(x + wide, y + 4.5, "!", "small bold mid paper")]


class Op(Piece):
    """What is computed, not stored: centred words in a dashed outline, under a drawing of `tall` pixels where there is one."""

    def __init__(self, words: Sequence[str], wide: float, tall: float = 0, drawing: Callable[[float, float], list[str]] | None = None) -> None:
        self.width, self.tall, self.drawing = wide, tall + 8 if tall else 0, drawing
        self.lines = [one for told in words for one in wrapped(told, wide - 24, "small", most=3)]
        self.height = 16 + self.tall + LINE * len(self.lines)

    def draw(self, x: float, y: float) -> list[str]:
        out = [svg.rect(x, y, self.width, self.height, "panel s-quiet thin dash", round=10)]
        if self.drawing:
            out += self.drawing(x, y + 11)
        return out + [line(x + self.width / 2, y + 19 + self.tall + LINE * place, words, self.width - 16, "small mid ink") for place, words in enumerate(self.lines)]


class Stack(Piece):
    """Pieces below each other."""

    def __init__(self, pieces: Sequence[Piece], gap: float = 8) -> None:
        self.pieces, self.gap = pieces, gap
        self.width = max((p.width for p in pieces), default=0)
        self.height = sum(p.height for p in pieces) + gap * max(0, len(pieces) - 1)

    def _places(self, y: float) -> list[tuple[Piece, float]]:
        out = []
        for piece in self.pieces:
            out.append((piece, y))
            y += piece.height + self.gap
        return out

    def draw(self, x: float, y: float) -> list[str]:
        return [element for piece, top in self._places(y) for element in piece.draw(x, top)]

    def ins(self, y: float) -> list[float]:
        return [port for piece, top in self._places(y) if not isinstance(piece, Strip) or len(self.pieces) == 1 for port in piece.ins(top)]

    def outs(self, y: float) -> list[float]:
        return [port for piece, top in self._places(y) if not isinstance(piece, Strip) or len(self.pieces) == 1 for port in piece.outs(top)]


class Row(Piece):
    """Columns from left to right, with lines from each to the next."""

    def __init__(self, columns: Sequence[Piece], gutter: float = GUTTER) -> None:
        self.columns, self.gutter = [c for c in columns if c.height], gutter
        self.width = sum(c.width for c in self.columns) + gutter * max(0, len(self.columns) - 1)
        self.height = max((c.height for c in self.columns), default=0)

    def _top(self, column: Piece, y: float) -> float:
        return y + (self.height - column.height) / 2

    def draw(self, x: float, y: float) -> list[str]:
        out = []
        for place, column in enumerate(self.columns):
            out += column.draw(x, self._top(column, y))
            x += column.width
            if place + 1 < len(self.columns):
                after = self.columns[place + 1]
                out += wires(x, x + self.gutter, column.outs(self._top(column, y)), after.ins(self._top(after, y)))
            x += self.gutter
        return out

    def ins(self, y: float) -> list[float]:
        return self.columns[0].ins(self._top(self.columns[0], y)) if self.columns else []

    def outs(self, y: float) -> list[float]:
        return self.columns[-1].outs(self._top(self.columns[-1], y)) if self.columns else []


class Cells(Piece):
    """Pieces of one width in rows of `across`."""

    def __init__(self, pieces: Sequence[Piece], across: int, gap: float = 8) -> None:
        self.rows = [pieces[start: start + across] for start in range(0, len(pieces), across)]
        self.gap = gap
        self.width = max((p.width for p in pieces), default=0) * across + gap * (across - 1)
        self.height = sum(max(p.height for p in row) for row in self.rows) + gap * max(0, len(self.rows) - 1)

    def draw(self, x: float, y: float) -> list[str]:
        out = []
        for row in self.rows:
            for place, piece in enumerate(row):
                out += piece.draw(x + place * (piece.width + self.gap), y)
            y += max(p.height for p in row) + self.gap
        return out


class Frame(Piece):
    """A part with its name and sums around its content. `sheets` draws it as a pile: many alike."""

    PILE = 5.0

    def __init__(self, title: str, told: str, inner: Piece, wide: float, *, sheets: bool = False, node: Node | None = None, big: bool = False) -> None:
        self.title, self.told, self.inner, self.width, self.sheets, self.node, self.big = title, told, inner, wide, sheets, node, big
        self.pile = 2 * self.PILE if sheets else 0.0
        self.head = 34.0 if big else 29.0
        self.height = self.head + inner.height + PAD + self.pile

    @staticmethod
    def inside(wide: float, sheets: bool = False) -> float:
        """Width that the content of a frame of `wide` pixels has."""
        return wide - 2 * PAD - (2 * Frame.PILE if sheets else 0)

    def draw(self, x: float, y: float) -> list[str]:
        wide, high = self.width - self.pile, self.height - self.pile
        fill = "paper" if self.big else "panel"
        out = [svg.rect(x + self.PILE * back, y + self.PILE * back, wide, high, f"{fill} s-quiet thin", round=10) for back in ((2, 1) if self.sheets else ())]
        title = facts(self.node) if self.node else self.title
        out.append(svg.rect(x, y, wide, high, f"{fill} s-quiet thin", round=10, title=title))
        classes = "head ink" if self.big else "bold ink"
        told = fit(self.told, wide * 0.6, "small")
        indent = PAD + (Sublayer.INDENT if self.big else 0)  # a block's stream runs beside its title
        room = wide - indent - PAD - width(told, "small") - 12
        out.append(line(x + indent, y + (23 if self.big else 19), self.title, room, classes))
        if told:
            out.append(line(x + wide - PAD, y + (22 if self.big else 19), told, wide * 0.6, "small end quiet"))
        return [svg.group([*out, *self.inner.draw(x + PAD, y + self.head)], label=self.title)]

    def ins(self, y: float) -> list[float]:
        return [y + (self.height - self.pile) / 2]


def wires(left: float, right: float, outs: Sequence[float], ins: Sequence[float]) -> list[str]:
    """Lines from each height on the left, by one rail, to an arrow at each on the right."""
    if not outs or not ins:
        return []
    rail = (left + right) / 2
    heights = [*outs, *ins]
    out = [svg.line(left, y, rail, y, "s-quiet wire") for y in outs] + [svg.line(rail, y, right - 5, y, "s-quiet wire") for y in ins]
    if max(heights) - min(heights) > 0.01:
        out.append(svg.line(rail, min(heights), rail, max(heights), "s-quiet wire"))
    return out + [tip(right, y) for y in ins]


def tip(x: float, y: float, classes: str = "quiet") -> str:
    """An arrow's head that ends at x."""
    n = svg.number
    return svg.path(f"M{n(x)} {n(y)}l-7 -4v8z", classes)


class Sublayer(Piece):
    """Norm and body beside the residual stream: what leaves it, and where it is added again."""

    SPINE, INDENT = 16.0, 44.0

    def __init__(self, pieces: Sequence[Piece], wide: float, *, adds: bool) -> None:
        self.inner, self.width, self.adds = Stack(pieces, 10), wide, adds
        self.height = self.inner.height + (26 if adds else 10)

    def draw(self, x: float, y: float) -> list[str]:
        spine, left, top = x + self.SPINE, x + self.INDENT, y + 4
        first = top + (self.inner.pieces[0].height / 2 if len(self.inner.pieces) > 1 else min(30.0, self.inner.height / 2))
        out = [svg.line(spine, y, spine, y + self.height, "s-accent spine"), svg.line(spine, first, left - 5, first, "s-quiet wire"), tip(left, first)]
        out += self.inner.draw(left, top)
        out += [svg.line(left + 20, top + one.height + at, left + 20, top + one.height + at + 10, "s-quiet wire") for one, at in self._joints()]
        if self.adds:
            n, low = svg.number, y + self.height - 11
            bottom = top + self.inner.height
            out += [svg.path(f"M{n(left + 20)} {n(bottom)}V{n(low)}H{n(spine + 13)}", "none s-quiet wire"), tip(spine + 9, low).replace("l-7 -4v8z", "l7 -4v8z"),
                    f'<circle class="paper s-accent thick" cx="{n(spine)}" cy="{n(low)}" r="8"/>',
                    svg.path(f"M{n(spine - 4.5)} {n(low)}h9m-4.5 -4.5v9", "none s-accent thick")]
        return out

    def _joints(self) -> list[tuple[Piece, float]]:
        """Each piece but the last, with its distance from the top: a line leads from it to the next."""
        out, at = [], 0.0
        for piece in self.inner.pieces[:-1]:
            out.append((piece, at))
            at += piece.height + self.inner.gap
        return out
