"""Number lines as SVG: ticks at values on an even or a logarithmic axis, and boxes for the bits of a code."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import log2

from weighbridge.report import svg

Place = Callable[[float], float]


def even(left: float, right: float, low: float, high: float) -> Place:
    """A value to its x, where equal steps are equally far apart."""
    return lambda value: left + (value - low) / (high - low) * (right - left)


def octaves(left: float, right: float, low: float, high: float) -> Place:
    """A positive value to its x, where each doubling is equally far; `low` and `high` are exponents of two."""
    return lambda value: left + (log2(value) - low) / (high - low) * (right - left)


def ticks(values: Iterable[float], place: Place, y: float, height: float, classes: str) -> str:
    """One upright line for each value, as a single path; lines that would stand closer than a quarter of a unit are one."""
    seen: dict[float, None] = {}
    for value in values:
        seen.setdefault(round(place(value) * 4) / 4)
    return svg.path("".join(f"M{svg.number(x)} {svg.number(y - height)}v{svg.number(height)}" for x in sorted(seen)), classes) if seen else ""


def labelled(labels: Iterable[tuple[float, str]], y: float, gap: float = 7.0, room: tuple[float, float] = (0.0, 760.0)) -> str:
    """Labels below an axis with a small mark each; one that would touch the one before it is left out, the last one wins."""
    kept: list[tuple[float, float, str]] = []
    items = [(x, _room(label), label) for x, label in labels]
    for place, (x, width, label) in enumerate(items):
        x_text = min(max(x, room[0] + width / 2), room[1] - width / 2)
        if kept and place == len(items) - 1 and x_text - width / 2 < kept[-1][0] + _room(kept[-1][2]) / 2 + gap:
            kept.pop()
        if not kept or x_text - width / 2 >= kept[-1][0] + _room(kept[-1][2]) / 2 + gap:
            kept.append((x_text, x, label))
    return "".join(svg.line(x, y, x, y + 5, "s-quiet thin") + svg.text(x_text, y + 18, label, "small quiet mid") for x_text, x, label in kept)


def mirrored(labels: list[tuple[float, str]], place: Place, gap: float = 7.0) -> list[tuple[float, str]]:
    """Labels of zero and of positive values for both signs, thinned from the middle outwards so that both sides show the same; the end stays."""
    kept: list[tuple[float, str]] = []
    for value, label in labels:
        def near(held: tuple[float, str], value: float = value, label: str = label) -> bool:
            return place(value) - place(held[0]) < (_room("-" + label) + _room("-" + held[1])) / 2 + gap

        last = value == labels[-1][0]
        while kept and last and len(kept) > 1 and near(kept[-1]):
            kept.pop()
        if not kept or not near(kept[-1]):
            kept.append((value, label))
    return [(-value, f"-{label}") for value, label in reversed(kept) if value] + kept


def _room(label: str) -> float:
    """About the width of a small label."""
    return len(label) * 6.4


BIT_CLASSES = {"sign": ("s-warning", "warning"), "exponent": ("s-accent", "accent"), "mantissa": ("s-good", "good")}


def bit_boxes(x: float, y: float, fields: dict[str, int], size: float = 26.0) -> tuple[str, float]:
    """A box for each bit with its field's name below the boxes, and the x where they end. The name tells the field, the colour only helps."""
    out = []
    for name, bits in fields.items():
        if not bits:
            continue
        stroke, ink = BIT_CLASSES[name]
        label = f"{bits} {name}"
        start = x = x + max(0.0, (_room(label) - bits * size) / 2 - 4)
        for _ in range(bits):
            out += [svg.rect(x, y, size - 3, size, f"panel {stroke} thick", round=3),
                    svg.text(x + (size - 3) / 2, y + size / 2 + 4.5, name[0].upper(), f"{ink} mono mid")]
            x += size
        middle = start + bits * size / 2 - 1.5
        out.append(svg.text(middle, y + size + 15, label, f"small {ink} mid"))
        x = max(x, start + bits * size / 2 + _room(label) / 2) + 12
    return "".join(out), x
