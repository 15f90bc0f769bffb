"""Pictures of number formats: all values as ticks on number lines, how far a format reaches, and one group of a compound format."""

from __future__ import annotations

from math import floor, log2
from typing import Any

from weighbridge.report import svg
from weighbridge.report.explain import axes
from weighbridge.report.explain.format_text import amount, even_labels

WIDTH, LEFT, RIGHT = 760, 30, 730
STYLE = ".dash{stroke-dasharray:4 3}"


def picture(document: dict[str, Any], *, inside_page: bool = False) -> str:
    """The SVG of a small, a wide or a compound format. The same document gives the same bytes."""
    made = {"format": _small, "wide-format": _wide, "container": _container}[document["kind"]](document)
    height, body, says = made
    title = f"{document['what']}: {document['says']}"
    told = document["says"]
    head = [] if inside_page else [svg.text(LEFT, 26, document["what"], "head ink"), svg.text(LEFT, 46, told[:1].upper() + told[1:], "quiet")]
    shift = -44.0 if inside_page else 18.0  # in a page the heading says what it is
    moved = f'<g transform="translate(0 {svg.number(shift)})">{"".join(body)}</g>'
    return svg.picture(WIDTH, height + shift, title, [*head, moved], says=says, style=STYLE, inside_page=inside_page,
                       name="format-" + document["what"])


def _small(d: dict[str, Any]) -> tuple[float, list[str], str]:
    boxes, end = axes.bit_boxes(LEFT, 48, d["fields"], 26)
    counts = d["counts"]
    told = f"{counts['codes']} codes, {counts['values']} values, {counts['infinity_codes']} infinite, {counts['nan_codes']} NaN"
    body = [boxes, svg.text(end + 16, 58, told, "ink"),
            svg.text(end + 16, 78, f"to {amount(d['max'])}; relative error at most {d['relative_error_bound'] * 100:.4g} %", "quiet")]
    even, y = _even(d, 128)
    by_octave, y = _octaves(d, y + 34)
    legend = [svg.line(LEFT + 4, y, LEFT + 4, y + 14, "s-accent thick"), svg.text(LEFT + 14, y + 12, "one value", "small quiet"),
              svg.line(LEFT + 96, y, LEFT + 96, y + 14, "s-warning thick"), svg.text(LEFT + 106, y + 12, "a subnormal value", "small quiet")]
    if d["min_subnormal"] is None:
        legend = legend[:2]
    says = (f"{counts['values']} values up to {amount(d['max'])}. On an even axis they are dense at zero and sparse at the end; "
            f"by octaves they are spread alike. {_end_words(d)}")
    return y + 30, [*body, *even, *by_octave, *legend], says


def _split(d: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Values of normal codes with zero, and of subnormal ones, both signs."""
    normal = [row["value"] for row in d["codes"] if row["kind"] in ("normal", "zero")]
    return normal, [row["value"] for row in d["codes"] if row["kind"] == "subnormal"]


def _end_words(d: dict[str, Any]) -> str:
    end = d["end"]
    after = {"nan": "NaN", "infinity": "infinity"}.get(end["next_is"])
    return f"After {amount(end['largest'])} comes {after} (0x{end['next_code']:02X})" if after else f"After {amount(end['largest'])} no code is left"


def _even(d: dict[str, Any], y: float) -> tuple[list[str], float]:
    """The even axis over both signs, and its middle magnified."""
    normal, subnormal = _split(d)
    top, signed = d["max"], bool(d["fields"]["sign"])
    place = axes.even(LEFT + 10, RIGHT - 10, -top if signed else 0.0, top)
    labels = [(share * top, label) for share, label in even_labels(top)]
    both = axes.mirrored(labels, place) if signed else labels
    body = [svg.text(LEFT, y, "Even axis: dense at zero, sparse at the end", "bold ink"), svg.text(RIGHT, y, _end_words(d), "small quiet end"),
            svg.line(LEFT + 10, y + 42, RIGHT - 10, y + 42, "s-quiet thin"),
            axes.ticks(normal, place, y + 42, 24, "s-accent thin"), axes.ticks(subnormal, place, y + 42, 24, "s-warning thin"),
            axes.labelled([(place(value), label) for value, label in both], y + 42, room=(0.0, WIDTH))]
    near = 4 * d["min_normal"]
    if d["min_subnormal"] is None or near >= top / 4:
        return body, y + 64
    below = y + 126
    lens = axes.even(LEFT + 10, RIGHT - 10, -near, near)
    inner = [(near * share, amount(near * share)) for share in (0.0, 0.25, 0.5, 1.0)]
    tip, foot = svg.number(y + 66), svg.number(below - 30)
    shade = f"M{svg.number(place(-near))} {tip}L{LEFT + 10} {foot}H{RIGHT - 10}L{svg.number(place(near))} {tip}Z"
    told = f"magnified {top / near:,.0f} times: no finer step than {amount(d['min_subnormal'])}"
    body += [svg.path(shade, "panel s-line thin"), svg.text(WIDTH / 2, below - 42, told, "small quiet mid"),
             svg.line(LEFT + 10, below, RIGHT - 10, below, "s-quiet thin"),
             axes.ticks([v for v in normal if abs(v) <= near], lens, below, 22, "s-accent thin"),
             axes.ticks(subnormal, lens, below, 22, "s-warning thin"),
             axes.labelled([(lens(value), label) for value, label in axes.mirrored(inner, lens)], below, room=(0.0, WIDTH))]
    return body, below + 22


def _octaves(d: dict[str, Any], y: float) -> tuple[list[str], float]:
    """The positive values on an axis of octaves; every second octave is shaded."""
    normal, subnormal = ([v for v in side if v > 0] for side in _split(d))
    first, last = floor(log2(min(normal + subnormal))), floor(log2(d["max"])) + 1
    place = axes.octaves(LEFT + 10, RIGHT - 10, first, last)
    wide = last - first
    step = next(size for size in (1, 2, 4, 8, 16, 32) if wide <= 17 * size or size == 32)
    body = [svg.text(LEFT, y, "By octaves (positive values): each doubling is equally wide", "bold ink")]
    if wide <= 48:
        body += [svg.rect(place(2.0**e), y + 14, place(2.0 ** (e + 1)) - place(2.0**e), 32, "panel") for e in range(first, last, 2)]
    if subnormal:
        edge = place(d["min_normal"])
        body += [svg.line(edge, y + 10, edge, y + 46, "s-warning thin dash")]
    body += [svg.line(LEFT + 10, y + 46, RIGHT - 10, y + 46, "s-quiet thin"), axes.ticks(normal, place, y + 46, 24, "s-accent thin"),
             axes.ticks(subnormal, place, y + 46, 24, "s-warning thin"),
             axes.labelled([(place(2.0**e), f"2^{e}") for e in range(first, last + 1) if e % step == 0], y + 46, room=(0.0, WIDTH))]
    return body, y + 84


def _wide(d: dict[str, Any]) -> tuple[float, list[str], str]:
    size = 26 if d["bits"] == 16 else 19
    boxes, _ = axes.bit_boxes(LEFT, 48, d["fields"], size)
    counts = d["counts"]
    y = 130
    told = f"{counts['codes']:,} codes, to {amount(d['max'])}; relative error at most {d['relative_error_bound'] * 100:.4g} %"
    body = [boxes, svg.text(LEFT, y, told, "ink")]
    reach, height = reaches(d["reaches"], d["what"], y + 32)
    says = f"{d['bits']} bits. From {amount(d['min_subnormal'])} to {amount(d['max'])}, beside the other formats on an axis of powers of two."
    return height, body + reach, says


def reaches(rows: list[dict[str, Any]], what: str, y: float) -> tuple[list[str], float]:
    """A bar for each format, from its smallest to its largest magnitude; subnormal values are pale."""
    low, high = floor(log2(min(row["from"] for row in rows))), floor(log2(max(row["to"] for row in rows))) + 1
    place = axes.octaves(LEFT + 90, RIGHT - 10, low - 2, high)
    body = [svg.text(LEFT, y, "How far each format reaches (smallest to largest magnitude, powers of two)", "bold ink")]
    bottom = y + 18 + 24 * len(rows)
    for e in range(-128, 129, 64):
        body.append(svg.line(place(2.0**e), y + 14, place(2.0**e), bottom, "s-line thin"))
    for number, row in enumerate(rows):
        top = y + 18 + 24 * number
        chosen = row["name"] == what
        body.append(svg.text(LEFT, top + 13, row["name"], "bold ink" if chosen else "quiet"))
        if row["from"] < row["normal"]:
            body.append(svg.rect(place(row["from"]), top + 2, place(row["normal"]) - place(row["from"]), 14, "none s-warning thin dash"))
        told = f"{row['name']}: from {amount(row['from'])} to {amount(row['to'])}"
        body.append(svg.rect(place(row["normal"]), top + 2, place(row["to"]) - place(row["normal"]), 14, "accent" if chosen else "quiet", round=2,
                             title=told))
    body.append(axes.labelled([(place(2.0**e), f"2^{e}") for e in range(-128, 129, 32)], bottom, room=(0.0, WIDTH)))
    body += [svg.rect(LEFT + 90, bottom + 32, 22, 12, "none s-warning thin dash"),
             svg.text(LEFT + 118, bottom + 42, "subnormal values: fewer digits towards the end", "small quiet")]
    return body, bottom + 58


def _container(d: dict[str, Any]) -> tuple[float, list[str], str]:
    """The parts of a group, what a weight costs, the values of a code, and one group before and after."""
    element, worked = d["element"], d["worked"]
    parts, y = _group(d, 52)
    place = axes.even(LEFT + 10, RIGHT - 10, min(element["values"]), max(element["values"]))
    body = [*parts, svg.text(LEFT, y + 26, f"The values of a code: {element['name']}", "bold ink"),
            svg.line(LEFT + 10, y + 68, RIGHT - 10, y + 68, "s-quiet thin"),
            axes.ticks(element["values"], place, y + 68, 24, "s-accent thin")]
    labels = [(share * element["max"], label) for share, label in even_labels(element["max"])]
    body.append(axes.labelled([(place(value), label) for value, label in axes.mirrored(labels, place)], y + 68, room=(0.0, WIDTH)))
    plot, bottom = _worked(worked, y + 116)
    says = (f"{d['says']}. {d['bits_per_value']:.6g} bits for each weight. One group of {worked['count']} numbers before and after: "
            f"largest error {worked['largest_error']:.4g}.")
    return bottom, body + plot, says


def _group(d: dict[str, Any], y: float) -> tuple[list[str], float]:
    element = d["element"]
    kind = {"e4m3fn": "fp8", "e2m1": "fp4", "int8": "int8", "int4": "int4"}[element["name"]]
    count = d["group"] or 32
    cell = min(18.0, 480 / count)
    body = [svg.rect(LEFT + i * cell, y, cell - 2, 22, f"e-{kind}", round=2) for i in range(count)]
    end = LEFT + count * cell
    scale_kind = {"e8m0": "coded", "e4m3fn": "fp8", "f32": "f32", "bf16": "bf16"}[d["scale"]]
    body += [svg.text(LEFT, y + 40, f"{count if d['group'] else 'a row of'} codes, {element['bits']} bits each", "small quiet"),
             svg.text(end + 8, y + 16, "x", "ink mid"), svg.rect(end + 20, y - 2, 72, 26, f"e-{scale_kind}", round=4),
             svg.text(end + 56, y + 15.5, d["scale"], f"t-{scale_kind} mid"),
             svg.text(end + 20, y + 40, "one scale", "small quiet")]
    if "second_scale" in d:
        body += [svg.text(end + 104, y + 16, "x", "ink mid"), svg.rect(end + 116, y - 2, 72, 26, "e-f32", round=4),
                 svg.text(end + 152, y + 15.5, "F32", "t-f32 mid"),
                 svg.text(end + 116, y + 40, "one for the tensor", "small quiet")]
    unit = (RIGHT - LEFT - 210) / 16
    for row, (name, bits, classes) in enumerate(((d["what"], d["bits_per_value"], f"e-{kind}"), ("bf16", 16.0, "e-bf16"))):
        top = y + 62 + row * 24
        body += [svg.text(LEFT, top + 13, name, "ink"), svg.rect(LEFT + 60, top, bits * unit, 17, classes, round=2),
                 svg.text(LEFT + 68 + bits * unit, top + 13, f"{bits:.6g} bits for each weight", "small quiet")]
    return body, y + 112


def _worked(worked: dict[str, Any], y: float) -> tuple[list[str], float]:
    """A thin bar for each number, and a mark where its code lands."""
    amax, half = worked["amax"], 70.0
    middle, step = y + 20 + half, (RIGHT - LEFT - 40) / worked["count"]
    body = [svg.text(LEFT, y, f"One group: {worked['count']} numbers as bars, a mark where the code times the scale lands", "bold ink"),
            svg.line(LEFT, middle, RIGHT, middle, "s-quiet thin")]
    for place, (value, back) in enumerate(zip(worked["values"], worked["decoded"], strict=True)):
        x = LEFT + 40 + place * step
        up, mark = value / amax * half, back / amax * half
        body.append(svg.rect(x, middle - max(up, 0), step * 0.45, max(abs(up), 0.5), "line", title=f"{value:g} becomes {back:.6g}"))
        body.append(svg.line(x - step * 0.15, middle - mark, x + step * 0.6, middle - mark, "s-accent thick"))
    body += [svg.text(LEFT, middle - half + 4, f"{amax:g}", "small quiet"), svg.text(LEFT, middle + half + 4, f"-{amax:g}", "small quiet")]
    return body, middle + half + 34
