"""Pictures of a scheme and of an element: how codes share a word, bit by bit, and all values on a number line."""

from __future__ import annotations

from typing import Any

from weighbridge.report import svg
from weighbridge.report.explain import axes
from weighbridge.report.explain.format_text import amount
from weighbridge.report.explain.tensor_words import place_words, short

WIDTH, LEFT, RIGHT = 760, 30, 730
KINDS = ("fp8", "bf16", "f32", "int8", "int4", "fp4")  # colours that tell neighbours apart
ROW = 32  # bits in one line of a picture


def picture(d: dict[str, Any], *, inside_page: bool = False) -> str:
    """The SVG of a scheme or of an element. The same document gives the same bytes."""
    body: list[str] = [] if inside_page else [svg.text(LEFT, 26, d["what"], "head ink"), svg.text(LEFT, 46, d["says"][:1].upper() + d["says"][1:], "quiet")]
    top = 8.0 if inside_page else 66.0
    if d["kind"] == "element":
        drawn, bottom = _values(d, top)
        says = f"{d['values']} values from {amount(d['min'])} to {amount(d['max'])}."
    else:
        drawn, bottom = _scheme(d, top)
        says = f"{d['formula']}. {d['bits_per_value']:.6g} bits for each value."
    return svg.picture(WIDTH, bottom, f"{d['what']}: {d['says']}", [*body, *drawn], says=says, inside_page=inside_page, name="scheme-" + d["what"].replace("+", "p"))


def _scheme(d: dict[str, Any], y: float) -> tuple[list[str], float]:
    body = [svg.text(LEFT, y + 14, d["formula"], "ink mono")]
    y += 34
    for packing in d["packings"]:
        drawn, y = _unit(packing, y)
        body += drawn
    drawn, y = _worked(d, y)
    return [*body, *drawn], y


def _unit(p: dict[str, Any], y: float) -> tuple[list[str], float]:
    """One unit, each bit a cell: the highest bit is left, the colour and the number are the value's."""
    owner = {(part["word"], bit): value for value, parts in enumerate(p["places"]) for part in parts for bit in range(part["bits"][0], part["bits"][1] + 1)}
    word, per = p["word"], min(p["word"], ROW)
    cell = min(24.0, (RIGHT - LEFT - 90) / per)
    named = p["suffix"].lstrip("._") or "the tensor"
    what = "a byte" if word == 8 else "a word"
    shared = f"{p['words']} words" if p["words"] > 1 else what
    body = [svg.text(LEFT, y + 12, f"{named}: {p['values']} codes of {p['width']} bits in {shared}, along the {p['axis']}", "bold ink")]
    y += 24
    for number in range(p["words"]):
        body.append(svg.text(LEFT, y + 30, f"{'byte' if word == 8 else 'word'} {number}" if p["words"] > 1 else what, "small quiet"))
        run, start = None, 0
        for place, bit in enumerate(range(word - 1, -1, -1)):
            value = owner.get((number, bit), -1)
            x = LEFT + 80 + place * cell
            kind = KINDS[value % len(KINDS)] if value >= 0 else ""
            title = f"bit {bit}: value {value}" if value >= 0 else f"bit {bit}: unused"
            body.append(svg.rect(x, y + 14, cell - 1.5, 22, f"e-{kind}" if kind else "panel s-line", title=title))
            if word <= 8 or bit % 4 == 3 or bit == 0:
                body.append(svg.text(x + cell / 2, y + 10, bit, "small quiet mid"))
            if run is not None and value != run:
                body.append(_name(run, LEFT + 80 + start * cell, place - start, cell, y))
                start = place
            run = value
        body.append(_name(run if run is not None else -1, LEFT + 80 + start * cell, word - start, cell, y))
        y += 60
    return body, y + 8


def _name(value: int, x: float, bits: int, cell: float, y: float) -> str:
    """The number of a value below the middle of its bits."""
    return svg.text(x + bits * cell / 2, y + 51, f"v{value}" if value >= 0 else "-", "small ink mid") if bits * cell > 14 else ""


def _worked(d: dict[str, Any], y: float) -> tuple[list[str], float]:
    """A few weights of the example."""
    e = d["example"]
    body = [svg.text(LEFT, y + 12, f"Worked by hand: the scale is {short(e['scale'], 6)}" + (f", the zero point {e['zero']:g}" if e["zero"] is not None else ""), "bold ink")]
    y += 24
    for w in e["weights"]:
        own = w["stored"]
        value = f"{own['value']:.6g}" if own["zero"] is None else f"({own['value']:.6g} - {own['zero']:g})"
        body.append(svg.text(LEFT, y + 14, f"[{w['row']}, {w['column']}]", "quiet mono"))
        body.append(svg.text(LEFT + 80, y + 14, f"{own['code']} = {' '.join(own['bits'])}", "ink mono"))
        body.append(svg.text(LEFT + 240, y + 14, f"{value} x {short(own['scale'], 5)} = {short(own['weight'], 6)}", "ink mono"))
        y += 20
        if w["place"]:
            body.append(svg.text(LEFT + 80, y + 12, place_words(w["place"]), "small quiet"))
            y += 18
    return body, y + 14


def _values(d: dict[str, Any], y: float) -> tuple[list[str], float]:
    """All values on an even axis."""
    values = sorted({c["value"] for c in d["codes"] if c["value"] is not None}) or [-d["max"], 0.0, d["max"]]
    place = axes.even(LEFT + 10, RIGHT - 10, values[0], values[-1])
    body = [svg.text(LEFT, y + 12, f"{d['bits']} bits, {d['values']} values" if d["codes"] else f"{d['bits']} bits", "bold ink"),
            svg.line(LEFT + 10, y + 60, RIGHT - 10, y + 60, "s-quiet thin")]
    if d["codes"]:
        body.append(axes.ticks(values, place, y + 60, 28, "s-accent thin"))
    labels = [(values[0], amount(values[0])), *([(0.0, "0")] if values[0] < 0 < values[-1] else []), (values[-1], amount(values[-1]))]
    body.append(axes.labelled([(place(value), label) for value, label in labels], y + 60, room=(0.0, WIDTH)))
    return body, y + 96
