"""Pictures of terms: a block grid, the same codes in three formats, multiplier against divisor, and blocks against the shares of ranks."""

from __future__ import annotations

from math import floor, log10
from typing import Any

from weighbridge.errors import Usage
from weighbridge.report import palette, svg
from weighbridge.report.explain import axes
from weighbridge.report.explain.format_text import amount

WIDTH, LEFT, RIGHT = 760, 30, 730


def picture(document: dict[str, Any], *, inside_page: bool = False) -> str:
    """The SVG of a term's figure. Raises Usage for a term without one."""
    if "figure" not in document:
        raise Usage(f"{document['what']} has no picture", "--format svg",
                    "weighbridge explain terms --format json says which have; --format html makes a page")
    figure = document["figure"]
    height, body, says = FIGURES[figure["kind"]](figure)
    shift = -44.0 if inside_page else 0.0  # in a page the caption says what it is
    head = [] if inside_page else [svg.text(LEFT, 28, figure["title"], "head ink")]
    moved = f'<g transform="translate(0 {svg.number(shift)})">{"".join(body)}</g>'
    return svg.picture(WIDTH, height + shift, figure["title"], [*head, moved], says=says, style=".dash{stroke-dasharray:5 4}",
                       inside_page=inside_page,
                       name="term-" + document["what"])


def _blocks(figure: dict[str, Any]) -> tuple[float, list[str], str]:
    """The weight on the left, one colour for each block; the grid of its scales on the right; one weight and its scale marked."""
    (rows, columns), (height, width), grid, cell = (figure["rows"], figure["columns"]), figure["block"], figure["grid"], figure["cell"]
    unit, top, left, right, size = 410 / columns, 84.0, LEFT + 14, 510.0, 42.0
    highs = [min(height, rows - i * height) for i in range(grid[0])]
    wides = [min(width, columns - j * width) for j in range(grid[1])]
    body = [svg.text(left, 64, f"codes, FP8 [{rows}, {columns}]", "bold ink"), svg.text(right, 64, f"scales, F32 [{grid[0]}, {grid[1]}]", "bold ink")]
    for i, high in enumerate(highs):
        for j, wide in enumerate(wides):
            share = _shade(i, j, grid)
            told = f"block {i},{j}: {high} x {wide} weights"
            body += [_tile(left + j * width * unit, top + i * height * unit, wide * unit, high * unit, share, told),
                     _tile(right + j * size, top + 10 + i * size, size, size, share, f"scale {i},{j}")]
    bottom = top + rows * unit
    body += [svg.text(left + (j * width + wide / 2) * unit, bottom + 17, wide, "small quiet mid") for j, wide in enumerate(wides)]
    body += [svg.text(left - 6, top + (i * height + high / 2) * unit + 4, high, "small quiet end") for i, high in enumerate(highs)]
    row, column = cell["row"] // height, cell["column"] // width
    body += _arrow((left + cell["column"] * unit, top + cell["row"] * unit), (right + (column + 0.5) * size, top + 10 + (row + 0.5) * size))
    words = [f"weight ({cell['row']}, {cell['column']})", f"= its code x scale ({row}, {column})",
             f"{cell['row']} // {height} = {row}, {cell['column']} // {width} = {column}"]
    body += [svg.text(right, top + 44 + grid[0] * size + 18 * n, line, "mono ink") for n, line in enumerate(words)]
    body.append(svg.text(left, bottom + 38, "The last blocks are cut short; each still has a scale of its own.", "quiet"))
    return bottom + 54, body, f"{grid[0]} x {grid[1]} blocks; the last row and the last column of blocks are smaller. {' '.join(words)}."


def _tile(x: float, y: float, width: float, height: float, share: float, title: str) -> str:
    """A block in the colour of its scale."""
    place = f'x="{svg.number(x + 1)}" y="{svg.number(y + 1)}" width="{svg.number(width - 2)}" height="{svg.number(height - 2)}"'
    return f'<rect {place} rx="3" fill="{palette.heat(share)}"><title>{svg.text_of(title)}</title></rect>'


def _arrow(start: tuple[float, float], goal: tuple[float, float]) -> list[str]:
    """A dashed curve between two marked places."""
    bend = ((start[0] + 110, start[1] + 96), (goal[0] - 60, goal[1] + 90), goal)
    curve = " ".join(f"{svg.number(x)} {svg.number(y)}" for x, y in bend)
    return [svg.path(f"M{svg.number(start[0])} {svg.number(start[1])}C{curve}", "none s-ink thick dash"),
            *(f'<circle class="paper s-ink thick" cx="{svg.number(x)}" cy="{svg.number(y)}" r="5"/>' for x, y in (start, goal))]


def _shade(i: int, j: int, grid: list[int]) -> float:
    """A colour for each block, so that neighbours differ. It stands for no value."""
    return ((i * grid[1] + j) * 7 % (grid[0] * grid[1])) / (grid[0] * grid[1] - 1)


def _limits(figure: dict[str, Any]) -> tuple[float, list[str], str]:
    """An even axis for each format, then the codes 0x78 to 0x7F as boxes."""
    top = max(max(line["values"]) for line in figure["lines"])
    place, y, body = axes.even(LEFT + 84, RIGHT - 10, 0.0, top), 62.0, []
    for line in figure["lines"]:
        changed = {m["value"] for m in line["marked"]}
        end = max(line["values"])
        body += [svg.text(LEFT, y + 22, line["name"], "bold ink"), svg.line(place(0), y + 28, place(top), y + 28, "s-line thin"),
                 svg.line(place(0), y + 28, place(end), y + 28, "s-quiet thin"),
                 axes.ticks([v for v in line["values"] if v not in changed], place, y + 28, 22, "s-accent thin"),
                 axes.ticks([v for v in line["values"] if v in changed], place, y + 28, 22, "s-warning thick")]
        if end < top:
            body.append(svg.text(place(end) + 10, y + 21, f"ends at {amount(end)}", "small quiet"))
        y += 44
    body.append(axes.labelled([(place(v), amount(v)) for v in (0.0, 64.0, 128.0, 192.0, 240.0, 320.0, 384.0, 448.0)], y - 8, room=(0.0, WIDTH)))
    y += 46
    first = figure["lines"][0]["marked"]
    step = (RIGHT - LEFT - 84) / len(first)
    body.append(svg.text(LEFT, y, "What the bytes mean (thick marks above)", "bold ink"))
    y += 12
    body += [svg.text(LEFT + 84 + (n + 0.5) * step, y + 14, f"0x{mark['code']:02X}", "mono quiet mid") for n, mark in enumerate(first)]
    for number, line in enumerate(figure["lines"]):
        row = y + 24 + number * 34
        body.append(svg.text(LEFT, row + 19, line["name"], "bold ink"))
        for n, mark in enumerate(line["marked"]):
            good = mark["value"] is not None
            told = amount(mark["value"]) if good else {"nan": "NaN", "infinity": "infinity"}[mark["kind"]]
            body.append(svg.rect(LEFT + 84 + n * step, row, step - 4, 28, "panel s-good thin" if good else "panel s-error thick dash", round=4)
                        + svg.text(LEFT + 84 + (n + 0.5) * step - 2, row + 18, told, "mid " + ("ink" if good else "error bold")))
    y += 24 + 34 * len(figure["lines"]) + 20
    ones = "; ".join(f"0x{line['one']:02X} in {line['name']}" for line in figure["lines"])
    body.append(svg.text(LEFT, y, f"The code of 1.0 is {ones}.", "quiet"))
    told = "; ".join(f"{line['name']} ends at {amount(max(line['values']))}" for line in figure["lines"])
    return y + 20, body, f"{told}. The code of 1.0 is {ones}."


def _convention(figure: dict[str, Any]) -> tuple[float, list[str], str]:
    """Weights on a logarithmic axis, above multiplied and below divided by the same scale."""
    held = figure["codes"]
    ratio = held[0]["divided"] / held[0]["multiplied"]
    low, high = floor(log10(min(c["multiplied"] for c in held))), floor(log10(max(c["divided"] for c in held))) + 1
    tens = axes.even(LEFT + 160, RIGHT - 20, low, high)
    body = [svg.text(LEFT, 58, f"One block with the scale {figure['scale']:.4g}", "quiet")]
    body += [svg.line(tens(e), 68, tens(e), 222, "s-line thin") for e in range(low, high + 1)]
    body += [svg.line(tens(log10(c["multiplied"])), 99, tens(log10(c["divided"])), 176, "s-quiet thin dash") for c in held]
    rows = (("code x scale", "multiplied", 92.0, "good", "the weights"), ("code / scale", "divided", 184.0, "error", f"{ratio:.2g} times too large"))
    for name, key, y, ink, says in rows:
        body += [svg.text(LEFT, y + 4, name, "bold ink"), svg.text(LEFT, y + 21, says, f"small {ink}"),
                 svg.line(LEFT + 160, y, RIGHT - 20, y, "s-quiet thin")]
        for c in held:
            x, value = tens(log10(c[key])), c[key]
            told = f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
            body += [f'<circle class="{ink}" cx="{svg.number(x)}" cy="{svg.number(y)}" r="6"><title>code {c["code"]:g}: {told}</title></circle>',
                     svg.text(x, y + (-12 if key == "multiplied" else 22), told, "small ink mid")]
    marks = ", ".join(f"{c['code']:g}" for c in held)
    body += [axes.labelled([(tens(e), f"1e{e}") for e in range(low, high + 1)], 222, room=(0.0, WIDTH)),
             svg.text(LEFT + 160, 262, f"The codes {marks}; the axis is logarithmic.", "quiet")]
    says = (f"The codes {marks} of a block with the scale {figure['scale']:.4g}. Divided in place of multiplied, the weights are {ratio:.2g} times "
            "too large.")
    return 278, body, says


def _cuts(figure: dict[str, Any]) -> tuple[float, list[str], str]:
    """The blocks of one axis, and below them the shares of ranks for several degrees; what is cut in two is marked."""
    place, blocks = axes.even(LEFT + 90, RIGHT - 10, 0, figure["width"]), figure["width"] // figure["block"]
    body = [svg.text(LEFT, 76, "blocks", "bold ink")]
    for b in range(blocks):
        x = place(b * figure["block"])
        body.append(svg.rect(x + 1, 58, place(figure["block"]) - place(0) - 2, 28, "e-fp8", round=3,
                             title=f"block {b}: rows {b * figure['block']} to {(b + 1) * figure['block'] - 1}")
                    + svg.text(x + (place(figure["block"]) - place(0)) / 2, 76.5, b, "t-fp8 mid"))
    y, told = 112.0, []
    for way in figure["ways"]:
        good, size = way["whole"], place(way["share"]) - place(0)
        body.append(svg.text(LEFT, y + 19, f"{way['ways']} ways", "bold ink"))
        for b in way["cut_blocks"]:
            body.append(svg.rect(place(b * figure["block"]) + 1, 54, place(figure["block"]) - place(0) - 2, 36, "none s-error thick dash", round=5))
        for rank in range(way["ways"]):
            body.append(svg.rect(place(rank * way["share"]) + 1, y, size - 2, 28, "panel s-good thick" if good else "panel s-error thick", round=3,
                                 title=f"rank {rank}: {way['share']} rows")
                        + svg.text(place(rank * way["share"]) + size / 2, y + 18.5, way["share"], "mid ink"))
        verdict = (f"{way['share']} rows = {way['share'] / figure['block']:g} block{'s' if way['share'] != figure['block'] else ''}: "
                   + ("each rank has whole blocks" if good else f"blocks {', '.join(map(str, way['cut_blocks']))} are cut in two (dashed above)"))
        body.append(svg.text(LEFT + 90, y + 45, verdict, "small good" if good else "small error"))
        told.append(f"{way['ways']} ways: {verdict}")
        y += 66
    return y + 4, body, ". ".join(told) + "."


FIGURES = {"blocks": _blocks, "limits": _limits, "convention": _convention, "cuts": _cuts}
