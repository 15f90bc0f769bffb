"""Scales as small multiples: one picture for each group of weights, layers from left to right, values on a logarithmic axis."""

from __future__ import annotations

import math
from typing import Any

from weighbridge.report.page.parts import details, section, table, text_of
from weighbridge.report.svg import attribute, line, number, path, text
from weighbridge.report.units import count

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 330, 176, 62, 10, 12, 26
Range = tuple[float, float]  # powers of ten


def scales(document: dict[str, Any]) -> str:
    """Section of scales. Each picture is drawn twice, on its own axis and on the axis that all share; a check box chooses."""
    held = document["scales"]
    order = {row["role"]: place for place, row in enumerate((document["inspect"] or {"roles": []})["roles"])}
    groups = sorted((g for g in held["groups"] if spread(g)), key=lambda g: order.get(g["role"], len(order)))
    if not groups:
        said = text_of(held["told"]) or "No scales were read."
        return section("scales", "Scales", f"<p>{said}</p>")
    ranges = [spread(g) for g in groups]
    shared = (min(r[0] for r in ranges), max(r[1] for r in ranges))
    read = f"{held['read']:,} of {count(held['total'], 'scale tensor')} read" + (f": {text_of(held['told'])}" if held["told"] else "")
    odd = f" {count(held['odd'], 'tensor')} with NaN or infinity {'is' if held['odd'] == 1 else 'are'} not drawn." if held["odd"] else ""
    of = "; ".join(dict.fromkeys(g["of"] for g in groups))
    intro = (f"{read}. Shown is the {text_of(of)}. The line is the median over the tensors of a layer, the band the middle half, thin lines reach from the least to the largest. "
             f"A ring marks a tensor apart: {text_of(held['outliers_are'])}.{odd}")
    switch = ('<label class="tick no-print"><input type="checkbox" id="scales-shared"> The same axis in all pictures</label>' if len(groups) > 1 else "")
    cards = "".join(_card(place, g, shared) for place, g in enumerate(groups))
    body = f'<div class="multiples">{switch}<div class="grid">{cards}</div></div>{details("The scales as a table", _table(groups), paper=False)}'
    return section("scales", "Scales", body, intro=intro)


def spread(group: dict[str, Any]) -> Range | None:
    """Least and largest value of a group, outliers too, as powers of ten with a little room. None where nothing can stand on a logarithmic axis."""
    values = [v for row in group["layers"] for v in row[1:]] + [o["value"] for o in group["outliers"]]
    logs = [math.log10(v) for v in values if usable(v)]
    if not logs:
        return None
    low, high = min(logs), max(logs)
    room = max(0.08 * (high - low), 0.005)
    return low - room, high + room


def usable(value: Any) -> bool:
    return isinstance(value, int | float) and 0 < value < math.inf


def short(value: Any) -> str:
    """A scale for people: three digits."""
    return f"{value:.3g}" if isinstance(value, int | float) else "not finite"


def ticks(axis: Range) -> list[float]:
    """Two to five round values: powers of ten on a long axis, even steps of 1, 2 or 5 on a short one."""
    low, high = axis
    if high - low >= 1:
        powers = [10.0**p for p in range(math.ceil(low), math.floor(high) + 1)]
        powers = powers if len(powers) > 1 else sorted(v for p in (*powers, powers[0] / 10) for v in (p, 3 * p) if low <= math.log10(v) <= high)
        return powers[:: -(-len(powers) // 5)]
    least, most = 10**low, 10**high
    unit = 10.0 ** math.floor(math.log10(most - least))
    for step in (unit / 5, unit / 2, unit, unit * 2, unit * 5):
        first, last = math.ceil(least / step), math.floor(most / step)
        if last - first < 5:
            return [n * step for n in range(first, last + 1)]
    return [least, most]


def _card(place: int, group: dict[str, Any], shared: Range) -> str:
    own = spread(group)
    assert own is not None
    name = f"scale-{place}"
    title = text_of(group["role"] or group["name"])
    pictures = "".join(f'<g class="{kind}">{_plot(group, axis)}</g>' for kind, axis in (("own", own), ("shared", shared)))
    return (f'<figure class="card"><figcaption><h3>{title}</h3><code>{text_of(group["name"])}<wbr>{text_of(group["suffix"])}</code></figcaption>'
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{name}-t"><title id="{name}-t">{text_of(_says(group))}</title>{pictures}</svg>'
            f"{_named(group)}</figure>")


def _says(group: dict[str, Any]) -> str:
    values = [v for row in group["layers"] for v in (row[1], row[5]) if usable(v)]
    layers = [row[0] for row in group["layers"]]
    where = f"in layers {min(layers)} to {max(layers)}" if min(layers) >= 0 else "outside of layers"
    return (f"Scales of {group['name']} {where}: from {short(min(values))} to {short(max(values))}, "
            f"{count(group['apart'], 'outlier')}")


def _named(group: dict[str, Any]) -> str:
    """Outliers as text; each is a link to its tensor."""
    if not group["outliers"]:
        return '<p class="outliers quiet-text">no outlier</p>'
    items = "".join(f'<li><a class="mono" data-tensor={attribute(o["tensor"])} href="#tensors">{text_of(o["tensor"])}</a> {short(o["value"])}, '
                    f'{_times(o["ratio"])} the median</li>' for o in group["outliers"])
    more = group["apart"] - len(group["outliers"])
    rest = f"<li>and {more:,} more</li>" if more > 0 else ""
    return f'<details class="outliers"><summary>{count(group["apart"], "outlier")}</summary><ul>{items}{rest}</ul></details>'


def _times(ratio: Any) -> str:
    return f"{ratio:.3g} times" if isinstance(ratio, int | float) else "not comparable with"


def _plot(group: dict[str, Any], axis: Range) -> str:
    """Axis, whiskers, band, median and rings of one picture."""
    rows = [row for row in group["layers"] if all(map(usable, row[1:]))]
    last = max(row[0] for row in group["layers"])
    first = min(row[0] for row in group["layers"])
    wide = (WIDTH - LEFT - RIGHT) / max(1, last - first + 1)

    def x(layer: float) -> float:
        return LEFT + (layer - first + 0.5) * wide

    def y(value: float) -> float:
        share = (math.log10(value) - axis[0]) / (axis[1] - axis[0])
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - min(max(share, 0.0), 1.0))

    out = []
    for value in ticks(axis):
        out.append(line(LEFT, y(value), WIDTH - RIGHT, y(value), "s-line") + text(LEFT - 6, y(value) + 4, f"{value:.3g}", "small quiet end"))
    shown = sorted({first, last, *(() if last - first < 4 else ((first + last) // 2,))})
    out += [text(x(n), HEIGHT - 8, n if n >= 0 else "outside of layers", "small quiet mid") for n in shown]
    out.append(path("".join(f"M{number(x(r[0]))} {number(y(r[1]))}V{number(y(r[5]))}" for r in rows), "whisker none"))
    out += [_band(piece, x, y) for piece in _pieces(rows)]
    for o in group["outliers"]:
        if usable(o["value"]) and isinstance(o["layer"], int) and first <= o["layer"] <= last:
            out.append(f'<circle class="ring none" cx="{number(x(o["layer"]))}" cy="{number(y(o["value"]))}" r="4"/>')
    return "".join(out)


def _pieces(rows: list[list[Any]]) -> list[list[list[Any]]]:
    """Rows in pieces of neighbouring layers: no line is drawn over layers that have no such weight."""
    out: list[list[list[Any]]] = []
    for row in sorted(rows):
        if out and row[0] == out[-1][-1][0] + 1:
            out[-1].append(row)
        else:
            out.append([row])
    return out


def _band(rows: list[list[Any]], x: Any, y: Any) -> str:
    """Band of the middle half, and the line of the median. A layer alone is a short bar."""
    if len(rows) == 1:
        at, row = x(rows[0][0]), rows[0]
        return path(f"M{number(at - 3)} {number(y(row[3]))}H{number(at + 3)}", "median none")
    there = "L".join(f"{number(x(r[0]))} {number(y(r[4]))}" for r in rows)
    back = "L".join(f"{number(x(r[0]))} {number(y(r[2]))}" for r in reversed(rows))
    middle = "L".join(f"{number(x(r[0]))} {number(y(r[3]))}" for r in rows)
    return path(f"M{there}L{back}Z", "band") + path(f"M{middle}", "median none")


def _table(groups: list[dict[str, Any]]) -> str:
    rows = [(g["name"], row[0] if row[0] >= 0 else "outside", *map(short, row[1:])) for g in groups for row in g["layers"]]
    return table(("scales of", "layer", "least", "lower quartile", "median", "upper quartile", "largest"), rows, "Scales as a table", (1, 2, 3, 4, 5, 6))
