"""Where two runs part, as a picture: the relative error of each stage over the layers, on a logarithmic scale."""

from __future__ import annotations

import math
from typing import Any

from weighbridge.report.compare.text import layer_of, number
from weighbridge.report.svg import attribute, text_of

WIDTH, HEIGHT = 860, 430
LEFT, RIGHT, TOP, BOTTOM = 70, 130, 64, 52
STAGES = {"attn": "#2f6fb0", "router": "#8a5fb0", "experts": "#c7732a", "block": "#3c8f5a"}
STYLE = """text{font:13px system-ui,sans-serif;fill:#222}.small{font-size:11px;fill:#666}.grid{stroke:#ddd}.limit{stroke:#b3261e;stroke-dasharray:6 4}
.bad{fill:none;stroke:#b3261e;stroke-width:2.5}.paper{fill:#fff}.line{fill:none;stroke-width:2}.title{font-size:15px;font-weight:600}
@media(prefers-color-scheme:dark){text{fill:#e6e6e6}.small{fill:#aaa}.grid{stroke:#3a3a3a}.paper{fill:#1b1b1b}.limit,.bad{stroke:#ff7b72}}"""


def svg(document: dict[str, Any]) -> str:
    """One self-contained SVG. Stages without a finite error stand at the top edge as crosses."""
    rows = document["layers"]
    layers = max([layer_of(row["name"]) or 0 for row in rows], default=0)
    known = [row["relative"] for row in rows if row["relative"]] + [document["tolerance"]["relative"]]
    low, high = math.floor(math.log10(max(min(known), 1e-12))) - 0.2, math.ceil(math.log10(max(known))) + 0.2
    plot = _Plot(layers, low, high)
    body = [plot.grid(), plot.limit(document["tolerance"]["relative"])]
    body += [plot.stage(rows, stage, colour, number) for number, (stage, colour) in enumerate(STAGES.items())
             if any(row["name"].endswith("." + stage) for row in rows)]
    bad = next((row for row in rows if row["name"] == document["first_bad_layer"]), None)
    if bad is not None:
        body.append(plot.ring(bad))
    title = f"{document['a']['source']} ({document['a']['layout']}) against {document['b']['source']} ({document['b']['layout']})"
    body.append(f'<text class="title" x="{LEFT}" y="24">{text_of(title[:110])}</text><text class="small" x="{LEFT}" y="44">{text_of(_line(document))}</text>')
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label={attribute("relative error by layer: " + title[:110])}>'
            f'<style>{STYLE}</style><rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>' + "\n".join(body) + "</svg>")


def _line(document: dict[str, Any]) -> str:
    if document["top1_agreement"] is None:
        told = "logits not recorded"
    else:
        told = f"KL {number(document['kl'], document['kl_stderr'])} nats/token, same top token {100 * document['top1_agreement']:.1f} %"
    return f"{told}; " + (f"first out of tolerance: {document['first_bad_layer']}" if document["first_bad_layer"] else "every stage within tolerance")


class _Plot:
    """Layers to x, powers of ten to y."""

    def __init__(self, layers: int, low: float, high: float) -> None:
        self.layers, self.low, self.high = layers, low, high

    def x(self, layer: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (layer + 0.5) / (self.layers + 1)

    def y(self, relative: float | None) -> float:
        power = self.high if relative is None else math.log10(relative) if relative > 0 else self.low
        share = (min(max(power, self.low), self.high) - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def grid(self) -> str:
        lines = []
        powers = range(math.ceil(self.low), math.floor(self.high) + 1)
        for power in powers[:: max(1, -(-len(powers) // 10))]:
            y = self.y(10.0**power)
            lines.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
                         f'<text class="small" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">1e{power}</text>')
        every = max(1, -(-(self.layers + 1) // 16))
        lines += [f'<text class="small" x="{self.x(layer):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{layer}</text>'
                  for layer in range(0, self.layers + 1, every)]
        lines.append(f'<text class="small" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">layer</text>'
                     f'<text class="small" x="16" y="{(TOP + HEIGHT - BOTTOM) / 2}" transform="rotate(-90 16 {(TOP + HEIGHT - BOTTOM) / 2})" '
                     'text-anchor="middle">relative error</text>')
        return "".join(lines)

    def limit(self, tolerance: float) -> str:
        y = self.y(tolerance)
        return (f'<line class="limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text class="small" x="{WIDTH - RIGHT + 8}" y="{y + 4:.1f}">tolerance {tolerance:g}</text>')

    def stage(self, rows: list[dict[str, Any]], stage: str, colour: str, place: int) -> str:
        own = [(layer_of(row["name"]), row["relative"]) for row in rows if row["name"].endswith("." + stage)]
        points = [(self.x(layer or 0), self.y(relative), relative is None) for layer, relative in own]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y, lost in points if not lost)
        marks = "".join(f'<path d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8" stroke="{colour}"/>' if lost else f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>'
                        for x, y, lost in points)
        y = TOP + 4 + 18 * place
        key = f'<text x="{WIDTH - RIGHT + 28}" y="{y + 4}">{stage}</text><line x1="{WIDTH - RIGHT + 8}" x2="{WIDTH - RIGHT + 24}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="2"/>'
        return f'<polyline class="line" points="{line}" stroke="{colour}"/>{marks}{key}'

    def ring(self, row: dict[str, Any]) -> str:
        layer = layer_of(row["name"])
        x = self.x(layer if layer is not None else -0.5 if row["name"] == "embed" else self.layers + 0.5)
        return f'<circle class="bad" cx="{x:.1f}" cy="{self.y(row["relative"]):.1f}" r="8"/>'
