"""Pictures of one tensor: the scale grid as a heat map, codes along the number line, eight weights in their bits; and one that has them all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from weighbridge.report import palette
from weighbridge.report.explain import tensor_words as words
from weighbridge.report.svg import group, line, number, picture, rect, text
from weighbridge.report.visible import visible

WIDTH = 1180
TITLED = 1600  # cells of a map that carry a title each
BIT = 15
PARTS = ("f32", "fp8", "bf16")  # colours of sign, exponent and mantissa
STYLE = ".heat{shape-rendering:crispEdges}"  # no hairlines between cells
Figure = tuple[str, float]  # elements and height


def svg(document: dict[str, Any]) -> str:
    """One picture: heat map and worked block side by side, the histogram below them."""
    name = visible(document["tensor"]["name"])
    body = [text(20, 32, name, "ink head"), text(20, 54, subtitle(document), "quiet")]
    top, left, height = 84.0, 20.0, 0.0
    if document["maps"]:
        drawn, height = heat_map(document["maps"]["scale"], 20, top, 470, "Scales")
        body.append(drawn)
        left = 530
    drawn, tall = weights(document, left, top)
    body.append(drawn)
    top += max(height, tall) + 36
    drawn, height = counts(document, 20, top, WIDTH - 40)
    body.append(drawn)
    return picture(WIDTH, top + height + 20, f"{name}, worked by hand", body, says=subtitle(document), style=STYLE)


def subtitle(document: dict[str, Any]) -> str:
    tensor, scale = document["tensor"], document["scale"]
    told = f"{tensor['dtype']} {words.shape(tensor['shape'])}"
    if scale:
        told += f", scales {scale['dtype']} {words.shape(scale['shape'])}, block {scale['block'][0]} x {scale['block'][1]}"
    seen = document["looked_at"]
    return told + ("" if seen["values"] == seen["of"] else f"; {words.percent(seen['values'], seen['of'])} of the values were looked at")


def heat_map(told: dict[str, Any], x: float, y: float, width: float, title: str, zero: str = "zero") -> Figure:
    """Cells from dark (least) to bright (largest) on a logarithmic scale, with the numbers of block rows and columns, and a bar that tells the values."""
    cells, step, worked = told["cells"], told["step"], told.get("worked")
    rows, columns = len(cells), len(cells[0])
    known = [v for row in cells for v in row if v]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    wide, tall = min(90.0 if columns < 6 else 44.0, (width - 44) / columns), min(30.0, max(8.0, 420.0 / rows))
    left, top = x + 40, y + 40
    out = [text(x, y + 12, title, "ink bold"), *_edges(told, left, top, wide, tall)]
    titled = rows * columns <= TITLED
    for i, row in enumerate(cells):
        for j, value in enumerate(row):
            out.append(_cell(left + j * wide, top + i * tall, wide, tall, value, low, high, f"{_where(told, i, j)}: {words.short(value)}" if titled else None, zero))
    if worked is not None:
        out.append(rect(left + worked[1] * wide, top + worked[0] * tall, wide, tall, "none s-paper", extra=' stroke-width="4"'))
        out.append(rect(left + worked[1] * wide, top + worked[0] * tall, wide, tall, "none s-error thick"))
    bottom = top + rows * tall + 16
    drawn, height = _scale_bar(x + 40, bottom, low, high, any(v is None for row in cells for v in row), any(v == 0 for row in cells for v in row), zero)
    out += drawn
    notes = ["framed: the block worked by hand"] if worked is not None else []
    if step != [1, 1]:
        notes.append(f"a cell is {step[0]} x {step[1]} blocks")
    if told["sampled"]:
        notes.append("only rows that were looked at")
    out += [text(x + 40, bottom + height + 14 * (place + 1), note, "quiet small") for place, note in enumerate(notes)]
    return group(out, label=f"{title}: {words.short(low)} to {words.short(high)}"), bottom + height + 14 * len(notes) - y + 6


def _where(told: dict[str, Any], i: int, j: int) -> str:
    at = f"[{told['first'][i]}, {j * told['step'][1]}]"
    return f"block {at}" if told["step"] == [1, 1] else f"blocks from {at}"


def _edges(told: dict[str, Any], left: float, top: float, wide: float, tall: float) -> list[str]:
    """Numbers of rows and columns at a distance that leaves them legible."""
    rows, columns, step = len(told["cells"]), len(told["cells"][0]), told["step"][1]
    down, right = max(1, math.ceil(16 / tall)), max(1, math.ceil((10 + 7 * len(str(columns * step))) / wide))
    out = [text(left - 6, top + (i + 0.5) * tall + 4, told["first"][i], "quiet small end") for i in range(0, rows, down)]
    return out + [text(left + (j + 0.5) * wide, top - 6, j * step, "quiet small mid") for j in range(0, columns, right)]


def _cell(x: float, y: float, wide: float, tall: float, value: float | None, low: float, high: float, title: str | None, zero: str) -> str:
    if value is None:
        return rect(x, y, wide, tall, "panel s-line", title=title) + line(x, y, x + wide, y + tall, "s-quiet")
    if value == 0:
        return rect(x, y, wide, tall, "panel s-line", title=title and f"{title.partition(':')[0]}: {zero}")
    share = math.log(value / low) / math.log(high / low) if high > low else 0.5
    told = ""
    if wide >= 80 and tall >= 20:  # there is room for the number itself
        told = f'<text class="small mid" x="{number(x + wide / 2)}" y="{number(y + tall / 2 + 4)}" fill="{"#000" if share > 0.45 else "#fff"}">{words.short(value, 4)}</text>'
    return rect(x, y, wide, tall, "heat", title=title, extra=f' fill="{palette.heat(share)}"') + told


def _scale_bar(x: float, y: float, low: float, high: float, lost: bool, empty: bool, zero: str) -> tuple[list[str], float]:
    steps = 24
    out = []
    if high > low:
        out = [rect(x + 8 * i, y, 8, 12, "heat", extra=f' fill="{palette.heat(i / (steps - 1))}"') for i in range(steps)]
        out += [text(x, y + 28, words.short(low, 4), "quiet small"), text(x + 8 * steps, y + 28, words.short(high, 4), "quiet small end"),
                text(x + 8 * steps / 2, y + 28, "logarithmic", "quiet small mid")]
    elif high > 0:
        out = [rect(x, y, 12, 12, "heat", extra=f' fill="{palette.heat(0.5)}"'), text(x + 18, y + 10.5, f"all {words.short(high, 6)}", "quiet small")]
    side = x + 8 * steps + 16
    if empty:
        out += [rect(side, y, 12, 12, "panel s-line"), text(side + 17, y + 10.5, zero, "quiet small")]
        side += 60
    if lost:
        out += [rect(side, y, 12, 12, "panel s-line"), line(side, y, side + 12, y + 12, "s-quiet"), text(side + 17, y + 10.5, "no number", "quiet small")]
    return out, 34.0


def counts(document: dict[str, Any], x: float, y: float, width: float) -> Figure:
    """How often each code occurs, in the order of the number line; or values by power of two."""
    bars, title = (_code_bars(document), "Codes along the number line") if document["codes"] else (_power_bars(document), "Values by power of two")
    out = [text(x, y + 12, title, "ink bold")]
    if not bars or not any(count for _, count, _, _ in bars):
        return group([*out, text(x, y + 40, "nothing to count", "quiet")]), 50.0
    most, floor, tall = max(count for _, count, _, _ in bars), y + 196.0, 150.0
    left = x + 16 + 6.5 * len(f"{most:,}")
    each = min(40.0, (x + width - left - 16) / len(bars))
    gap = 0.4 if each < 6 else 1.0
    for share in (0.5, 1.0):
        out += [line(left, floor - tall * share, left + each * len(bars), floor - tall * share), text(left - 6, floor - tall * share + 4, f"{round(most * share):,}", "quiet small end")]
    for place, (label, count, kind, _) in enumerate(bars):
        if count:
            height = max(1.0, tall * count / most)
            out.append(rect(left + place * each, floor - height, each - gap, height, kind, title=f"{label}: {count:,}"))
        elif document["codes"]:
            out.append(rect(left + place * each, floor + 2, each - gap, 2.5, "line", title=f"{label}: never"))
    out.append(line(left, floor, left + each * len(bars), floor, "s-quiet"))
    out += _ticks(bars, left, floor, each)
    key, height = _key(document, left, floor + 40)
    return group([*out, *key], label=title), floor + 40 + height - y


def _code_bars(document: dict[str, Any]) -> list[tuple[str, int, str, str]]:
    """(what it is, count, class, tick) of every code that has a number, lowest value first."""
    told, form = document["codes"], document["format"]
    values, digits = told["values"], max(1, sum(form["fields"]) // 4)
    half, every = len(values) // 2, max(1, len(values) // 16)
    order = sorted((c for c in range(len(values)) if values[c] is not None), key=lambda c: (values[c], c < half))
    out = []
    for code in order:
        value = values[code]
        ticked = abs(value) == form["max"] or (not _magnitude(code, half, form) % every and not (code == half and value == 0))
        out.append((f"0x{code:0{digits}X} = {value:.9g}", told["counts"][code], _kind(value, code, form), f"{value:.3g}" if ticked else ""))
    return out


def _magnitude(code: int, half: int, form: dict[str, Any]) -> int:
    return code % half if len(form["fields"]) == 3 else code


def _kind(value: float, code: int, form: dict[str, Any]) -> str:
    if abs(value) == form["max"]:
        return "error"
    if form["name"] == "e4m3fn" and abs(value) > 240:
        return "warning"
    if len(form["fields"]) == 3 and not (code >> form["fields"][2]) & ((1 << form["fields"][1]) - 1):
        return "note"
    return "quiet"


def _power_bars(document: dict[str, Any]) -> list[tuple[str, int, str, str]]:
    return [(f"from 2^{r['power']} up", r["count"], "quiet", f"2^{r['power']}") for r in document["exponents"]["powers"]]


def _ticks(bars: Sequence[tuple[str, int, str, str]], left: float, floor: float, each: float) -> list[str]:
    """Values below the bars, as many as leave each other legible; both ends come first."""
    out: list[str] = []
    taken: list[float] = []
    places = [p for p, bar in enumerate(bars) if bar[3]]
    for place in [*places[:1], *places[-1:], *places[1:-1]]:
        x = left + (place + 0.5) * each
        if all(abs(x - other) >= 40 for other in taken):
            taken.append(x)
            out += [line(x, floor, x, floor + 6, "s-quiet"), text(x, floor + 19, bars[place][3], "quiet small mid")]
    return out


def _key(document: dict[str, Any], x: float, y: float) -> Figure | tuple[list[str], float]:
    """What the colours of the histogram mean, for those that can occur."""
    if not document["codes"]:
        return [], 0.0
    form, told = document["format"], document["codes"]
    kinds = [("quiet", "normal"), ("note", "zero and subnormal")] if len(form["fields"]) == 3 else [("quiet", "codes")]
    kinds += [("warning", "above 240: infinity or NaN for Neuron")] if form["name"] == "e4m3fn" else []
    kinds += [("error", f"largest magnitude, {form['max']:g}"), ("line", "never occurs")]
    out: list[str] = []
    for kind, word in kinds:
        out += [rect(x, y, 11, 11, kind), text(x + 16, y + 10, word, "quiet small")]
        x += 40 + 6.2 * len(word)
    lost = [f"{told[key]:,} {word}" for key, word in (("nan", "NaN"), ("infinite", "infinite")) if told[key]]
    if lost:
        out.append(text(x, y + 10, f"beside the line: {', '.join(lost)}", "ink small"))
    return out, 18.0


def weights(document: dict[str, Any], x: float, y: float) -> Figure:
    """Eight weights of the worked block: bits in coloured cells, value, weight, and the other convention."""
    block = document["block"]
    out = [text(x, y + 12, "One block by hand", "ink bold")]
    if not block or not block["weights"]:
        return group([*out, text(x, y + 40, "there is no block to work", "quiet")]), 50.0
    lines = [part for told in words.block_words(document) for part in _fold(told, 92)]
    out += [text(x, y + 34 + 16 * place, told, "quiet small") for place, told in enumerate(lines)]
    top = y + 34 + 16 * len(lines) + 22
    width = sum(document["format"]["fields"])
    bit = BIT if width <= 16 else max(5.0, 240 / width)
    columns = _columns(document, x, bit * width + 12)
    out += [text(place, top - 8, head, f"quiet small {side}") for place, head, side, _ in columns]
    out.append(line(x, top - 2, max(c[0] for c in columns), top - 2))
    for place, weight in enumerate(block["weights"]):
        own, row = weight["stored"], top + 6 + 26 * place
        out.append(text(x, row + 14, own["code"], "ink mono"))
        out.append(bits(own["bits"], x + 50 + 24 * (width > 8), row, bit))
        out += [text(at, row + 14, told(weight), f"ink mono {side}") for at, _, side, told in columns[2:]]
    bottom = top + 6 + 26 * len(block["weights"])
    out += [rect(x + 84 * place, bottom + 8, 11, 11, f"e-{kind}") + text(x + 84 * place + 16, bottom + 18, word, "quiet small")
            for place, (kind, word) in enumerate(zip(PARTS, ("sign", "exponent", "mantissa"), strict=True)) if len(document["format"]["fields"]) == 3]
    return group(out, label="One block by hand"), bottom + 24 - y


def _columns(document: dict[str, Any], x: float, bits_wide: float) -> list[tuple[float, str, str, Any]]:
    """(x, heading, alignment, text of a weight) of the columns. The first two are the code and its bits."""
    first = document["block"]["weights"][0]
    start = x + 50 + 24 * (sum(document["format"]["fields"]) > 8)
    out: list[tuple[float, str, str, Any]] = [(x, "code", "", None), (start, "bits", "", None)]
    right = start + bits_wide

    def add(head: str, wide: float, told: Any) -> None:
        nonlocal right
        right += wide
        out.append((right, head, "end", told))

    add("value", 84, lambda w: words.short(w["stored"]["value"]))
    if document["codes"] is None:
        add("FP8 code", 84, lambda w: w["block-448"]["code"])
        add("its weight", 92, lambda w: words.short(w["block-448"]["weight"], 5))
        return out
    if first["stored"]["zero"] is not None:
        add("- zero", 62, lambda w: words.short(w["stored"]["less_zero"]))
    if first["stored"]["weight"] is not None:
        add("x scale = weight", 108, lambda w: words.short(w["stored"]["weight"]))
    if "other" in first:
        name = "halved" if "legacy" in first else "doubled"
        add(name, 62, lambda w: w["other"]["code"])
        if first["other"]["weight"] is not None:
            add("x 2 scale" if "legacy" in first else "x scale/2", 96, lambda w: words.short(w["other"]["weight"], 5))
            add("off by", 68, lambda w: words.off(w["difference"]))
    if first.get("place"):
        add("bits of the byte or word", 24 + max(140, 7.3 * max(len(_place(w)) for w in document["block"]["weights"])), _place)
    return out


def _place(weight: dict[str, Any]) -> str:
    """`12-15 [4, 3]`: bits, and the stored element that they lie in."""
    spans = ((p["bits"][0], p["bits"][1], p["index"]) for p in weight["place"])
    return ", ".join(f"{low}{f'-{high}' if high > low else ''} [{', '.join(map(str, index))}]" for low, high, index in spans)


def bits(parts: Sequence[str], x: float, y: float, bit: float = BIT) -> str:
    """One cell for each bit, coloured by sign, exponent and mantissa."""
    out, place = [], 0
    kinds = PARTS if len(parts) == 3 else ("fp8",) * len(parts)
    for kind, part in zip(kinds, parts, strict=True):
        for letter in part:
            out.append(rect(x + place * bit, y, bit - 1, 19, f"e-{kind}"))
            if bit >= 9:
                out.append(text(x + place * bit + (bit - 1) / 2, y + 14, letter, f"t-{kind} mono mid"))
            place += 1
    return "".join(out)


def _fold(told: str, most: int) -> list[str]:
    from textwrap import wrap

    return wrap(told, most) or [""]


__all__ = ["bits", "counts", "heat_map", "subtitle", "svg", "weights"]
