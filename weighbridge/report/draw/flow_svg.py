"""A whole conversion in one picture: groups of source tensors left, of destination tensors right, and a band for every step between them.

Heights follow the bytes, with a least height so that small groups can be read. What loses something is hatched and has a dashed edge, so
that it differs without colour.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from weighbridge.report import palette
from weighbridge.report import svg as elements
from weighbridge.report.draw.words import line, width
from weighbridge.report.units import count, size

WIDE, EDGE, BOX = 1180, 24, 324
CURVE, LANE = EDGE + BOX, EDGE + BOX + 118  # where bands begin to bend, and where they run straight
RIGHT = WIDE - EDGE - BOX
TOP, GAP, SCALED = 118, 8, 460  # first box; between boxes; pixels that all bytes of the larger side get
LEAST, LOSSY, EXACT = 38, 38, 22  # least height of a box, and of the end of a band at its destination
# step -> (ink, hatch): "sparse" where almost every value is kept, "dense" where all are rounded anew.
LOOK = {
    "copy": ("quiet", ""), "widen": ("good", ""), "double": ("good", ""), "halve": ("accent", "sparse"), "decode": ("warning", "sparse"),
    "round": ("warning", "sparse"), "round-f16": ("warning", "sparse"),
    "round-scales": ("warning", "sparse"), "requantize": ("error", "dense"), "quantize": ("error", "dense"),
    "legacy-448-240": ("error", "dense"), "reciprocal": ("error", "dense"),
}
STYLE = ".band{fill-opacity:.16;stroke-opacity:.75;stroke-width:1.2}.lossy{stroke-dasharray:5 3}.back{fill-opacity:.86}.hatch{stroke:none}"


class _Box(NamedTuple):
    group: dict[str, Any]
    top: float
    height: float


def svg(document: dict[str, Any], inside_page: bool = False) -> str:
    """The picture of document["flow"]. Raises ValueError where the document has none."""
    flow = document.get("flow")
    if not flow:
        raise ValueError("the document has no flow: draw it with a destination layout")
    scale = SCALED / max(1, sum(g["bytes"] for g in flow["source"]), sum(g["bytes"] for g in flow["destination"]))
    right = _destinations(flow, scale)
    left = _sources(flow, scale, _ends(flow, right, "to", "bytes_written", _least))
    bottom = max([box.top + box.height for box in (*left, *right)], default=TOP)
    body = [_defs(flow), *_head(document, flow)]
    body += _bands(flow, left, right)
    body += [_box(box, EDGE) for box in left] + [_box(box, RIGHT) for box in right]
    body += _made(flow, right)
    foot, height = _foot(flow, bottom + 34)
    title = f"{document['source']} to {flow['to']}"
    says = f"{count(len(flow['source']), 'group')} of source tensors, {size(flow['bytes_read'])} read, lead to " \
           f"{count(len(flow['destination']), 'group')}, {size(flow['bytes_written'])} written."
    return elements.picture(WIDE, height, title, [*body, *foot], says=says, style=STYLE, inside_page=inside_page, name="flow")


def _destinations(flow: dict[str, Any], scale: float) -> list[_Box]:
    """Boxes from top to bottom; every band has room for its words."""
    out, top = [], float(TOP)
    for number, group in enumerate(flow["destination"]):
        height = max(LEAST, sum(_least(band) for band in flow["bands"] if band["to"] == number), group["bytes"] * scale)
        out.append(_Box(group, top, height))
        top += height + GAP
    return out


def _sources(flow: dict[str, Any], scale: float, ends: dict[int, tuple[float, float]]) -> list[_Box]:
    """Boxes in their order, each as near as can be to where its bands end, so that bands run straight."""
    out, free = [], float(TOP)
    for number, group in enumerate(flow["source"]):
        own = [ends[place] for place, band in enumerate(flow["bands"]) if band["from"] == number]
        height = max(LEAST, 7.0 * len(own), group["bytes"] * scale)
        wanted = (own[0][0] + own[-1][0] + own[-1][1] - height) / 2 if own else free
        top = max(free, wanted)
        out.append(_Box(group, top, height))
        free = top + height + GAP
    return out


def _least(band: dict[str, Any]) -> float:
    return LOSSY if band["lossy"] else EXACT


def _ends(flow: dict[str, Any], boxes: list[_Box], end: str, share: str, least: Any) -> dict[int, tuple[float, float]]:
    """(top, height) of each band at one side: its share of its box by bytes, and never less than `least`."""
    out: dict[int, tuple[float, float]] = {}
    for number, box in enumerate(boxes):
        own = [place for place, band in enumerate(flow["bands"]) if band[end] == number]
        total = sum(flow["bands"][place][share] for place in own) or 1
        room = box.height - sum(least(flow["bands"][place]) for place in own)
        top = box.top
        for place in own:
            height = least(flow["bands"][place]) + room * flow["bands"][place][share] / total
            out[place] = top, height
            top += height
    return out


def _bands(flow: dict[str, Any], left: list[_Box], right: list[_Box]) -> list[str]:
    sources = _ends(flow, left, "from", "bytes_read", lambda band: 4.0)
    targets = _ends(flow, right, "to", "bytes_written", _least)
    shapes, words = [], []
    for place, band in enumerate(flow["bands"]):
        shapes.append(_band(flow, band, sources[place], targets[place]))
        words.append(_label(band, *targets[place]))
    return shapes + words


def _band(flow: dict[str, Any], band: dict[str, Any], start: tuple[float, float], end: tuple[float, float]) -> str:
    (a, high), (b, tall) = start, end
    n, bend = elements.number, (CURVE + LANE) / 2
    d = (f"M{CURVE} {n(a)}C{n(bend)} {n(a)} {n(bend)} {n(b)} {LANE} {n(b)}H{RIGHT}V{n(b + tall)}H{LANE}"
         f"C{n(bend)} {n(b + tall)} {n(bend)} {n(a + high)} {CURVE} {n(a + high)}Z")
    ink, hatch = LOOK.get(band["step"], ("error" if band["lossy"] else "quiet", "dense" if band["lossy"] else ""))
    source, target = flow["source"][band["from"]], flow["destination"][band["to"]]
    title = (f"{source['name']} ({source['encoding']['text']}) to {target['name']} ({target['encoding']['text']}): {band['step']}, {band['bound']}. "
             f"{band['says']}. {count(band['tensors'], 'tensor')}, {size(band['bytes_read'])} read, {size(band['bytes_written'])} written"
             + (", turned" if band["turned"] else ""))
    drawn = elements.path(d, f"band {ink} s-{ink}{' lossy' if band['lossy'] else ''}", title=title)
    return drawn + (elements.path(d, "hatch", extra=f' fill="url(#flow-{hatch}-{ink})" pointer-events="none"') if hatch and band["lossy"] else "")


def _label(band: dict[str, Any], top: float, height: float) -> str:
    """Step and bound on the straight part of the band, on a pale ground."""
    x, room = LANE + 14.0, RIGHT - LANE - 36.0
    first = band["step"] + (" · turned" if band["turned"] else "")
    if not band["lossy"]:
        return _backed(x, top + height / 2 + 4.5, f"{first} · {band['bound']}", room, "small ink")
    middle = top + height / 2
    return _backed(x, middle - 3.5, f"{first} · {size(band['bytes_written'])}" if height > 60 else first, room, "small bold ink") + \
        _backed(x, middle + 11.5, _bound(band), room, "small ink")


def _bound(band: dict[str, Any]) -> str:
    """The bound, or for halving what it says of codes: its bound is about values that nobody reads there."""
    return band["says"].rpartition("; ")[2] if band["step"] == "halve" else band["bound"].replace("<=", "≤").replace(" * ", " × ")


def _backed(x: float, y: float, words: str, room: float, classes: str) -> str:
    wide = min(room, width(words, classes))
    return elements.rect(x - 4, y - 11, wide + 8, 15, "paper back", round=3, extra=' pointer-events="none"') + line(x, y, words, room, classes)


def _box(box: _Box, x: float) -> str:
    """A group: name and bytes, encoding, and the number of tensors where there is room."""
    group, kind = box.group, box.group["encoding"]["kind"]
    ink, inner = f"t-{kind}", BOX - 20.0
    weight = size(group["bytes"])
    room = inner - width(weight, "small") - 10
    tensors = count(group["tensors"], "tensor") + (f" in {count(group['files'], 'file')}" if group.get("files", 1) > 1 else "")
    title = f"{group['name']}: {group['encoding']['text']}, {tensors}, {size(group['bytes'])}" + (
        f", {size(group['made'])} of them from no weight" if group.get("made") else "")
    lines = 3 if box.height >= 56 else 2
    y = box.top + box.height / 2 - (lines * 16 - 12) / 2 + 8
    body = [elements.rect(x, box.top, BOX, box.height, f"e-{kind}", round=5, title=title),
            line(x + 10, y, _short(group["name"], room, "bold"), room, f"bold {ink}"), elements.text(x + BOX - 10, y, weight, f"small end {ink}"),
            line(x + 10, y + 15, group["encoding"]["text"], inner, f"small {ink}")]
    if lines == 3:
        body.append(line(x + 10, y + 30, tensors, inner, f"small {ink}"))
    return elements.group(body, label=title)


def _short(name: str, room: float, classes: str) -> str:
    """As many of a module's last words as there is room for: what all names of a layer begin with says the least."""
    name = name.removeprefix("model.")
    name = name.removeprefix("layers.*.") or name
    words = name.split(".")
    for start in range(len(words)):
        shown = ("…" if start else "") + ".".join(words[start:])
        if width(shown, classes) <= room:
            return shown
    return words[-1]


def _made(flow: dict[str, Any], right: list[_Box]) -> list[str]:
    """Words beside a destination that no band reaches."""
    reached = {band["to"] for band in flow["bands"]}
    return [elements.text(RIGHT - 14, box.top + box.height / 2 + 4, "made anew, from no weight", "small quiet end")
            for number, box in enumerate(right) if number not in reached]


def _head(document: dict[str, Any], flow: dict[str, Any]) -> list[str]:
    kinds = list(palette.names({g["encoding"]["kind"] for side in ("source", "destination") for g in flow[side]}))
    title = f"{document['source']} → {flow['to']}"
    told = ", ".join(_options(flow))
    return [line(EDGE, 36, title, WIDE - 2 * EDGE, "head ink"), *([line(EDGE, 58, told, 640, "small quiet")] if told else []),
            elements.legend(WIDE - EDGE - 86 * len(kinds), 47, kinds),
            line(EDGE, TOP - 26, document.get("model_type") or "source", BOX - 8, "bold ink"), line(RIGHT, TOP - 26, flow["to"], BOX - 8, "bold ink"),
            line(EDGE, TOP - 10, f"{size(flow['bytes_read'])} read", BOX - 8, "small quiet"),
            line(RIGHT, TOP - 10, f"{size(flow['bytes_written'])} written", BOX - 8, "small quiet")]


def _options(flow: dict[str, Any]) -> list[str]:
    """Options that say something: those that were chosen, and for Neuron the form of attention and the scale rule."""
    options, neuron = flow["options"], str(flow["to"]).startswith("neuron")
    out = [f"{name.replace('_', ' ')} {options[name]}" for name in ("attention", "scale_rule") if neuron and options.get(name)]
    if not neuron and options.get("scale_dtype"):
        out.append(f"scale dtype {options['scale_dtype']}")
    out += [f"{name.replace('_', ' ')} {options[name]}" for name in ("tp", "moe_tp", "moe_ep", "batch", "context") if options.get(name)]
    return out + [f"allowed: {name}" for name in options.get("allow", ())]


def _defs(flow: dict[str, Any]) -> str:
    """Hatches, one for each ink and density that is used."""
    used = sorted({LOOK.get(band["step"], ("error", "dense")) for band in flow["bands"] if band["lossy"]})
    out = []
    for ink, hatch in used:
        step = {"sparse": 14, "dense": 7}.get(hatch)
        if step:
            out.append(f'<pattern id="flow-{hatch}-{ink}" width="{step}" height="{step}" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
                       f'<line class="s-{ink}" x1="0" y1="0" x2="0" y2="{step}" stroke-width="1.6" stroke-opacity=".45"/></pattern>')
    return f"<defs>{''.join(out)}</defs>" if out else ""


def _foot(flow: dict[str, Any], y: float) -> tuple[list[str], float]:
    """What each step does, and what is left out. Returns the height of the whole picture, too."""
    steps = {(b["step"], b["says"], b["bound"]): b for b in flow["bands"]}
    body = []
    for (step, says, bound), band in sorted(steps.items(), key=lambda item: (item[1]["lossy"], item[0])):
        ink, hatch = LOOK.get(step, ("error" if band["lossy"] else "quiet", "dense" if band["lossy"] else ""))
        lossy = " lossy" if band["lossy"] else ""
        body.append(elements.rect(EDGE, y - 11, 40, 14, f"band {ink} s-{ink}{lossy}", round=3))
        if hatch and lossy:
            body.append(elements.rect(EDGE, y - 11, 40, 14, "hatch", round=3, extra=f' fill="url(#flow-{hatch}-{ink})"'))
        body += [line(EDGE + 50, y, step, 110, "bold ink"), line(EDGE + 172, y, f"{says} ({bound})", WIDE - 2 * EDGE - 172, "small quiet")]
        y += 20
    if any(band["turned"] for band in flow["bands"]):
        body.append(line(EDGE + 50, y, "turned", 110, "bold ink") + line(EDGE + 172, y, "stored as [in, out]; the scale grid turns with the weight",
                                                                        WIDE - 2 * EDGE - 172, "small quiet"))
        y += 20
    if flow["dropped"]:
        y += 12
        body.append(elements.text(EDGE, y, "Left out", "bold ink"))
        for row in flow["dropped"][:30]:
            y += 18
            body.append(line(EDGE, y, f"{row['name']} ({count(row['tensors'], 'tensor')}): {row['reason']}", WIDE - 2 * EDGE, "small ink"))
        if len(flow["dropped"]) > 30:
            y += 18
            body.append(elements.text(EDGE, y, f"and {len(flow['dropped']) - 30:,} more", "small quiet"))
        y += 18
    return body, y + 10
