"""From the tree to pieces: a decoder layer as it computes, and anything else as boxes in boxes. Every leaf becomes a card or a strip."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

from weighbridge.report import svg
from weighbridge.report.draw.pieces import GUTTER, Card, Cells, Frame, Node, Op, Piece, Row, Stack, Strip, Sublayer, leaves, parameters, size

FIRST = ("q", "k", "v", "qkv", "kv", "qkv_a")
LATENT = (("q_a", "q_b"), ("kv_a", "kv_b"))
EXPERTS = ("router", "experts", "shared_experts")
NARROW, DEEP, MOST = 240.0, 7, 300  # a frame narrower or deeper than this is drawn flat; leaves that a flat list shows


def role(node: Node) -> str:
    """The last word of a role: `q` of attention.q."""
    return (node["role"] or "").rpartition(".")[2]


def told(node: Node) -> str:
    """Parameters and bytes of a frame; with a rank, what it holds of it."""
    held = node.get("rank")
    if held:
        return f"one rank: {size(held['bytes'])}" + (f", {held['how']}" if held["how"] else "")
    return f"{parameters(node['parameters'])} parameters · {size(node['bytes'])}"


class Builder:
    """Pieces for the nodes of one document."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document, self.sizes = document, document.get("sizes") or {}
        self.decoder, self.rank = document.get("decoder"), document.get("rank")
        self.largest = 1
        # Faults that begin with a role mark its weights.
        self.faults = {fault.partition(" ")[0]: fault for fault in reversed((self.rank or {}).get("faults") or ())}

    def layer(self, node: Node, wide: float, *, adds: bool = True) -> Frame:
        """One group of alike layers as a framed block."""
        self.largest = max([prod(leaf["shape"] or [1]) for leaf, _ in leaves(node)], default=1)
        sheets = node["count"] > 1
        inside = Frame.inside(wide, sheets)
        body = inside - Sublayer.INDENT
        pieces: list[Piece] = []
        norms: list[Node] = []
        for child in self._grouped(node["children"]):
            if child["kind"] == "norm" and not child["children"]:
                norms.append(child)
                continue
            known = adds and self._known(child)
            pieces.append(Sublayer([*self._strips(norms, body), self.part(child, body)], inside, adds=known))
            norms = []
        if norms or not pieces:
            pieces.append(Sublayer(self._strips(norms, body) or [self._cells([node], body)], inside, adds=False))
        many = f" × {node['count']:,}" if sheets else ""
        words = [told(node)] + ([f"{size(node['bytes'] // node['count'])} each"] if sheets and not node.get("rank") else []) + self._window(node)
        return Frame(f"layer{'s' if sheets else ''} {node['name']}{many}", " · ".join(words), Stack(pieces, 0), wide, sheets=sheets, node=node, big=True)

    def _known(self, node: Node) -> bool:
        return node["kind"] in ("attention", "mlp", *EXPERTS) or any(child["kind"] in EXPERTS for child in node["children"])

    @staticmethod
    def _grouped(children: list[Node]) -> Iterator[Node]:
        """Children of a layer; router and experts that lie there side by side as one part."""
        pending: list[Node] = []
        for child in children:
            if child["kind"] in EXPERTS:
                pending.append(child)
                continue
            if pending:
                yield together(pending)
                pending = []
            yield child
        if pending:
            yield together(pending)

    def _window(self, node: Node) -> list[str]:
        """Layers of this group that see a window alone."""
        own, out = numbers(node["name"]), []
        for first, last, window in (self.decoder or {}).get("windows") or ():
            hit = [n for n in own if first <= n <= last]
            if hit:
                out.append(f"window {window:,}" if len(hit) == len(own) else f"window {window:,} in layer" + (f" {hit[0]}" if len(hit) == 1 else f"s {hit[0]}-{hit[-1]}"))
        return out[:2] + ([f"{len(out) - 2} more windows"] if len(out) > 2 else [])

    def part(self, node: Node, wide: float) -> Piece:
        """A child of a layer."""
        if not node["children"]:
            return self._leaf(node, min(wide, 460.0))
        if node["kind"] == "attention" and any((c["role"] or "").startswith("attention.") for c in node["children"]):
            return self._attention(node, wide)
        if node["kind"] == "mlp" and not any(c["children"] for c in node["children"]):
            return Frame(node["name"], told(node), self._feed_forward(node["children"], Frame.inside(wide)), wide, node=node)
        if any(child["kind"] in EXPERTS for child in node["children"]):
            return self._experts_part(node, wide)
        return self.generic(node, wide)

    def _leaf(self, node: Node, wide: float) -> Piece:
        if node["role"] in self.faults and not node["problem"]:
            node = {**node, "problem": self.faults[node["role"]]}
        return Card(node, wide, self.largest) if len(node["shape"] or ()) > 1 else Strip(node, wide)

    def _strips(self, nodes: list[Node], wide: float) -> list[Piece]:
        return [Strip(node, min(wide, 440.0)) for node in nodes]

    def _cells(self, nodes: list[Node], wide: float, across: int = 3) -> Cells:
        each = (wide - 8 * (across - 1)) / across
        return Cells([Strip(node, each) for node in nodes], across)

    # ---- attention

    def _attention(self, node: Node, wide: float) -> Frame:
        inside, left = Frame.inside(wide), list(node["children"])
        latent = any(role(c) in ("q_a", "kv_a") for c in left)
        each = (inside - 3 * GUTTER) / 4 if latent else min(300.0, (inside - 2 * GUTTER) / 3)
        first = self._latent(left, each) if latent else self._column(left, FIRST, each)
        out = self._column(left, ("o",), each)
        inner_norms = [c for c in left if c["kind"] == "norm" and not c["children"]]
        beside = [c for c in left if role(c) == "sinks" and c["kind"] != "norm"]
        for taken in (*inner_norms, *beside):
            left.remove(taken)
        middle = inside - first.width - out.width - 2 * GUTTER if out.height else inside - first.width - GUTTER
        op = Stack([*[Strip(n, middle) for n in (*inner_norms, *beside)], self._heads(middle, self._agree(node["children"]))])
        pieces: list[Piece] = [Row([first, op, out])]
        return Frame(node["name"], told(node), Stack([*pieces, *self._rest(left, inside)], 10), wide, node=node)

    def _column(self, left: list[Node], roles: tuple[str, ...], wide: float) -> Stack:
        """Cards of the weights with these roles, each with its bias below it; they are taken out of `left`."""
        own = sorted((c for c in left if role(c) in roles and not c["children"]), key=lambda c: roles.index(role(c)))
        pieces: list[Piece] = []
        for node in own:
            beside = [c for c in left if not c["children"] and c["kind"] != "norm" and c["name"].startswith(node["name"] + ".") and c is not node]
            pieces += [self._leaf(node, wide), *[Strip(b, wide) for b in beside]]
            for taken in (node, *beside):
                left.remove(taken)
        return Stack(pieces)

    def _latent(self, left: list[Node], each: float) -> Stack:
        """Latent attention: down to a small width, a norm, and up again."""
        rows: list[Piece] = []
        for down, up in LATENT:
            start = self._column(left, (down,), each)
            norms = [c for c in left if c["kind"] == "norm" and c["name"].startswith(f"{down}_")]
            for norm in norms:
                left.remove(norm)
            rest = self._column(left, (up,), each)
            rows.append(Row([start, Stack([*[Strip(n, each) for n in norms], rest])]))
        rest = self._column(left, FIRST, each)
        return Stack([row for row in (*rows, rest) if row.height], 14)

    def _agree(self, children: list[Node]) -> bool:
        """Whether the shapes here have the heads that `sizes` tells: layers with a window may have others."""
        heads, kv, dim = (self.sizes.get(key) or 0 for key in ("heads", "kv_heads", "head_dim"))
        wide = {"q": heads * dim, "q_b": heads * dim, "k": kv * dim, "qkv": heads * dim + kv * (dim + (self.sizes.get("v_head_dim") or dim))}
        return all(wide[role(c)] in (c["shape"] or ()) for c in children if role(c) in wide and len(c["shape"] or ()) > 1)

    def _heads(self, wide: float, agree: bool) -> Op:
        """The step between projections: what is known of it from the config."""
        heads, kv = (self.sizes.get(key) or 0 if agree else 0 for key in ("heads", "kv_heads"))
        words = []
        if heads and kv:
            words.append(f"{heads:,} heads over {kv:,} kv heads" if heads != kv else f"{heads:,} heads")
            if self.sizes.get("head_dim"):
                words[-1] += f", {self.sizes['head_dim']} wide"
        if self.decoder:
            rope = self.decoder["rope"]
            words.append(f"rope on {rope['dims']} of {self.sizes.get('head_dim') or rope['dims']} dims, theta {rope['theta']:,.0f}"
                         + (f", {rope['kind']}" if rope["kind"] != "default" else ""))
            words += {"whole": ["q and k normed over all heads at once"], "head": ["q and k normed in each head"]}.get(self.decoder["qk_norm"], [])
        if self.sizes.get("kv_lora"):
            words.append(f"latent cache: {self.sizes['kv_lora']:,}" + (f" + {self.sizes['rope_dim']}" if self.sizes.get("rope_dim") else "") + " values")
        tall, drawing = head_grid(heads, kv, wide)
        return Op(["softmax(q kᵀ) v", *words], wide, tall, drawing)

    # ---- feed-forward and experts

    def _feed_forward(self, children: list[Node], wide: float, expert: bool = False) -> Stack:
        """gate and up, the activation, down; what else is there below."""
        left = list(children)
        inner = 0.0 if expert else 200.0
        each = min(400.0, (wide - GUTTER * (1 if expert else 2) - inner) / 2)
        first, last = self._column(left, ("gate", "up", "gate_up"), each), self._column(left, ("down",), each)
        if not first.height and not last.height:
            return Stack([self._flat(left, wide)])
        name = {"silu": "SiLU", "gelu": "GELU"}.get((self.decoder or {}).get("activation", ""), "activation")
        middle = [] if expert or not first.height else [Op([f"{name}(gate) × up"], wide - first.width - last.width - 2 * GUTTER)]
        return Stack([Row([first, *middle, last]), *self._rest(left, wide)], 10)

    def _experts_part(self, node: Node, wide: float) -> Frame:
        inside = Frame.inside(wide)
        side = 228.0
        routers = [c for c in node["children"] if c["kind"] == "router"]
        experts = [c for c in node["children"] if c["kind"] in ("experts", "shared_experts")]
        rest = [c for c in node["children"] if c not in routers and c not in experts]
        routed = any(c["kind"] == "experts" for c in experts)
        columns: list[Piece] = [Stack([self._leaf(c, side) if not c["children"] else self.generic(c, side) for c in routers])]
        if routed:
            columns.append(self._choice(side))
        used = sum(c.width for c in columns if c.height) + GUTTER * sum(1 for c in columns if c.height)
        room = inside - used
        columns.append(Stack([self._experts(c, room) for c in experts], 12))
        pieces: list[Piece] = [Row(columns), *self._rest(rest, inside)]
        return Frame(node["name"], told(node), Stack(pieces, 10), wide, node=node if node.get("path") or node["kind"] != "together" else None)

    def _choice(self, wide: float) -> Op:
        """The experts as a grid, with those that a token uses, or those that a rank holds, filled."""
        experts, top = self.sizes.get("experts") or 0, self.sizes.get("top_k") or 0
        words = [f"{top:,} of {experts:,} experts for each token"] if experts and top else []
        held = 0
        if self.rank and experts:
            held = -(-experts // max(1, self.rank.get("moe_ep") or 1))
            words.append(f"one rank holds {held:,}" if held < experts else f"each is cut {self.rank['moe_tp']} ways" if (self.rank.get("moe_tp") or 1) > 1
                         else "every rank holds all")
        if self.decoder and self.decoder.get("score"):
            words.append(self.decoder["score"] + (" + bias for the choice" if self.decoder["bias"] else "")
                         + (", weights sum to 1" if self.decoder["normalize"] else ""))
        tall, drawing = expert_grid(experts, held or top, wide, run=bool(held))
        return Op(words or ["router"], wide, tall, drawing)

    def _experts(self, node: Node, wide: float) -> Piece:
        """Routed experts as a pile, shared ones as a frame."""
        shared, numbered = node["kind"] == "shared_experts", [c for c in node["children"] if c["kind"] == "expert" and c["children"]]
        others = [c for c in node["children"] if c not in numbered]
        pieces: list[Piece] = []
        for one in numbered:
            pile = one["count"] > 1
            inside = Frame.inside(wide, pile)
            named = f"expert{'s' if pile else ''} {one['name']}" + (f" × {one['count']:,}" if pile else "")
            pieces.append(Frame(named, told(one), self._feed_forward(one["children"], inside, True), wide, sheets=pile, node=one))
        if others and not node["children"][0]["children"] or not node["children"]:
            stacked = others[0]["shape"][0] if others and len(others[0]["shape"] or ()) > 2 else 0
            inside = Frame.inside(wide, bool(stacked))
            name = node["name"] + (f" × {stacked:,}, stacked" if stacked else "") + (" (every token)" if shared else "")
            pieces.append(Frame(name, told(node), self._feed_forward(others or [node], inside, True), wide, sheets=bool(stacked), node=node))
        elif others:
            pieces += [self.generic(c, wide) for c in others]
        return Stack(pieces, 12)

    # ---- anything else

    def _rest(self, left: list[Node], wide: float) -> list[Piece]:
        """What the drawing of a known part has no place for."""
        flat = [c for c in left if not c["children"]]
        out: list[Piece] = [self._cells(flat, wide, max(1, min(3, int(wide // 290))))] if flat else []
        return out + [self.generic(c, wide) for c in left if c["children"]]

    def generic(self, node: Node, wide: float, depth: int = 0) -> Piece:
        """Boxes in boxes, in the order of the tree."""
        if not node["children"]:
            return Strip(node, min(wide, 440.0))
        sheets = node["count"] > 1
        inside = Frame.inside(wide, sheets)
        many = f" × {node['count']:,}" if sheets else ""
        if depth >= DEEP or inside < NARROW:
            return Frame(node["name"] + many, told(node), self._flat([node], inside), wide, sheets=sheets, node=node)
        pieces: list[Piece] = []
        run: list[Node] = []
        for child in (*node["children"], None):
            if child is not None and not child["children"]:
                run.append(child)
                continue
            if run:
                pieces.append(self._flat(run, inside))
                run = []
            if child is not None:
                pieces.append(self.generic(child, inside, depth + 1))
        return Frame(node["name"] + many, told(node), Stack(pieces), wide, sheets=sheets, node=node)

    def _flat(self, nodes: list[Node], wide: float) -> Piece:
        """All leaves below `nodes` as strips; a list without end is counted."""
        found = [(leaf, name if leaf is not node else leaf["name"]) for node in nodes for leaf, name in leaves(node)]
        across = max(1, min(3, int(wide // 300)))
        each = (wide - 8 * (across - 1)) / across
        strips: list[Piece] = [Strip({**leaf, "name": name}, each) for leaf, name in found[:MOST]]
        if len(found) > MOST:
            more = found[MOST:]
            words = f"and {len(more):,} more parts, {size(sum(leaf['bytes'] for leaf, _ in more))}: the tree lists them all"
            return Stack([Cells(strips, across), Op([words], wide)])
        return Cells(strips, across)


def together(children: list[Node]) -> Node:
    """A part that the files do not name."""
    held = [c["rank"] for c in children if c.get("rank")]
    return {"name": "router and experts", "kind": "together", "path": None, "role": None, "axes": None, "shape": None, "encoding": None, "count": 1,
            "parameters": sum(c["parameters"] for c in children), "bytes": sum(c["bytes"] for c in children), "problem": None,
            "rank": {"shape": None, "bytes": sum(h["bytes"] for h in held), "how": None} if held else None, "children": children}


def numbers(name: str) -> list[int]:
    """`0,2,4-61` as numbers; nothing where the name is no such list."""
    out: list[int] = []
    for word in name.split(","):
        first, _, last = word.partition("-")
        if not (first.isascii() and first.isdigit() and (not last or (last.isascii() and last.isdigit()))) or len(word) > 20:
            return []
        if int(last or first) - int(first) > 1 << 16:
            return []
        out += range(int(first), int(last or first) + 1)
    return out


def head_grid(heads: int, kv: int, wide: float) -> tuple[float, Any]:
    """Query heads as squares over the key/value head that they share. (height, drawing); (0, None) where there are too many."""
    if not 0 < kv <= heads <= 256 or heads % kv:
        return 0, None
    each = heads // kv
    pitch, gap = 9.0, 4.0 if each > 1 else 0.0
    across = max(1, min(kv, int((wide - 40 + gap) // (each * pitch + gap))))
    rows = -(-kv // across)
    across = -(-kv // rows)
    if each * pitch > wide - 40:
        return 0, None
    high = 18.0 if each > 1 else 10.0

    def drawing(x: float, y: float) -> list[str]:
        group = each * pitch + gap
        left = x + (wide - across * group + gap) / 2
        out = []
        for number in range(kv):
            at, top = left + number % across * group, y + number // across * high
            out += [svg.rect(at + place * pitch, top, 7, 7, "accent", round=1.5) for place in range(each)]
            if each > 1:
                out.append(svg.rect(at, top + 9, each * pitch - 2, 4, "quiet", round=1.5))
        return out

    return rows * high, drawing


def scattered(many: int, few: int) -> set[int]:
    """`few` of `many` places that look like a choice, the same ones each time: steps of the golden ratio never fall into columns."""
    out: set[int] = set()
    for step in range(1, min(few, many) + 1):
        place = int(many * (step * 0.6180339887 % 1))
        while place in out:
            place = (place + 1) % many
        out.add(place)
    return out


def expert_grid(experts: int, filled: int, wide: float, *, run: bool) -> tuple[float, Any]:
    """One square for each expert; `filled` of them are full, side by side (`run`) or spread. (0, None) where there are too many."""
    if not 0 < experts <= 1024:
        return 0, None
    pitch = 10.0 if experts <= 256 else 7.5
    across = min(experts, int((wide - 32) // pitch), 16 if experts <= 256 else 64)
    rows = -(-experts // across)
    marked = set(range(filled)) if run else scattered(experts, filled)

    def drawing(x: float, y: float) -> list[str]:
        left = x + (wide - across * pitch + 2) / 2
        return [svg.rect(left + number % across * pitch, y + number // across * pitch, pitch - 2.5, pitch - 2.5,
                         "accent" if number in marked else "line", round=1.5) for number in range(experts)]

    return rows * pitch, drawing
