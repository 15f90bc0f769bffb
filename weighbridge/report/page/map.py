"""The map: layers from left to right, modules from top to bottom, coloured by encoding. Equal layers are one run; a table says the same."""

from __future__ import annotations

from typing import Any

from weighbridge.report.page.parts import Markup, chip, details, section, table
from weighbridge.report.svg import attribute, number, rect, text, text_of
from weighbridge.report.units import count, size

LEFT, TOP, ROW, WIDTH, RIGHT = 218, 30, 24, 716, 92  # pixels: names, layer numbers, one module, all layers, bytes of the module
SMALLEST, LARGEST = 5, 72  # pixels of one layer
SHOWN = 14  # weights of no layer that are shown at once; all others are folded
LETTERS = 28  # of a name that have room left of the cells


def encoding_map(document: dict[str, Any]) -> str:
    """Section of the map. Runs are [column, first layer, last layer, encoding, weights in each layer, bytes in each layer]."""
    held = document["map"]
    intro = ("Each row is a module, each column a layer. Point at a cell, or go to the map with Tab and move with the arrow keys; "
             "Enter searches for its tensors.")
    if not held["columns"]:
        return section("map", "Map", f"<p>No layers were found.</p>{_outside(held)}")
    body = (f'<div class="legend-line">{_legend(held)}</div>{_picture(held)}<p id="map-cell" class="panel-line needs-script no-print">Point at a cell to read what it holds.</p>'
            f'{_outside(held)}{details("The map as a table", _table(held))}')
    return section("map", "Map", body, intro=intro)


def layers_text(first: int, last: int) -> str:
    return f"layer {first}" if first == last else f"layers {first} to {last}"


def _legend(held: dict[str, Any]) -> str:
    """Encodings, those of most bytes first."""
    total = [0] * len(held["encodings"])
    for _, first, last, encoding, _, nbytes in held["runs"]:
        total[encoding] += (last - first + 1) * nbytes
    for item in held["outside"]:
        total[item["encoding"]] += item["bytes"]
    order = sorted((place for place, nbytes in enumerate(total) if nbytes), key=lambda place: -total[place])
    return " ".join(chip(held["encodings"][place]["kind"], held["encodings"][place]["text"]) for place in order)


def _says(held: dict[str, Any], run: list[int]) -> str:
    column, first, last, encoding, weights, nbytes = run
    each = f", {size(nbytes * (last - first + 1))} in all" if last > first else ""
    layer = " in each layer" if last > first else ""
    return (f"{held['columns'][column]['name']}, {layers_text(first, last)}: {held['encodings'][encoding]['text']}, "
            f"{count(weights, 'weight')} of {size(nbytes)}{layer}{each}")


def _cell_width(held: dict[str, Any]) -> float:
    return float(min(LARGEST, max(SMALLEST, WIDTH // max(1, held["layers"]))))


def _picture(held: dict[str, Any]) -> str:
    """No role of an image: its cells take the focus one by one."""
    cell = _cell_width(held)
    across, height = cell * held["layers"], TOP + ROW * len(held["columns"]) + 8
    runs = sorted(held["runs"], key=lambda run: (run[0], run[1]))
    body = [*_axis(held, cell), *(_row(held, place, across) for place in range(len(held["columns"]))),
            *(_run(held, run, cell, runs, place == 0) for place, run in enumerate(runs)), _grid(held, cell, height)]
    width = LEFT + across + RIGHT
    return (f'<div class="wide" role="region" aria-label="Map of encodings" tabindex="0"><svg id="map-picture" role="group" aria-label="Layers and modules" '
            f'data-left="{LEFT}" data-cell="{number(cell)}" width="{number(width)}" height="{height}" viewBox="0 0 {number(width)} {height}">'
            f'{"".join(body)}</svg></div>')


def _axis(held: dict[str, Any], cell: float) -> list[str]:
    """Numbers of layers, as many as have room; the last one always."""
    last = held["layers"] - 1
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 1000) if s * cell >= 30)
    shown = [n for n in range(0, last + 1, step) if n == last or (last - n) * cell >= 26] + ([last] if last % step else [])
    return [text(LEFT - 14, TOP - 11, "layer", "small quiet end")] + [text(LEFT + (n + 0.5) * cell, TOP - 11, n, "small quiet mid") for n in shown]


def short_names(names: list[str]) -> list[str]:
    """Names without their first word (`self_attn.q_proj` is `q_proj`) where that says the same."""
    tails = [name.partition(".")[2] or name for name in names]
    return [tail if tails.count(tail) == 1 else name for tail, name in zip(tails, names, strict=True)]


def _row(held: dict[str, Any], place: int, across: float) -> str:
    runs = [run for run in held["runs"] if run[0] == place]
    most = max((run[4] for run in runs), default=0)
    total = sum((run[2] - run[1] + 1) * run[5] for run in runs)
    y = TOP + ROW * place + 16
    many = f" ×{most:,}" if most > 1 else ""
    room = LETTERS - len(many)
    name = short_names([c["name"] for c in held["columns"]])[place]
    name = name if len(name) <= room else "…" + name[-(room - 1):]
    return (f'<text class="mono ink end" x="{LEFT - 14}" y="{y}">{text_of(name)}<tspan class="quiet">{many}</tspan></text>'
            + text(LEFT + across + 14, y, size(total), "small quiet"))


def _run(held: dict[str, Any], run: list[int], cell: float, runs: list[list[int]], first: bool) -> str:
    """One run. Where a layer's weights of a module have several encodings, their runs share the height of the row."""
    column, begin, end, encoding, _, _ = run
    beside = [other for other in runs if other[0] == column and other[1] <= end and begin <= other[2]]
    height = (ROW - 3) / len(beside)
    y = TOP + ROW * column + 1 + height * beside.index(run)
    extra = (f' role="button" tabindex="{0 if first else -1}" aria-label={attribute(_says(held, run))} data-column="{column}" '
             f'data-first="{begin}" data-last="{end}" data-module={attribute(held["columns"][column]["name"])}')
    kind = held["encodings"][encoding]["kind"]
    return rect(LEFT + begin * cell, y, (end - begin + 1) * cell, height, f"cell e-{kind}", round=2, extra=extra)


def _grid(held: dict[str, Any], cell: float, height: float) -> str:
    """Lines between layers in the colour of the paper: a run of equal layers still shows each of them."""
    lines = "".join(f"M{number(LEFT + n * cell)} {TOP}V{height - 8}" for n in range(1, held["layers"]))
    return f'<path class="s-paper none gap" d="{lines}"/>' if lines else ""


def _outside(held: dict[str, Any]) -> str:
    """Weights of no layer: embedding, head, last norm."""
    if not held["outside"]:
        return ""
    rows = [_outsider(held, item) for item in held["outside"]]
    if len(rows) <= SHOWN:
        return f'<h3>Outside the layers</h3><ul class="chips">{"".join(rows)}</ul>'
    largest = sorted(range(len(rows)), key=lambda place: -held["outside"][place]["bytes"])[:SHOWN]
    first = "".join(rows[place] for place in sorted(largest))
    rest = "".join(row for place, row in enumerate(rows) if place not in largest)
    return (f'<h3>Outside the layers</h3><ul class="chips">{first}</ul>'
            f'{details(f"{len(rows) - SHOWN} smaller ones", f"<ul class=chips>{rest}</ul>")}')


def _outsider(held: dict[str, Any], item: dict[str, Any]) -> str:
    kind = held["encodings"][item["encoding"]]
    many = f" ×{item['count']:,}" if item["count"] > 1 else ""
    return f'<li>{chip(kind["kind"], kind["dtype"])} <span class="mono">{text_of(item["name"])}</span>{many} <span class="quiet-text">{size(item["bytes"])}</span></li>'


def _table(held: dict[str, Any]) -> str:
    rows = []
    for column, first, last, encoding, weights, nbytes in sorted(held["runs"], key=lambda run: (run[0], run[1])):
        kind = held["encodings"][encoding]
        rows.append((held["columns"][column]["name"], f"{first}" if first == last else f"{first}–{last}", Markup(chip(kind["kind"], kind["text"])),
                     weights, nbytes, (last - first + 1) * nbytes))
    return table(("module", "layers", "encoding", "weights in each layer", "bytes in each layer", "bytes in all"), rows, "Map as a table", (3, 4, 5))


