"""The panel above an architecture: parameters and bytes by part, what one token uses, what it keeps, and what one rank holds."""

from __future__ import annotations

from typing import Any

from weighbridge.report import svg
from weighbridge.report.draw.pieces import leaves, parameters
from weighbridge.report.draw.words import line, width, wrapped
from weighbridge.report.units import size

ROW, GAP, PAD = 21.0, 16.0, 14.0


def panel(document: dict[str, Any], x: float, y: float, wide: float) -> tuple[list[str], float]:
    """The elements, and where they end."""
    left = round(wide * 0.54)
    parts, low = _parts(document, x, y, left)
    facts, end = _facts(document, x + left + GAP, y, wide - left - GAP)
    bottom = max(low, end)
    out = [svg.rect(x, y, left, bottom - y, "panel", round=10), svg.rect(x + left + GAP, y, wide - left - GAP, bottom - y, "panel", round=10), *parts, *facts]
    if document.get("rank"):
        held, bottom = _rank(document["rank"], x, bottom + GAP, wide)
        out += held
    wrong = [f"{path}: {leaf['problem']}" for leaf, path in leaves(document) if leaf.get("problem")]
    if wrong:
        held, bottom = _problems(wrong, x, bottom + GAP, wide)
        out += held
    return out, bottom


def _problems(wrong: list[str], x: float, y: float, wide: float, most: int = 6) -> tuple[list[str], float]:
    """What does not fit together in the files."""
    start, out = y, [svg.text(x + PAD, y + 24, "Does not fit together", "bold error")]
    y += 32
    for told in wrong[:most]:
        lines = wrapped(told, wide - 2 * PAD, "small", most=3)
        out += [svg.text(x + PAD, y + 12 + 16 * place, one, "small ink") for place, one in enumerate(lines)]
        y += 16 * len(lines) + 4
    if len(wrong) > most:
        out.append(svg.text(x + PAD, y + 12, f"and {len(wrong) - most:,} more, marked below", "small quiet"))
        y += 18
    return [svg.rect(x, start, wide, y + 8 - start, "panel s-error", round=10), *out], y + 8


def _parts(document: dict[str, Any], x: float, y: float, wide: float) -> tuple[list[str], float]:
    """A row for each part: its bytes as a bar, and within it what one token reads."""
    active = document.get("active") or {"parts": []}
    most = max([part["bytes"] for part in active["parts"]], default=1) or 1
    name, numbers = 130.0, 208.0
    room = wide - 2 * PAD - name - numbers
    at = x + PAD + name
    out = [svg.text(x + PAD, y + 24, "Parts", "bold ink"), svg.text(x + wide - PAD - 100, y + 24, "parameters", "small end quiet"),
           svg.text(x + wide - PAD, y + 24, "bytes", "small end quiet"), svg.rect(at, y + 15, 10, 10, "accent", round=2),
           svg.text(at + 15, y + 24, "one token uses", "small quiet"), svg.rect(at + 116, y + 15, 10, 10, "line", round=2),
           svg.text(at + 131, y + 24, "all", "small quiet")]
    y += 36
    for part in active["parts"]:
        bar = room * part["bytes"] / most
        used = bar * (part["active"] / part["parameters"] if part["parameters"] else 0)
        title = f"{part['name']}: {part['parameters']:,} parameters, {part['active']:,} of them for one token, {size(part['bytes'])}"
        out += [line(x + PAD, y + 12, part["name"], name - 8, "small ink"), svg.rect(at, y + 3, max(1.5, bar), 11, "line", round=2, title=title),
                svg.rect(at, y + 3, max(1.0, used) if part["active"] else 0, 11, "accent", round=2, extra=' pointer-events="none"'),
                svg.text(x + wide - PAD - 100, y + 12, parameters(part["parameters"]), "small end ink"),
                svg.text(x + wide - PAD, y + 12, size(part["bytes"]), "small end ink")]
        y += ROW
    out += [svg.line(x + PAD, y + 1, x + wide - PAD, y + 1), svg.text(x + PAD, y + 17, "all", "small bold ink"),
            svg.text(x + wide - PAD - 100, y + 17, parameters(document["parameters"]), "small bold end ink"),
            svg.text(x + wide - PAD, y + 17, size(document["bytes"]), "small bold end ink")]
    return out, y + 30


def _facts(document: dict[str, Any], x: float, y: float, wide: float) -> tuple[list[str], float]:
    """What one token reads and what it keeps, and the sizes."""
    out, active, cache = [svg.text(x + PAD, y + 24, "One token", "bold ink")], document.get("active"), document.get("cache")
    y += 36
    room = wide - 2 * PAD
    if active:
        share = min(1.0, active["share"])
        told = f"uses {parameters(active['parameters'])} of {parameters(document['parameters'])} parameters ({100 * active['share']:.3g} %), {size(active['bytes'])}"
        out += [line(x + PAD, y + 12, told, room, "small ink"), svg.rect(x + PAD, y + 19, room, 8, "line", round=3),
                svg.rect(x + PAD, y + 19, max(2.0, room * share), 8, "accent", round=3)]
        y += 34
        if active.get("says"):
            for told in wrapped(active["says"], room, "small", most=2):
                out.append(svg.text(x + PAD, y + 12, told, "small quiet"))
                y += 16
            y += ROW - 16
    if cache:
        out.append(line(x + PAD, y + 12, f"keeps {cache['bytes_per_token']:,} bytes of keys and values ({cache['dtype']})", room, "small ink"))
        y += ROW
        if cache.get("context") and cache.get("bytes_at_context"):
            out.append(line(x + PAD, y + 12, f"{size(cache['bytes_at_context'])} at {cache['context']:,} tokens", room, "small quiet"))
            y += ROW
        for window, layers in cache.get("windowed") or ():
            out.append(line(x + PAD, y + 12, f"{layers:,} layers keep {window:,} tokens at most", room, "small quiet"))
            y += ROW
    return _sizes(document, out, x, y + 4, room)


def _sizes(document: dict[str, Any], out: list[str], x: float, y: float, room: float) -> tuple[list[str], float]:
    sizes = document.get("sizes") or {}
    words = [f"{sizes[key]:,} {word}" if after else f"{word} {sizes[key]:,}" for key, word, after in (
        ("layers", "layers", True), ("hidden", "hidden", False), ("vocab", "vocabulary", False), ("context", "context", False), ("inter", "inter", False),
        ("moe_inter", "expert inter", False)) if sizes.get(key) and (key != "moe_inter" or sizes[key] != sizes.get("inter"))]
    decoder = document.get("decoder")
    if decoder and decoder.get("tied"):
        words.append("head tied to the embedding")
    if not words:
        return out, y + 8
    out.append(svg.line(x + PAD, y, x + PAD + room, y))
    y += 4
    for told in wrapped(", ".join(words), room, "small", most=3):
        out.append(svg.text(x + PAD, y + 14, told, "small quiet"))
        y += 16
    return out, y + 14


def _rank(rank: dict[str, Any], x: float, y: float, wide: float) -> tuple[list[str], float]:
    """One rank: its bytes as one bar in three shares, its faults in red."""
    start = y
    degrees = " · ".join(f"{word} {rank[key]}" for key, word in (("tp", "TP"), ("moe_tp", "MoE TP"), ("moe_ep", "MoE EP"), ("ep", "EP")) if rank.get(key))
    out = [line(x + PAD, y + 24, f"One rank of {rank['runtime']}: {size(rank['weights'])} of weights", wide * 0.55, "bold ink"),
           line(x + wide - PAD, y + 24, degrees, wide * 0.4, "small end ink")]
    inner, at, total = wide - 2 * PAD, x + PAD, max(1, rank["weights"])
    for key, look in (("attention", "accent"), ("experts", "good"), ("rest", "quiet")):
        long = inner * rank[key] / total
        out.append(svg.rect(at, y + 34, max(0.5, long - 1), 12, look, title=f"{key}: {size(rank[key])}"))
        at += long
    y += 50
    at = x + PAD
    for key, look in (("attention", "accent"), ("experts", "good"), ("rest", "quiet")):
        words = f"{key} {size(rank[key])}"
        out += [svg.rect(at, y + 4, 10, 10, look, round=2), svg.text(at + 15, y + 13, words, "small ink")]
        at += 15 + width(words, "small") + 22
    out.append(line(at, y + 13, f"keys and values of one token: {rank['cache_bytes_per_token']:,} bytes", x + wide - PAD - at, "small ink"))
    y += 20
    for told in wrapped(rank.get("note") or "", inner, "small", most=2):
        out.append(svg.text(x + PAD, y + 12, told, "small quiet"))
        y += 16
    for fault in rank["faults"]:
        lines = wrapped(f"does not run: {fault}", inner - 16, "small", most=4)
        out.append(svg.rect(x + PAD, y + 6, 4, 16 * len(lines), "error", round=2))
        out += [svg.text(x + PAD + 14, y + 18 + 16 * place, told, "small error") for place, told in enumerate(lines)]
        y += 16 * len(lines) + 8
    edge = "s-error" if rank["faults"] else "s-line"
    return [svg.rect(x, start, wide, y + 12 - start, f"panel {edge}", round=10), *out], y + 12
